"""ClipNeRV: a clip as quantized weights and embeddings, what it costs in bits, and its frames again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.metrics.entropy_coding import entropy
from vidgen.tokenizers.nerv.network import NeRVConfig, NeRVDecoder, choose_strides
from vidgen.tokenizers.nerv.quantization import (
    RANGE_BITS,
    QuantizedTensor,
    check_bits,
    code_symbols,
    largest_coded_bits,
    quantize,
)

BATCH_PIXELS = 2**20  # of the frames that are decoded at once
WIDEST = 2048  # channels


@dataclass(frozen=True, kw_only=True)
class ClipNeRV:
    """A fitted clip: `weights` by the decoder's own names, `embeddings` (t, e, i, j), `bits` a value of both."""

    config: NeRVConfig
    fps: float
    bits: int
    weights: dict[str, QuantizedTensor]
    embeddings: QuantizedTensor
    source: str = ""

    @property
    def num_frames(self) -> int:
        """Frames of the clip."""
        return self.embeddings.codes.shape[0]

    @property
    def height(self) -> int:
        """Height of the frames in pixels."""
        return self.config.height

    @property
    def width(self) -> int:
        """Width of the frames in pixels."""
        return self.config.width

    def symbols(self) -> tuple[np.ndarray, np.ndarray]:
        """Return all codes in the order of the file, uint8: those of the weights, and those of the embeddings."""
        weights = torch.cat([tensor.codes.flatten() for tensor in self.weights.values()])
        return weights.numpy(), self.embeddings.codes.flatten().numpy()

    def decoder(self, device: str = "cpu") -> NeRVDecoder:
        """Return the decoder with its stored weights, in float32."""
        with torch.device("meta"):
            decoder = NeRVDecoder(self.config)
        decoder.load_state_dict({name: t.values() for name, t in self.weights.items()}, strict=True, assign=True)
        return decoder.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def decode(
        self, start: int = 0, stop: int | None = None, *, device: str = "cpu"
    ) -> Iterator[Float[Tensor, "3 k h w"]]:
        """Yield frames `start` to `stop`, in [-1, 1], some at a time; no frame needs another."""
        decoder, embeddings = self.decoder(device), self.embeddings.values()[start:stop].to(device)
        size = max(1, BATCH_PIXELS // (self.height * self.width))
        for piece in embeddings.split(size):
            yield decoder(piece).clamp(-1.0, 1.0).movedim(1, 0)


@dataclass(frozen=True, kw_only=True)
class NeRVCost:
    """Bits of a fitted clip. raw: every value in `bits` bits. entropy: order 0, a tensor at a time, tables not counted:
    a bound. coded: what the file's tensors take, `weights` and `embeddings` of it. All but `weights` and `embeddings`
    hold the ranges of the tensors too."""

    raw: int
    entropy: float
    coded: int
    weights: int
    embeddings: int


def cost_of(clip: ClipNeRV) -> NeRVCost:
    """Return what a clip costs."""
    weights, embeddings = clip.symbols()
    tensors = [*clip.weights.values(), clip.embeddings]
    ranges = RANGE_BITS * len(tensors)
    coded = [8 * len(code_symbols(part)) for part in (weights, embeddings)]
    return NeRVCost(
        raw=clip.bits * (len(weights) + len(embeddings)) + ranges,
        entropy=sum(t.codes.numel() * entropy(t.codes.flatten().numpy()) for t in tensors) + ranges,
        coded=sum(coded) + ranges,
        weights=coded[0],
        embeddings=coded[1],
    )


def quantize_clip(
    decoder: NeRVDecoder, embeddings: Float[Tensor, "t e i j"], *, bits: int, fps: float, source: str = ""
) -> ClipNeRV:
    """Return the stored form of a trained decoder and its frames' embeddings."""
    check_bits(bits)
    return ClipNeRV(
        config=decoder.config,
        fps=fps,
        bits=bits,
        weights={name: quantize(value, bits) for name, value in decoder.state_dict().items()},
        embeddings=quantize(embeddings, bits),
        source=source,
    )


def count_bits(config: NeRVConfig, num_frames: int, bits: int) -> int:
    """Return at most what a clip of this shape costs; entropy coding takes off some of it."""
    with torch.device("meta"):
        tensors = [p.numel() for p in NeRVDecoder(config).parameters()]
    values = config.embedding * config.grid[0] * config.grid[1] * num_frames
    headers = largest_coded_bits(sum(tensors)) - 8 * sum(tensors) + largest_coded_bits(values) - 8 * values
    return bits * (sum(tensors) + values) + RANGE_BITS * (len(tensors) + 1) + headers


def choose_config(height: int, width: int, num_frames: int, *, bits: int, budget: float) -> NeRVConfig:
    """Return the widest decoder for such a clip that costs no more than `budget` bits.

    Raises VidgenError where not even the narrowest one fits, and for a number of bits or a size that cannot be.
    """
    check_bits(bits)
    narrowest = NeRVConfig(height=height, width=width, strides=choose_strides(height, width), width_first=1)

    def cost(width_first: int) -> int:
        return count_bits(replace(narrowest, width_first=width_first), num_frames, bits)

    if (least := cost(1)) > budget:
        pixels = num_frames * height * width
        raise VidgenError(
            f"{budget / 8:.0f} bytes are too few for {num_frames} frames of {height}x{width}: the smallest fit takes "
            f"{-(-least // 8)} bytes, {least / pixels:.4f} bits a pixel; give more, or fewer --bits"
        )
    widest = bisect_right(range(1, WIDEST + 1), budget, key=cost)
    return replace(narrowest, width_first=widest)
