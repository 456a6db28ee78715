"""`vidgen bench extract`: ours and its peers do the same work, and every row says what was asked."""

import json
from pathlib import Path

import pytest
import torch

from vidgen.representations.bank import FeatureBank
from vidgen.scripts.benches import bank as bank_bench
from vidgen.scripts.benches import features
from vidgen.scripts.benches.diffusers_autoencoders import ClipSize
from vidgen.scripts.extract import open_model

WORDS = ("--quick", "--no-memory", "--rounds", 1, "--dtype", "float32")


@pytest.mark.slow
def test_the_rows(vidgen, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    sizes = ("--bank-gb", 0.002, "--knn-rows", 500)
    ran = vidgen("bench", "extract", "--model", model, *WORDS, *sizes, "--json", out)
    assert ran.status == 0, ran
    rows = {row["name"]: row for row in json.loads(out.read_text(encoding="utf-8"))["rows"]}
    clips = "2 x 5x32x32"
    latents, last = (rows[f"{layer} {clips}, one bare pass"] for layer in ("tokenizer.latents", "dit.blocks.1"))
    kept = [row for name, row in rows.items() if name.endswith("every layer kept")]
    for row in (latents, last):
        assert row["clips_per_s"] == pytest.approx(2 / row["ours_s"], rel=1e-4) and row["gflops"] > 0
        assert row["overhead"] == pytest.approx(row["ours_s"] / row["peer_s"] - 1, abs=1e-4)
    assert [row["name"].partition(".")[0] for row in kept] == ["tokenizer", "dit"]
    assert all("overhead" not in row and row["max_abs_diff"] < 1e-4 for row in kept)  # the same layer of the same pass
    search = rows["10 nearest of 500 x 64, 100 queries, sklearn"]
    assert search["same_rows"] > 0.99 and search["max_abs_diff"] < 1e-3
    (bank,) = [row for name, row in rows.items() if name.startswith("a bank of")]
    assert bank["bank_gb"] == pytest.approx(0.002, rel=0.1) and bank["gflops"] is None and bank["gb_per_s"] > 0


@pytest.mark.slow
def test_the_table_says_what_a_row_is_about(vidgen, model: Path) -> None:
    ran = vidgen("bench", "extract", "--model", model, *WORDS, "--only", "bank,search", "--peers", "none")
    assert ran.status == 0 and "GB/s" in ran.out and "queries/s" in ran.out and "clips/s" not in ran.out
    assert (
        "--only 'sleep' is unknown; choose of layers, search, bank"
        in vidgen("bench", "extract", "--only", "sleep").error
    )


def test_memory_is_that_of_processes_of_their_own(model: Path) -> None:
    work = features.LayerWork(
        model=str(model), layer="dit.blocks.0", batch=2, clip=ClipSize(frames=5, height=16, width=16), device="cpu",
        dtype="float32",
    )  # fmt: skip
    values = json.loads(json.dumps(features.asdict(work)))
    alone = features.prepare_alone(**values)()
    opened = open_model(str(model), "cpu", "float32")
    assert torch.equal(alone, features.prepare(work, opened)()) and alone.shape == (2, 32)
    hooked = features.prepare(features.replace(work, form="hooks"), opened)
    assert len(features.layers_of(work, opened)) == len(opened.vae.encoder.layers) + 2
    torch.testing.assert_close(hooked(), alone, rtol=1e-4, atol=1e-5)


def test_a_bank_is_read_whole_and_not_at_once(tmp_path: Path) -> None:
    size = bank_bench.write_bank(tmp_path / "bank", 0.05)
    bank = FeatureBank.load(tmp_path / "bank")
    assert size == len(bank) * 8 * 4096 * 4 and bank.num_shards > 1
    truth = sum(float(bank.X(key).sum(dtype="float64")) for key in bank.keys)
    assert bank_bench.prepare_alone(str(tmp_path / "bank"))() == pytest.approx(truth)


@pytest.mark.slow
def test_a_disk_without_room_is_one_line(vidgen, model: Path) -> None:
    words = ("--only", "bank", "--bank-gb", 1e6)
    assert "a bank of 1e+06 GB does not fit" in vidgen("bench", "extract", "--model", model, *WORDS, *words).error
