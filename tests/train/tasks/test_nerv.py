"""Fitting one clip: it is learned, the seed says everything, and quantizing takes little away."""

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.metrics import psnr
from vidgen.tokenizers.nerv.clip import choose_config, quantize_clip
from vidgen.train.runtime.optimizers import warmup_cosine
from vidgen.train.tasks.nerv import WARMUP, FittedClip, FittingConfig, fit_clip, to_batch

FITTING = FittingConfig(steps=240, batch_frames=4, lr=3e-3)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Eight frames of 32x48: coloured waves that move."""
    t, y, x = np.mgrid[0:8, 0:32, 0:48]
    red, green, blue = x / 48 + t / 16, y / 32 - t / 23, (x + y) / 80 + t / 37
    return np.round(127.5 + 110 * np.sin(2 * np.pi * np.stack([red, green, blue], axis=-1))).astype(np.uint8)


def fitted(frames: np.ndarray, fitting: FittingConfig) -> FittedClip:
    return fit_clip(frames, choose_config(32, 48, len(frames), bits=8, budget=200_000), fitting)


def decoded_psnr(frames: np.ndarray, found: FittedClip, bits: int) -> float:
    stored = quantize_clip(found.decoder, found.embeddings, bits=bits, fps=8.0)
    clip = torch.cat(list(stored.decode()), dim=1)[None]
    return psnr(clip, to_batch(frames, "cpu").movedim(1, 0)[None]).item()


@pytest.mark.slow
def test_a_tiny_clip_is_learned_and_survives_eight_bits(frames: np.ndarray) -> None:
    # The mean of all frames is the best that could be done without telling them apart.
    error = frames - frames.mean(axis=0, dtype=np.float64)
    still = 10 * np.log10(255**2 / np.square(error).mean())
    found = fitted(frames, FITTING)
    assert found.psnr > 20 > still + 5
    assert found.psnr - 1.0 < decoded_psnr(frames, found, 8) <= found.psnr + 0.2
    assert decoded_psnr(frames, found, 3) < decoded_psnr(frames, found, 8)


def test_the_seed_says_everything(frames: np.ndarray) -> None:
    short = FittingConfig(steps=6, batch_frames=3)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = fitted(frames, short)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    two, other = fitted(frames, short), fitted(frames, FittingConfig(steps=6, batch_frames=3, seed=1))
    assert torch.equal(one.embeddings, two.embeddings) and not torch.equal(one.embeddings, other.embeddings)
    weights = two.decoder.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in one.decoder.state_dict().items())


def test_a_single_frame_and_bfloat16(frames: np.ndarray) -> None:
    found = fitted(frames[:1], FittingConfig(steps=3, autocast="bfloat16"))
    assert found.embeddings.shape[0] == 1 and found.embeddings.dtype == torch.float32 and np.isfinite(found.psnr)


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [warmup_cosine(step, peak=1.0, warmup=round(WARMUP * 100), steps=100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * k for k in range(1, 11)]) and max(rates) == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True) and rates[-1] < 1e-3
    assert warmup_cosine(0, peak=1.0, warmup=1, steps=1) == 1.0


def test_what_breaks_down_is_said(frames: np.ndarray) -> None:
    with pytest.raises(VidgenError, match="broke down at step .* lower --lr"):
        fitted(frames, FittingConfig(steps=20, lr=100.0))
    with pytest.raises(ValueError, match="for 32x48"):
        fit_clip(frames[:, :30], choose_config(32, 48, 8, bits=8, budget=60_000), FITTING)
