"""Evaluation: a made-up tokenizer's known errors come out, and clips that cannot be read are named."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vidgen.data.manifests import find_clips
from vidgen.data.reading import read_video
from vidgen.errors import VidgenError
from vidgen.tokenizers.bottlenecks import BOTTLENECKS
from vidgen.tokenizers.evaluation.protocols import ClipProtocol
from vidgen.tokenizers.evaluation.reconstruction import MEASURES, evaluate


@pytest.fixture
def clips(make_video: Callable, waves: Callable, tmp_path: Path) -> Path:
    """Three clips of 14, 9 and 5 frames, 24x32."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, count in (("a.mp4", 14), ("b.mp4", 9), ("c.mp4", 5)):
        make_video(waves(count, 24, 32) // 2 + 60, name).rename(folder / name)
    return folder


def test_a_tokenizer_without_error(clips: Path, frame_tokenizer) -> None:
    report = evaluate(frame_tokenizer(), find_clips(clips), ClipProtocol())
    assert [row["frames"] for row in report["clips"]] == [14, 9, 5] and report["dropped"] == []
    assert report["mean"]["psnr"] == report["mean"]["temporal_psnr"] == 100
    assert report["mean"]["flicker"] == report["mean"]["seam"] == 0 and report["mean"]["ssim"] == pytest.approx(1)
    assert report["ci"]["psnr"] == [100, 100] and report["usage"] is None
    assert report["left_out"] == {"ms_ssim": {"clips": 3, "reason": "frames of 24x32, 176x176 needed"}}
    assert "lpips" not in report["mean"] and set(MEASURES) <= set(report["clips"][0])


@pytest.mark.parametrize("spoiled", [0, 3])
def test_the_seam_profile_shows_the_spoiled_position(clips: Path, frame_tokenizer, monkeypatch, spoiled: int) -> None:
    monkeypatch.setattr("vidgen.tokenizers.streaming.chunks.CHUNK_PIXELS", 1)
    report = evaluate(frame_tokenizer(spoiled), find_clips(clips), ClipProtocol())
    wanted = [100.0] * 4
    wanted[spoiled] = 20.0  # 10 log10(4 / 0.2^2)
    assert report["seam"]["chunk"] == 4 and report["seam"]["psnr"] == pytest.approx(wanted, abs=0.01)
    assert report["mean"]["seam"] == pytest.approx(80, abs=0.01) and report["mean"]["first_psnr"] == 100


def test_windows_count_as_their_mean(clips: Path, frame_tokenizer) -> None:
    (record,) = [r for r in find_clips(clips) if r.id == "a.mp4"]
    whole = evaluate(frame_tokenizer(1), [record], ClipProtocol())["clips"][0]
    row = evaluate(frame_tokenizer(1), [record], ClipProtocol(num_frames=5, windows="all"))["clips"][0]
    assert (whole["windows"], row["windows"], row["frames"]) == (1, 3, 15)
    assert row["psnr"] == pytest.approx(20 + 10 * 0.69897, abs=0.01)  # one frame in five is spoiled


def test_clips_that_cannot_be_read_are_named_and_not_replaced(clips: Path, frame_tokenizer) -> None:
    (clips / "broken.mp4").write_bytes(b"no video\n" * 50)
    (clips / "empty.mp4").touch()
    said: list[str] = []
    report = evaluate(frame_tokenizer(), find_clips(clips), ClipProtocol(num_frames=6), say=said.append)
    assert [Path(row["path"]).name for row in report["clips"]] == ["a.mp4", "b.mp4"]
    reasons = {Path(drop["path"]).name: drop["reason"] for drop in report["dropped"]}
    assert set(reasons) == {"broken.mp4", "c.mp4", "empty.mp4"} and reasons["c.mp4"] == "5 frames, 6 needed"
    assert len(said) == 3 and all("left out: " in line for line in said)
    with pytest.raises(VidgenError, match="none of 5 clips can be used"):
        evaluate(frame_tokenizer(), find_clips(clips), ClipProtocol(num_frames=60))


def test_the_usage_of_a_discrete_tokenizer(clips: Path, frame_tokenizer) -> None:
    tokenizer = frame_tokenizer()
    tokenizer.bottleneck = BOTTLENECKS["residual"](12, quantizers=2, levels=(2,) * 12)
    (clips / "broken.mp4").write_bytes(b"no video" * 50)
    usage = evaluate(tokenizer, find_clips(clips), ClipProtocol())["usage"]
    assert (usage["codebook_size"], usage["bits"]) == (4096, 12)
    assert usage["tokens"] == 24 * 32 * sum(1 + -(-(count - 1) // 4) for count in (14, 9, 5))
    for share, perplexity, bits in zip(usage["usage"], usage["perplexity"], usage["bits_per_token"], strict=True):
        assert 0 < share <= 1 and 1 <= perplexity <= share * 4096 + 1e-6 and perplexity == pytest.approx(2**bits)


def test_one_clip_has_no_interval(clips: Path, frame_tokenizer) -> None:
    report = evaluate(frame_tokenizer(), find_clips(clips / "a.mp4"), ClipProtocol(num_frames=1))
    assert report["ci"]["psnr"] is None and report["mean"]["psnr"] == 100
    assert "temporal_psnr" not in report["mean"] and report["seam"]["psnr"] == []


def test_what_is_measured_is_what_the_reader_gives(clips: Path, frame_tokenizer) -> None:
    row = evaluate(frame_tokenizer(), find_clips(clips / "a.mp4"), ClipProtocol(size=(16, 20)))["clips"][0]
    clip = read_video(clips / "a.mp4", size=(16, 20))
    assert (row["frames"], row["height"], row["width"], row["fps"]) == (*clip.frames.shape[:3], clip.fps)
