"""Restoration: what is left of a clip is found again in the result; nothing lost is the clip, nothing left is plain
sampling."""

import numpy as np
import pytest
import torch

from vidgen.data.frames import to_tensor
from vidgen.errors import VidgenError
from vidgen.pipelines.restoration import restore
from vidgen.samplers.conditioning.degradations import Blur, Downsample, Grayscale, Mask
from vidgen.samplers.solvers.stepping import SamplingError

FAST = dict(num_inference_steps=2, guidance_scale=1.0)
MASK = torch.zeros(32, 16, dtype=torch.bool)
MASK[:16] = True
ALL = {"reduction": Downsample(4), "greying": Grayscale(), "blur": Blur(1.0), "gaps": Mask(MASK)}


def left_of(degradation, frames):
    return degradation.apply(to_tensor(frames)[None])


@pytest.mark.parametrize("name", ALL)
def test_what_is_left_is_found_in_the_result(pipe, waves, name):
    # As far as 8 bits go, and where projecting did not lead out of the range of pixels.
    d = ALL[name]
    y = 0.5 * left_of(d, waves(5, 32, 16))
    frames = restore(pipe, "a star", y, d, **FAST).frames[0]
    assert frames.shape == (5, 32, 16, 3)
    again = d.invert(left_of(d, frames))
    inside = ((frames > 0) & (frames < 255)).all(axis=(1, 2, 3)).all()
    error = (again - d.invert(y)).abs()
    assert error.mean() < (0.01 if inside else 0.05)


def test_nothing_lost_is_the_clip_itself(pipe, waves):
    frames = waves(5, 32, 16)
    out = restore(pipe, "a star", left_of(Downsample(1), frames), Downsample(1), **FAST)
    assert np.array_equal(out.frames[0], frames)
    torch.testing.assert_close(out.latents, pipe.vae.encode(to_tensor(frames)[None]).latents, atol=1e-3, rtol=1e-3)


def test_independent_pixels_are_restored_exactly_where_they_are_left(chain_pipe):
    # Every pixel is a chain of its own, so a gap learns nothing from beside it: what is left is as it was, and what is
    # lost is as the model makes it without any clip.
    pipe = chain_pipe(16)
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:, 8:] = True
    clip = 0.1 * torch.randn(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    out = restore(pipe, "", Mask(mask).apply(clip), Mask(mask), output_type="latent", **FAST).latents / 8
    plain = pipe("", output_type="latent", **FAST).latents / 8
    torch.testing.assert_close(out[..., :8], clip[..., :8])
    torch.testing.assert_close(out[..., 8:], plain[..., 8:])


def test_a_little_strength_is_the_degraded_clip(pipe, waves):
    y = left_of(Grayscale(), waves(5, 32, 16))
    out = restore(pipe, "a star", y, Grayscale(), strength=1e-4, output_type="latent", **FAST).latents
    want = pipe.vae.encode(Grayscale().invert(y)).latents
    assert (out - want).abs().mean() < 0.5 * want.abs().mean()


def test_nan_names_its_step_and_other_shapes_their_own(pipe, monkeypatch):
    y = torch.zeros(1, 1, 5, 32, 16)
    with pytest.raises(VidgenError, match=r"what is degraded is \(2, 1, 5, 32, 16\); one clip is wanted"):
        restore(pipe, "a star", y.expand(2, -1, -1, -1, -1), Grayscale(), **FAST)
    with pytest.raises(VidgenError, match="height 12 is not a multiple of 16"):
        restore(pipe, "a star", torch.zeros(1, 1, 5, 12, 16), Grayscale(), **FAST)
    whole = type(pipe.transformer).forward
    monkeypatch.setattr(type(pipe.transformer), "forward", lambda *a, **k: torch.nan * whole(*a, **k))
    with pytest.raises(SamplingError, match="the denoiser gave NaN or infinity at step 1 of 2"):
        restore(pipe, "a star", y, Grayscale(), **FAST)
