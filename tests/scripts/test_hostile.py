"""Files meant to break readers: each is reconstructed, or ends in one line, as its row in the list beside them says."""

import csv
import json
from pathlib import Path

import pytest
import torch

from vidgen.pipelines import loading

MOST = 60  # frames of a clip: all of the damaged ones, and enough of the others


def judge(row: dict[str, str], ran, out: Path) -> str | None:
    """What is wrong with how a file ended, or None."""
    wanted = min(int(row["frames"] or 0), MOST)
    if ran.status == 0:
        got = json.loads(ran.out)["clips"][0]["frames"]
        fine = out.is_file() and (got == wanted or (wanted == 0 and "decodes" in row["expect"]))
        return None if fine and ran.err == "" else f"{got} frames, {wanted} wanted"
    if ran.status != 2 or out.exists():
        return f"status {ran.status}, or a file was left"
    if row["path"] not in f"hostile/{Path(ran.error.removeprefix('error: ').split(': ')[0]).name}":
        return f"does not name the file: {ran.error}"
    return None if row["pyav_error"] or "error" in row["expect"] else ran.error


F32 = ("--dtype", "float32")  # chosen, so that nothing remains to be said of it


@pytest.mark.slow
def test_hostile_files_end_as_their_list_says(
    vidgen, shared_data: Path, model: Path, tmp_path: Path, monkeypatch
) -> None:
    tokenizer = loading.load_tokenizer(str(model), dtype=torch.float32)
    monkeypatch.setattr(loading, "load_tokenizer", lambda *_, **__: tokenizer)  # once is enough
    with (shared_data / "hostile.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wrong = {}
    for index, row in enumerate(rows):
        out = tmp_path / f"{index}.mp4"
        words = ("tokenizer", "reconstruct", shared_data / row["path"], "--model", model, "--size", 16, "--json", *F32)
        ran = vidgen(*words, "--num-frames", MOST, "-o", out)
        if problem := judge(row, ran, out):
            wrong[row["path"]] = problem
        if ran.status == 2 and int(row["frames"] or 0):
            allowed = vidgen(*words, "--num-frames", MOST, "--allow-damaged")
            if allowed.status or not json.loads(allowed.out)["clips"][0]["frames"]:
                wrong[row["path"]] = f"allowed: {allowed}"
    assert len(rows) > 40 and not wrong
    assert not [p.name for p in tmp_path.iterdir() if p.suffix != ".mp4" or p.name.startswith(".")]
