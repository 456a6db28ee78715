"""A folder of clips becomes a bank, a bank a table; baselines are what they are called."""

import csv
import signal
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch

from vidgen.data.frames import to_tensor
from vidgen.data.reading import read_video
from vidgen.data.writing import write_video
from vidgen.errors import VidgenError
from vidgen.files.atomic import SCRATCH
from vidgen.representations.bank import FeatureBank
from vidgen.representations.baselines import frame_differences, random_like, raw_pixels, shuffle_frames, single_frame
from vidgen.representations.extract import extract_source
from vidgen.representations.extractor import FeatureExtractor
from vidgen.representations.probes.sweep import best_rows, sweep_source

TAPS = ["tokenizer.latents", "dit.blocks.2"]


@pytest.fixture(scope="module")
def actions(tmp_path_factory):
    """Twelve clips of a square that moves right or stays, from three subjects, two of them for training."""
    folder = tmp_path_factory.mktemp("actions")
    rows = []
    for i in range(12):
        label, subject = ("still", "right")[i % 2], i // 4
        frames = np.full((5, 32, 32, 3), 20 + 3 * i, np.uint8)
        for t, frame in enumerate(frames):
            left = 2 + i + (4 * t if label == "right" else 0)
            frame[8 + subject : 18 + subject, left : left + 8] = 220
        write_video(frames, folder / f"{i:02d}.mp4", fps=8)
        rows.append(
            {"path": f"{i:02d}.mp4", "label": label, "split": "val" if subject == 2 else "train", "subject": subject}
        )
    (folder / "broken.mp4").write_text("this is not a video")
    with (folder / "list.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "split", "subject"])
        writer.writeheader()
        writer.writerows([*rows, rows[0] | {"path": "broken.mp4"}])
    return folder / "list.csv"


def test_a_source_becomes_a_bank(pipeline, actions, tmp_path):
    calls = []
    report = extract_source(
        pipeline, actions, tmp_path / "bank", layers=TAPS, noise_levels=[0.0, 0.2], batch_size=5,
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert (report["rows"], report["added"]) == (12, 12)
    assert [(drop["path"][-10:], "plain text" in drop["reason"]) for drop in report["dropped"]] == [
        ("broken.mp4", True)
    ]
    assert calls == [(5, 12), (10, 12), (12, 12)]
    bank = FeatureBank.load(tmp_path / "bank")
    assert bank.keys == report["keys"] == ["tokenizer.latents", "dit.blocks.2@t=0.00", "dit.blocks.2@t=0.20"]
    assert bank.ids == [f"{i:02d}.mp4" for i in range(12)] and bank.split("val").tolist() == [8, 9, 10, 11]
    assert bank.rows[5].label == "right" and bank.rows[5].group == "1"
    assert bank.rows[0].times == pytest.approx([0, 0.125, 0.25, 0.375, 0.5])
    assert bank.meta["preprocessing"]["size"] == [32, 32] and bank.meta["preprocessing"]["fps"] == 8.0
    assert len(bank.meta["model_hash"]) == len(bank.meta["preprocessing_hash"]) == 64


def test_an_extraction_in_parts_is_the_whole(pipeline, actions, tmp_path):
    extract_source(pipeline, actions, tmp_path / "whole", layers=TAPS, batch_size=4)
    first = extract_source(pipeline, actions, tmp_path / "bank", layers=TAPS, batch_size=4, limit=4)
    second = extract_source(pipeline, actions, tmp_path / "bank", layers=TAPS, batch_size=4)
    third = extract_source(pipeline, actions, tmp_path / "bank", layers=TAPS, batch_size=4)
    assert [run["added"] for run in (first, second, third)] == [4, 8, 0] and third["rows"] == 12
    whole, bank = FeatureBank.load(tmp_path / "whole"), FeatureBank.load(tmp_path / "bank")
    assert whole.rows == bank.rows
    for key in whole.keys:
        np.testing.assert_array_equal(whole.X(key), bank.X(key))
    with pytest.raises(VidgenError, match="its pool is mean, not max"):
        extract_source(pipeline, actions, tmp_path / "bank", layers=TAPS, pool="max")


def test_bad_settings_leave_nothing_behind(pipeline, actions, tmp_path):
    for change in ({"layers": ["dit.blocks.77"]}, {"size": (40, 32)}):
        with pytest.raises(VidgenError):
            extract_source(pipeline, actions, tmp_path / "bank", **({"layers": TAPS} | change))
    assert not (tmp_path / "bank").exists()


@pytest.mark.slow
def test_the_table_has_a_row_a_family(pipeline, actions):
    table = sweep_source(pipeline, actions, noise_levels=[0.0, 0.2], pools=["mean", "temporal"], flat=None)
    names = [row["tap"].split(".blocks.")[0] for row in table["rows"]]
    assert names == [
        *(prefix + name for prefix in ("", "random.", "shuffled.", "single.") for name in ("tokenizer.latents", "dit")),
        *("raw_pixels", "frame_differences", "single_frame", "majority"),
    ]
    assert len(table["sweep"]) == 2 * 4 * (1 + 4 * 2) + 4 and not table["skipped"]
    scores = {row["tap"]: row for row in table["rows"]}
    assert scores["frame_differences"]["test"] == 1.0 and scores["majority"]["test"] == 0.5
    assert table["rows"] == best_rows(table["sweep"]) and len(table["dropped"]) == 1
    for row in table["sweep"]:
        assert ("temporal_gain" in row) == row["tap"].startswith(("tokenizer.", "dit."))
        if row["tap"].startswith("dit."):
            assert row["validation"] <= next(r for r in table["rows"] if r["tap"].startswith("dit."))["validation"]


def test_random_weights_are_another_draw_with_open_gates(pipeline, video):
    before = {name: x.clone() for name, x in pipeline.transformer.state_dict().items()}
    one, same, other = random_like(pipeline, 1), random_like(pipeline, 1), random_like(pipeline, 2)
    assert all(torch.equal(x, before[name]) for name, x in pipeline.transformer.state_dict().items())
    weights = [list(model.transformer.state_dict().values()) for model in (one, same, other)]
    assert all(map(torch.equal, weights[0], weights[1])) and not all(map(torch.equal, weights[0], weights[2]))
    assert all(weight.any() for weight in one.transformer.parameters() if weight.ndim > 1)
    blocks = FeatureExtractor(one, [f"dit.blocks.{i}" for i in range(4)], [0.1], pool="none")(video).features.values()
    first, *_, last = blocks
    assert not torch.allclose(first, last, rtol=0.1, atol=0.1)
    assert torch.equal(random_like(pipeline.vae, 1).encode(video).latents, one.vae.encode(video).latents)


def test_pixel_baselines_on_known_clips():
    video = torch.zeros(1, 3, 5, 32, 48)
    video[:, :, 1::2] = 1.0  # all pixels change by one, four times
    assert torch.equal(frame_differences(video), torch.ones(1, 16, 16))
    assert torch.equal(frame_differences(video[:, :, :1]), torch.zeros(1, 16, 16))
    assert raw_pixels(video).shape == (1, 5, 16, 16, 3) and raw_pixels(video)[0, :, 0, 0, 0].tolist() == [0, 1, 0, 1, 0]
    assert torch.equal(single_frame(video), torch.zeros(1, 16, 16, 3))
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 2, 32, 32)
    torch.testing.assert_close(raw_pixels(ramp)[0, 0, 0, :, 0], ramp[0, 0, 0, 0].reshape(16, 2).mean(1))


def test_shuffled_frames_are_the_same_frames_whatever_the_batch(video):
    shuffled = shuffle_frames(video, ["a", "b", "c"], seed=1)
    for clip, other in zip(video, shuffled, strict=True):
        assert not torch.equal(clip, other)
        assert sorted(clip.sum((0, 2, 3)).tolist()) == sorted(other.sum((0, 2, 3)).tolist())
    assert torch.equal(shuffle_frames(video[1:2], ["b"], seed=1)[0], shuffled[1])
    assert not torch.equal(shuffle_frames(video, ["a", "b", "c"], seed=2), shuffled)


def test_noise_and_ensembles_are_part_of_what_a_bank_is(pipeline, actions, tmp_path):
    plain = extract_source(pipeline, actions, tmp_path / "plain", layers=TAPS, limit=2)
    extract_source(pipeline, actions, tmp_path / "mean", layers=TAPS, limit=2, ensemble=2, noise="predicted")
    banks = [FeatureBank.load(tmp_path / name) for name in ("plain", "mean")]
    assert "noise" not in banks[0].meta  # so that banks of one draw, which never said so, can be continued
    assert (banks[1].meta["noise"], banks[1].meta["ensemble"]) == ("predicted", 2) and plain["rows"] == 2
    with pytest.raises(VidgenError, match="its ensemble is 2, not None"):
        extract_source(pipeline, actions, tmp_path / "mean", layers=TAPS, limit=4, noise="predicted")


def test_parts_hold_every_clip_once(pipeline, actions, tmp_path):
    for i in (1, 2, 3):
        extract_source(pipeline.vae, actions, tmp_path / str(i), part=(i, 3), size=32, num_frames=5, fps=8)
    ids = [FeatureBank.load(tmp_path / str(i)).ids for i in (1, 2, 3)]
    assert [len(part) for part in ids] == [4, 4, 4] and len({name for part in ids for name in part}) == 12
    with pytest.raises(VidgenError, match="part 4 of 3"):
        extract_source(pipeline.vae, actions, tmp_path / "4", part=(4, 3))


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two clips, of 23 and of 3 frames, and one that is none; lossless."""
    folder = tmp_path_factory.mktemp("film")
    rng = np.random.default_rng(0)
    for name, count in (("a", 23), ("b", 3), ("d", 9)):
        write_video(rng.integers(0, 256, (count, 32, 32, 3), np.uint8), folder / f"{name}.mkv", fps=8)
    (folder / "c.mkv").write_text("this is not a video")
    return folder


SLIDING = {"num_frames": 5, "size": 32, "windows": "sliding", "stride": 4, "batch_size": 2, "shard_rows": 2}


def test_sliding_windows_are_rows_with_their_own_times(pipeline, film, tmp_path):
    report = extract_source(pipeline.vae, film, tmp_path / "bank", pool="none", **SLIDING)
    bank = FeatureBank.load(tmp_path / "bank")
    firsts = [0, 4, 8, 12, 16, 18]
    assert bank.ids == [*(f"a.mkv@{first}" for first in firsts), "d.mkv@0", "d.mkv@4"]
    assert bank.groups.tolist() == ["a.mkv"] * 6 + ["d.mkv"] * 2 and bank.meta["preprocessing"]["stride"] == 4
    assert [row.times[0] for row in bank.rows[:6]] == pytest.approx([first / 8 for first in firsts])
    reasons = {drop["path"][-5:]: drop["reason"] for drop in report["dropped"]}
    assert reasons["b.mkv"] == "3 frames, 5 needed" and "plain text" in reasons["c.mkv"]
    clip = to_tensor(read_video(film / "a.mkv").frames)[None]
    latents = FeatureExtractor(pipeline.vae, pool="none")(clip[:, :, 12:17]).features["tokenizer.latents"]
    np.testing.assert_allclose(bank.tokens("tokenizer.latents")[3], latents[0].numpy(), rtol=1e-4, atol=1e-5)


def test_sliding_goes_on_where_it_stopped(pipeline, film, tmp_path):
    extract_source(pipeline.vae, film, tmp_path / "whole", **SLIDING)

    def stop(done, total):
        if len(FeatureBank.load(tmp_path / "bank", empty=True)) >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_source(pipeline.vae, film, tmp_path / "bank", **SLIDING, progress=stop)
    assert len(FeatureBank.load(tmp_path / "bank")) == 4  # in the middle of the first clip
    report = extract_source(pipeline.vae, film, tmp_path / "bank", **SLIDING)
    whole, bank = FeatureBank.load(tmp_path / "whole"), FeatureBank.load(tmp_path / "bank")
    assert report["added"] == 4 and bank.rows == whole.rows
    np.testing.assert_array_equal(bank.X("tokenizer.latents"), whole.X("tokenizer.latents"))
    assert extract_source(pipeline.vae, film, tmp_path / "bank", **SLIDING)["added"] == 0
    with pytest.raises(VidgenError, match="a stride of 3 is for sliding windows, not 'head'"):
        extract_source(pipeline.vae, film, tmp_path / "other", stride=3)


def test_a_tar_gives_the_bank_of_the_folder(pipeline, film, tmp_path):
    with tarfile.open(tmp_path / "film.tar", "w") as tar:
        for path in sorted(film.iterdir()):
            tar.add(path, path.name)
    setting = {"num_frames": 5, "size": 32}
    reports = [
        extract_source(pipeline.vae, source, tmp_path / name, **setting)
        for source, name in ((film, "folder"), (tmp_path / "film.tar", "tar"))
    ]
    folder, tar = (FeatureBank.load(tmp_path / name) for name in ("folder", "tar"))
    assert folder.rows == tar.rows and folder.ids == ["a.mkv", "d.mkv"]
    np.testing.assert_array_equal(folder.X("tokenizer.latents"), tar.X("tokenizer.latents"))
    lines = [[(drop["path"][-5:], drop["reason"]) for drop in report["dropped"]] for report in reports]
    assert lines[0] == lines[1] and len(lines[0]) == 2


KILLED = """
import os, signal, sys
import vidgen.representations.bank_files as bank_files
from vidgen.representations.extract import extract_source
from vidgen.tokenizers.model import VideoTokenizer

left, save = int(sys.argv[4]), bank_files.save_sealed

def save_or_die(tensors, path):
    global left
    seal = save(tensors, path)  # written, but not yet under its name
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    return seal

bank_files.save_sealed = save_or_die
model = VideoTokenizer.from_pretrained(sys.argv[1])
extract_source(model, sys.argv[2], sys.argv[3], num_frames=5, size=32, fps=8, batch_size=2, shard_rows=4)
"""


@pytest.mark.slow
def test_a_run_that_is_killed_and_continued_is_the_run(pipeline, actions, tmp_path):
    pipeline.vae.save_pretrained(tmp_path / "vae")
    words = [tmp_path / "vae", actions, tmp_path / "bank", 2]
    ran = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], capture_output=True, text=True)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    assert len(FeatureBank.load(tmp_path / "bank")) == 8
    assert [path for path in (tmp_path / "bank").iterdir() if path.name.startswith(SCRATCH)]
    setting = {"num_frames": 5, "size": 32, "fps": 8, "batch_size": 2, "shard_rows": 4}
    reports = [extract_source(pipeline.vae, actions, tmp_path / name, **setting) for name in ("bank", "whole")]
    assert [(report["added"], len(report["dropped"])) for report in reports] == [(4, 1), (12, 1)]
    files = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("bank", "whole")]
    assert files[0] == files[1] and not any(name.startswith(".") for name in files[0])
    for name in files[0]:
        assert (tmp_path / "bank" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
