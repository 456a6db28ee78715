"""`vidgen evaluate text`: a row for each layer, pooling and task; what is not there is one line."""

import json
from pathlib import Path

import torch

from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder


def test_a_row_for_each_layer_pooling_and_task(vidgen, tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = tmp_path / "model" / "text_encoder"
    ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=8)).save_pretrained(folder)
    words = ("evaluate", "text", folder.parent, "--train", 40, "--n", 20)
    report = json.loads(vidgen(*words, "--tasks", "colour,agent", "--poolings", "mean,last", "--json").out)
    keys = [(row["task"], row["layer"], row["pooling"]) for row in report["rows"]]
    assert sorted(keys) == sorted({(t, k, p) for t in ("colour", "agent") for k in "01" for p in ("mean", "last")})
    assert all(0 <= row["accuracy"] <= 1 for row in report["rows"])
    table = vidgen(*words, "--tasks", "agent", "--last-layer").out
    assert "one answer" in table and "another wording is nearer" in table and table.count("mean") == 1
    assert "--tasks 'colours' is unknown; choose some of colour" in vidgen(*words, "--tasks", "colours").error
    assert "--poolings names nothing" in vidgen(*words, "--poolings", ",").error
    assert "encoder has no text encoder" in vidgen("evaluate", "text", "encoder").error
