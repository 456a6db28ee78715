"""Names of features: the part of a model, the layer in it, and the noise level it was read at."""

from __future__ import annotations

# What comes before the layers of a tokenizer, of a denoiser, and of any other encoder of clips.
TOKENIZER, DENOISER, ENCODER = PARTS = "tokenizer.", "dit.", "encoder."


def feature_key(layer: str, noise_level: float | None = None) -> str:
    """Return a key such as "dit.blocks.7@t=0.10": two decimals, or as many as the level has."""
    if noise_level is None:
        return layer
    return f"{layer}@t={max(f'{noise_level:.2f}', f'{noise_level:g}', key=len)}"


def parse_key(key: str) -> tuple[str, float | None]:
    """Return the layer and the noise level (None for layers without one) of a feature key."""
    layer, _, level = key.partition("@t=")
    return layer, float(level) if level else None
