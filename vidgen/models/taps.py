"""What a model says of the places where its features can be read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TapInfo:
    """One tap: its name, `width` in channels, `stride` (t, h, w) in pixels and frames per feature cell, the `space`
    it lives in ("encoder", "latent", "denoiser") and whether it is `causal` (never sees later frames)."""

    name: str
    width: int
    stride: tuple[int, int, int]
    space: str
    causal: bool
