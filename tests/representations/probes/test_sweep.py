"""A grid that says something is walked to its end; a flat one is left early."""

import numpy as np
import torch

from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.probes.sweep import best_rows, coarse_keys, sweep_bank

KEYS = ["tokenizer.latents", *(f"dit.blocks.{i}@t={t}" for t in ("0.00", "0.30", "0.50") for i in range(5))]


def make_bank(folder, good):
    """Sixty clips of two classes; the features of the keys in `good` tell them apart, others are the same noise."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    noise = torch.from_numpy(rng.normal(size=(60, 3)).astype(np.float32))
    shown = noise + 20 * torch.from_numpy(y).float()[:, None] * torch.tensor([1.0, -1.0, 1.0])
    features = {key: shown if key in good else noise for key in KEYS}
    features |= {"random.dit.blocks.3@t=0.30": noise, "raw_pixels": noise}
    rows = [BankRow(id=str(i), label="ab"[k], split="test" if i > 40 else "train") for i, k in enumerate(y)]
    with BankWriter(folder, {"pool": "mean", "keys": list(features)}) as writer:
        writer.add(rows, features)
    return FeatureBank.load(folder)


def test_layers_of_one_network_are_a_family():
    from vidgen.representations.probes.sweep import family

    names = ("dit.blocks.3", "random.dit.blocks.0", "encoder.layers.5", "random.encoder.layers.0", "tokenizer.latents")
    assert [family(name) for name in names] == ["dit", "random.dit", "encoder", "random.encoder", "tokenizer.latents"]


def test_the_coarse_grid_is_its_corners_and_middle():
    ends = {f"dit.blocks.{i}@t={t}" for t in ("0.00", "0.50") for i in (0, 2, 4)}
    assert set(coarse_keys(KEYS)) == {"tokenizer.latents", *ends}
    assert coarse_keys(["tokenizer.latents"]) == ["tokenizer.latents"]
    assert coarse_keys(["dit.blocks.0@t=0.10"]) == ["dit.blocks.0@t=0.10"]


def test_a_flat_grid_is_left_early(tmp_path):
    bank = make_bank(tmp_path / "bank", good=["dit.blocks.3@t=0.30"])
    rows, skipped = sweep_bank(bank, "centroid")
    assert len(rows) == 7 + 2 and len(skipped) == 9 and "dit.blocks.3@t=0.30" in skipped  # with pixels and majority
    rows, skipped = sweep_bank(bank, "centroid", flat=None)
    assert len(rows) == 16 + 3 and not skipped
    best = {row["layer"]: row for row in best_rows(rows)}
    assert best["dit.blocks.3"]["noise_level"] == 0.3 and best["dit.blocks.3"]["test"] == 1.0


def test_a_grid_with_a_difference_is_walked_to_its_end(tmp_path):
    rows, skipped = sweep_bank(make_bank(tmp_path / "bank", good=["dit.blocks.4@t=0.50"]), "centroid")
    names = [(row["layer"], row["noise_level"]) for row in rows]
    assert not skipped and len(set(names)) == len(names) == 19
    assert [f"{layer}@t={level:.2f}" for layer, level in names[1:16]] == KEYS[1:] and names[-1][0] == "majority"
