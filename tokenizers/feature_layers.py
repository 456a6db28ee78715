"""The places on the way from pixels to latents where a tokenizer's features can be read."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from vidgen.models.feature_layers import TapInfo
from vidgen.tokenizers.backbones.convolutional import Scale
from vidgen.tokenizers.bottlenecks import KL, Quantizer
from vidgen.tokenizers.config import TokenizerConfig

MOST_CODES = 2**24  # integers that float32, which features are kept in, tells apart


def encoding_taps(config: TokenizerConfig, scales: Sequence[Scale], bottleneck: nn.Module) -> list[TapInfo]:
    """Every layer of the encoder; "encoder.out", which the bottleneck is given; what the bottleneck makes beside its
    latents, the log-variance of a Gaussian posterior (whose mean is the latents) or the indices of codes, where there
    are no more than float32 holds; and the latents."""
    t, s = config.patch_t, config.patch
    layers = [
        TapInfo(
            name=f"encoder.layers.{i}",
            width=scale.width,
            stride=(t * scale.t, s * scale.s, s * scale.s),
            space="encoder",
            causal=True,
        )
        for i, scale in enumerate(scales)
    ]
    cells = [("encoder.out", bottleneck.channels_in, "encoder")]
    if isinstance(bottleneck, KL):
        cells.append(("posterior.logvar", config.latent_channels, "posterior"))
    elif isinstance(bottleneck, Quantizer) and bottleneck.codebook_size <= MOST_CODES:
        cells.append(("indices", bottleneck.quantizers or 1, "codes"))
    cells.append(("latents", config.latent_channels, "latent"))
    stride = (config.ratio_t, config.ratio, config.ratio)
    return layers + [TapInfo(name=n, width=w, stride=stride, space=space, causal=True) for n, w, space in cells]
