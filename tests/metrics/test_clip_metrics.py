"""ClipMeter: what is known of made-up errors comes out, however the clip is cut into pieces."""

from dataclasses import asdict

import pytest
import torch

from vidgen.metrics import ClipMetrics, ClipScore, psnr, ssim

CHUNK = 4


def measure(x: torch.Tensor, y: torch.Tensor, *pieces: int, chunk: int = CHUNK) -> ClipScore:
    meter = ClipMetrics(chunk=chunk)
    start = 0
    for count in pieces or (x.shape[1],):
        meter.add(x[:, start : start + count], y[:, start : start + count])
        start += count
    assert start == x.shape[1]
    return meter.score()


@pytest.fixture
def clip() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(3, 14, 16, 16) - 0.5


def test_a_perfect_reconstruction(clip):
    score = measure(clip, clip)
    assert score.frames == 14 and score.psnr == score.temporal_psnr == 100
    assert score.ssim == pytest.approx(1, abs=1e-5) and score.flicker == score.seam == 0
    assert score.position_psnr == [100.0] * CHUNK and score.ms_ssim is score.lpips is None


def test_a_constant_offset_spoils_frames_and_not_their_differences(clip):
    score = measure(clip, clip + 0.02)
    values = (score.psnr, score.psnr_frames, score.first_psnr, score.rest_psnr, *score.position_psnr)
    assert values == pytest.approx([40.0] * 8, abs=1e-3)
    assert score.temporal_psnr > 99 and score.seam < 1e-3 and score.flicker < 1e-3


def test_pieces_do_not_matter(clip):
    y = clip + 0.1 * torch.randn_like(clip)
    whole = asdict(measure(clip, y))
    for pieces in ((1, 13), (5, 5, 4), (1,) * 14, (13, 0, 1)):
        for name, value in asdict(measure(clip, y, *pieces)).items():
            assert value == (pytest.approx(whole[name], rel=1e-6) if value is not None else None), name
    assert whole["psnr"] == pytest.approx(psnr(clip[None], y[None]).item())
    assert whole["ssim"] == pytest.approx(ssim(clip[None], y[None]).mean().item())


@pytest.mark.parametrize("spoiled", range(CHUNK))
def test_the_seam_profile_finds_the_spoiled_position(clip, spoiled):
    y = clip + 0.002
    y[:, 1 + spoiled :: CHUNK] += 0.2
    score = measure(clip, y, 6, 8)
    wanted = [60.0] * CHUNK
    wanted[spoiled] = psnr(torch.zeros(1, 1, 1, 1, 1), torch.full((1, 1, 1, 1, 1), 0.202)).item()
    assert score.position_psnr == pytest.approx(wanted, abs=0.01)
    assert score.seam == pytest.approx(60 - wanted[spoiled], abs=0.01) and score.first_psnr == pytest.approx(
        60, abs=0.01
    )


def test_a_jump_at_every_chunk_shows_in_the_differences_behind_the_seam(clip):
    y = clip.clone()
    for k in range(1, 14):
        y[:, k] += 0.1 if (k - 1) // CHUNK % 2 else -0.1
    behind, *within = measure(clip, y).position_temporal_psnr
    assert behind < 24 and min(within) > 90


def test_flicker():
    still = torch.zeros(3, 6, 16, 16)
    blinking = still.clone()
    blinking[:, ::2] += 2 / 127.5
    assert measure(still, still + 0.3).flicker == 0
    assert measure(still, blinking).flicker == pytest.approx(2.0, rel=1e-5)
    assert measure(blinking, blinking * 0.5).flicker == 0  # less motion is no flicker; temporal PSNR sees it
    assert measure(blinking, blinking * 0.5).temporal_psnr < 50


def test_one_frame_has_no_time(clip):
    score = measure(clip[:, :1], clip[:, :1] + 0.02)
    assert score.psnr == pytest.approx(40, abs=1e-3) == score.first_psnr
    assert score.temporal_psnr is score.flicker is score.rest_psnr is score.seam is None and score.position_psnr == []


def test_what_cannot_be_measured_is_named():
    meter = ClipMetrics(chunk=2)
    meter.add(torch.zeros(3, 2, 8, 100), torch.zeros(3, 2, 8, 100))
    assert meter.score().ssim is None
    assert meter.left_out == {
        "ssim": "frames of 8x100, 11x11 needed",
        "ms_ssim": "frames of 8x100, 176x176 needed",
    }


def test_nothing_and_nonsense():
    with pytest.raises(ValueError, match="at least one frame"):
        ClipMetrics().score()
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        ClipMetrics(chunk=0)
    with pytest.raises(ValueError, match="agree in shape"):
        ClipMetrics().add(torch.zeros(3, 2, 8, 8), torch.zeros(3, 1, 8, 8))
