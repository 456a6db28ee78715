"""Directions added to latents: what pooling averages over is spread again, and a tokenizer that is exact shows it."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from vidgen.errors import VidgenError
from vidgen.representations.steering.directions import Direction
from vidgen.representations.steering.steer import SPREAD, encode_pooled, pooled, spread, steer
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS


@dataclass(frozen=True)
class Coded:
    latents: torch.Tensor


class Exact(nn.Module):
    """A tokenizer whose latents are the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def encode(self, video: torch.Tensor) -> Coded:
        return Coded(latents=video)

    def decode(self, encoded: Coded) -> torch.Tensor:
        return encoded.latents


VIDEO = torch.rand(3, 4, 6, 8, generator=torch.Generator().manual_seed(0)) * 0.4 - 0.2


@pytest.mark.parametrize("pool", SPREAD)
def test_what_is_spread_and_pooled_again_is_the_direction(pool):
    z = torch.randn(1, 5, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    vector = np.random.default_rng(2).normal(size=pooled(z, pool).shape[1])
    moved = z + 0.5 * spread(vector, pool, z.shape[1:]).float()
    np.testing.assert_allclose(pooled(moved, pool), pooled(z, pool) + 0.5 * vector, atol=1e-5)
    with pytest.raises(VidgenError, match=f"latents 5x3x4x7 of pool '{pool}' have|$^"):
        spread(vector[:-1], pool, (5, 3, 4, 7))


@pytest.mark.parametrize("pool", ["mean", "none"])
def test_an_exact_tokenizer_shows_the_direction_itself(pool):
    size = 3 if pool == "mean" else VIDEO.numel()
    vector = 0.3 * np.random.default_rng(0).uniform(-1, 1, size)
    direction = Direction(name="", vector=vector, start=0.25)
    steered = steer(Exact(), VIDEO, direction, [-1, 0, 2], pool)
    change = spread(vector, pool, VIDEO.shape)
    for strength, frames in zip((-1, 0, 2), steered.frames, strict=True):
        expected = (VIDEO + strength * change + 1) * 127.5
        assert np.abs(frames - expected.permute(1, 2, 3, 0).numpy()).max() <= 0.501
    np.testing.assert_allclose(np.diff(steered.latent_positions), [1, 2], rtol=1e-4)
    np.testing.assert_allclose(steered.decoded_positions, steered.latent_positions, rtol=1e-4)
    before = encode_pooled(Exact(), VIDEO, pool)
    assert steered.latent_positions[1] == pytest.approx(float(direction.position(before[None])[0]), abs=1e-5)
    frames_beside = steered.side_by_side
    assert frames_beside.shape == (4, 6, 3 * 8 + 2 * 2, 3) and np.array_equal(
        frames_beside[:, :, 20:], steered.frames[2]
    )
    assert np.all(frames_beside[:, :, 8:10] == 255)


def test_nothing_added_is_the_reconstruction():
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(PRESETS["tiny"]).eval()
    video = torch.rand(3, 5, 16, 24) * 2 - 1
    direction = Direction(name="", vector=np.ones(tokenizer.config.latent_channels), start=0.0)
    steered = steer(tokenizer, video, direction, [0.0, 1.0], "mean")
    with torch.no_grad():
        expected = tokenizer(video[None])[0].clamp(-1, 1)
    expected = ((expected + 1) * 127.5).permute(1, 2, 3, 0).numpy()
    assert np.abs(steered.frames[0] - expected).max() <= 0.51 and steered.frames.shape == (2, 5, 16, 24, 3)


def test_what_cannot_be_undone_is_refused():
    with pytest.raises(VidgenError, match="of pool 'max' cannot be decoded; extract with none, mean"):
        spread(np.ones(3), "max", (3, 2, 2, 2))
    with pytest.raises(VidgenError, match="4 numbers, and latents 3x2x2x2 of pool 'mean' have 3"):
        spread(np.ones(4), "mean", (3, 2, 2, 2))
