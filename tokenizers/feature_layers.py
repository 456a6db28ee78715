"""The places on the way from pixels to latents where a tokenizer's features can be read."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from vidgen.models.feature_layers import FeatureInfo
from vidgen.tokenizers.backbones.convolutional import Scale
from vidgen.tokenizers.bottlenecks import KL, Quantizer
from vidgen.tokenizers.config import TokenizerConfig

MOST_CODES = 2**24  # integers that float32, which features are kept in, tells apart


def encoding_feature_info(config: TokenizerConfig, scales: Sequence[Scale], bottleneck: nn.Module) -> list[FeatureInfo]:
    """Return every layer of encoding in the order that they run.

    They are the encoder's layers; "encoder.out", which the bottleneck takes; what the bottleneck makes beside its
    latents, the log-variance of a Gaussian posterior (whose mean is the latents) or the indices of codes, where there
    are no more than float32 holds; and the latents.
    """
    t, s = config.patch_t, config.patch
    layers = [
        FeatureInfo(
            name=f"encoder.layers.{i}",
            num_chs=scale.width,
            reduction=(t * scale.t, s * scale.s, s * scale.s),
            module="encoder",
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
    stride = (config.temporal_compression_ratio, config.spatial_compression_ratio, config.spatial_compression_ratio)
    return layers + [
        FeatureInfo(name=n, num_chs=w, reduction=stride, module=space, causal=True) for n, w, space in cells
    ]
