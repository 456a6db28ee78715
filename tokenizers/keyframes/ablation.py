"""The same key frames decoded three ways: repeated, moved by the vectors as they are, and by the learned decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.tokenizers.keyframes.codes import KeyframeCodes
from vidgen.tokenizers.keyframes.model import KeyframeTokenizer
from vidgen.tokenizers.keyframes.rates import round_codes

VARIANTS = ("repeated", "vectors", "learned")


@dataclass(frozen=True, kw_only=True)
class MotionVariants:
    """Decodings of one clip, all from the same decoded key frames and clamped to [-1, 1].

    repeated: each key frame stands through its group, no motion. vectors: it is moved block by block by the field
    before any coding. learned: by the tokens of the field, refined and corrected.
    """

    repeated: Float[Tensor, "b 3 T H W"]
    vectors: Float[Tensor, "b 3 T H W"]
    learned: Float[Tensor, "b 3 T H W"]
    codes: KeyframeCodes
    field: Float[Tensor, "b 2 T i j"]


@torch.no_grad()
def decode_variants(
    tokenizer: KeyframeTokenizer,
    video: Float[Tensor, "b 3 T H W"],
    motion: Float[Tensor, "b 2 T i j"] | None = None,
    step: float | None = None,
) -> MotionVariants:
    """Return all three decodings of a clip, whose field is `motion`, or measured where that is None.

    `step`: continuous latents are rounded to multiples of it, as at the rate that is counted.
    """
    field = tokenizer.measure_motion(video) if motion is None else motion
    codes = tokenizer.encode(video, motion=field)
    if step is not None:
        codes = round_codes(codes, step)
    synthesis = tokenizer.synthesize(codes)
    decoded = {
        "repeated": tokenizer.warp_keys(synthesis.keys, torch.zeros_like(field)),
        "vectors": tokenizer.warp_keys(synthesis.keys, field),
        "learned": synthesis.frames,
    }
    clamped = {name: x.float().clamp(-1.0, 1.0) for name, x in decoded.items()}
    return MotionVariants(**clamped, codes=codes, field=field)
