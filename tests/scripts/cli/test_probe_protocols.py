"""`vidgen probe` of scenes: from few clips, with views, of the model itself, and from one bank to another."""

import json
from functools import partial
from pathlib import Path

import pytest

from vidgen.representations.probes import fine_tuning, semi_supervised

TAPS = "dit.blocks.1"


@pytest.fixture
def scenes(vidgen, model: Path, tmp_path: Path) -> dict[str, Path]:
    """Banks of two sets of clips of one kind, one of them with baselines and views."""
    found = {}
    for name, seed, words in (("one", 0, ("--baselines", "--views")), ("two", 1, ())):
        shapes = ("--scene", "reversal", "--count", 12, "--size", 16, "--num-frames", 5, "--seed", seed)
        assert vidgen("data", "synthesize", "-o", tmp_path / f"clips {name}", *shapes).status == 0
        found[name] = tmp_path / name
        source = tmp_path / f"clips {name}" / "labels.jsonl"
        ran = vidgen("extract", model, source, "-o", found[name], "--layers", TAPS, *words)
        assert ran.status == 0, ran.err
    return found


@pytest.mark.slow
def test_every_way_to_learn_gives_rows_of_one_form(vidgen, model: Path, scenes: dict[str, Path], monkeypatch) -> None:
    monkeypatch.setattr(semi_supervised, "STEPS", 5)
    monkeypatch.setattr(fine_tuning, "Schedule", partial(fine_tuning.Schedule, rates=(1e-3,), epochs=1))
    wanted = {"layer", "noise_level", "pool", "kind", "task", "metric", "validation", "test", "ci", "baseline"}
    words = ("probe", scenes["one"], "--task", "reversed", "--kind", "centroid")

    def rows_of(*more: object) -> list[dict]:
        ran = vidgen(*words, *more, "--json")
        assert ran.status == 0, ran.err
        rows = json.loads(ran.out)["rows"]
        assert all(wanted <= set(row) for row in rows) and rows[-1]["tap"] == "majority"
        return rows

    plain = rows_of()
    layers = [row["layer"] for row in plain]
    assert len(layers) == 4 + 3 + 1 and {"single.dit.blocks.1", "shuffled.dit.blocks.1"} <= set(layers)
    assert plain[0]["test_groups"] == 2 and plain[-1]["test"] == 0.5  # a group holds a clip and its reverse
    shots = rows_of("--shots", "1,2", "--episodes", 2)
    assert [row["shots"] for row in shots] == [1] * 8 + [2] * 8 and shots[0]["ways"] == 2
    semi = rows_of("--labels-per-class", 2)
    assert [row["layer"] for row in semi[:3]] == ["dit.blocks.1", "random.dit.blocks.1", "raw_pixels"]
    assert semi[0]["labelled"] == 4 and semi[0]["others"] == 4 and len(semi) == 2 + 3 + 1
    across = rows_of("--test-bank", scenes["two"])
    assert across[0]["test_clips"] == 12 and len(across) == 2 and across[0]["domains"]["reported"] == str(scenes["two"])
    few = rows_of("--test-bank", scenes["two"], "--shots", "1,2", "--episodes", 2)
    assert [row["shots"] for row in few] == [1, 1, 2, 2] and all(row["domains"] for row in few)
    tuned = rows_of("--fine-tune", model, "--layers", "dit.blocks.1@t=0.10")
    assert [row["kind"] for row in tuned[:3]] == ["fine-tuned", "fine-tuned", "linear"]
    for more, line in (
        (("--shots", 1, "--episodes", 2), "2-way 1-shot, 2 episodes"),
        (("--labels-per-class", 2, "--best", "--layers", "raw_pixels"), "labels alone"),
        (("--test-bank", scenes["two"]), "reported on"),
        (("--test-bank", scenes["two"], "--shots", 1, "--episodes", 2), "2-way 1-shot, 2 episodes"),
    ):
        assert line in " ".join(vidgen(*words, *more).out.split())  # titles wrap
    for more, line in (
        (("--shots", "one"), "--shots 'one' is not a list of numbers"),
        (("--shots", "0"), "--shots '0' is no list of whole numbers above 0"),
        (("--shots", "99"), "need 2 classes with 99 to learn from"),
        (("--shots", "1", "--ways", 3), "3-way 1-shot episodes need 3 classes"),
        (("--ways", 3), "--ways is of few-shot episodes; give --shots too"),
        (("--shots", "1", "--labels-per-class", 1), "--shots and --labels-per-class are different ways to learn"),
        (("--test-bank", scenes["two"], "--labels-per-class", 1), "are different ways to learn"),
        (("--shots", "1", "--kind", "mlp"), "'mlp' does not learn from few shots"),
        (("--labels-per-class", 1, "--target-type", "regression"), "--target-type regression cannot be learned so"),
        (("--fine-tune", model), "--fine-tune is up to one layer; name it"),
        (("--fine-tune", model / "vae", "--layers", "dit.blocks.1"), "holds features of another model"),
        (("--test-bank", scenes["one"]), "clip '00000.mp4' is in both"),
        (("--test-bank", "nowhere"), "nowhere is not a feature bank"),
    ):
        assert line in vidgen(*words, *more).error
    assert "no views of its clips" in vidgen("probe", scenes["two"], "--task", "arrow", "--labels-per-class", 1).error
