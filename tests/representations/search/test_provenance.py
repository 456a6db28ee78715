"""Originals among originals: found where nothing changed, by chance where features say nothing."""

import numpy as np
import pytest

from vidgen.data.writing import write_video
from vidgen.errors import VidgenError
from vidgen.representations.search.provenance import retrieve_originals, row_of
from vidgen.representations.search.retrieval import similarities


@pytest.fixture
def clips(tmp_path, waves):
    """Six clips of 9 frames of waves of different colours, and one that is too short."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(6):
        write_video(np.roll(waves(9, 32, 32), 40 * i, axis=2) // (1 + i % 3), folder / f"{i}.mkv", fps=8)
    write_video(waves(2, 32, 32), folder / "short.mkv", fps=8)
    return folder


def test_what_is_unchanged_is_found(pipeline, clips):
    layers, edits = ["tokenizer.latents", "dit.blocks.0"], ["unchanged", "speed", "mirrored"]
    clips_seen = []
    report = retrieve_originals(
        pipeline, clips, edits=edits, layers=layers, num_frames=5, size=32, on_clip=clips_seen.append
    )
    assert report["clips"] == 6 and report["held"] == 0
    assert "2 frames, 5 needed" in report["dropped"][0]["reason"]
    rows = {(row["layer"], row["edit"]): row for row in report["rows"]}
    names = {
        "tokenizer.latents",
        "dit.blocks.0",
        "random.tokenizer.latents",
        "random.dit.blocks.0",
        "raw_pixels",
        "chance",
    }
    assert set(rows) == {(layer, edit) for layer in names for edit in edits}
    for layer in ("tokenizer.latents", "raw_pixels"):
        assert rows[layer, "unchanged"]["test"] == rows[layer, "unchanged"]["median_rank"] == 1
    assert rows["chance", "speed"]["test"] == pytest.approx(1 / 6)
    assert rows["chance", "speed"]["median_rank"] == 3.5
    assert [row["baseline"] for row in report["rows"][:: len(edits)]] == [False, False, True, True, True, True]
    first = clips_seen[0].windows
    assert set(first) == {"original", *edits}
    assert all(frames.shape == (5, 32, 32, 3) for frames in first.values())
    assert np.array_equal(first["unchanged"], first["original"])
    assert np.array_equal(first["speed"][:3], first["original"][::2])


def test_a_clip_that_is_too_short_to_be_sped_up_holds_its_last_frame(pipeline, clips):
    clips_seen = []
    report = retrieve_originals(
        pipeline, clips, edits=["speed"], num_frames=8, size=32, limit=3, on_clip=clips_seen.append
    )
    assert report["held"] == 3 and report["clips"] == 3
    speed = clips_seen[0].windows["speed"]
    assert np.array_equal(speed[4], speed[7]) and not np.array_equal(speed[3], speed[4])


def test_ranks_are_those_of_brute_force_ties_included():
    from scipy.stats import rankdata

    rng = np.random.default_rng(0)
    originals = rng.integers(0, 3, (12, 3)).astype(np.float32)  # many equal rows
    edited = originals + rng.integers(0, 2, (12, 3)).astype(np.float32)
    row = row_of("tokenizer.latents", "crop", "mean", originals, edited)
    scores = np.stack(list(similarities(np.concatenate([originals, edited]), np.arange(12, 24), np.arange(12))))
    ranks = [rankdata(-one, "average")[i] for i, one in enumerate(scores)]
    assert row["median_rank"] == np.median(ranks)
    first = [(one[i] == one.max()) / (one == one.max()).sum() for i, one in enumerate(scores)]
    assert (
        row["test"] == row["recall"]["1"] == pytest.approx(np.mean(first)) and row["ci"][0] < row["test"] < row["ci"][1]
    )


def test_bad_input_is_named(pipeline, clips):
    for words, line in (
        ({"edits": ["upside-down"]}, "edit 'upside-down' is unknown; choose some of unchanged"),
        ({"limit": 1}, "1 clips can be used, and looking for one needs two or more"),
        ({"layers": ["dit.blocks.9"]}, "layer 'dit.blocks.9' is not there"),
        ({"num_frames": 30}, "0 clips can be used.*0.mkv: .*9 frames, 30 needed"),
    ):
        with pytest.raises(VidgenError, match=line):
            retrieve_originals(pipeline, clips, **({"num_frames": 5, "size": 32, "edits": ["logo"]} | words))
