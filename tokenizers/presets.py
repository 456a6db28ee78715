"""Named tokenizers. Every line ends with its measured result, or says "not measured".

Names say bottleneck, ratios in time and space, channels or codes, and then what else sets a tokenizer apart. All are
measured by one command, at a small equal budget: vidgen tokenizer compare compare_presets --out DIR
"""

from typing import Any

from vidgen.tokenizers.model import TokenizerConfig

CODES_64K: dict[str, Any] = {"bottleneck": "fsq", "latent_channels": 6, "levels": (8, 8, 8, 5, 5, 5)}
WAN: dict[str, Any] = {
    "backbone": "wan",
    "front_end": "patch",
    "patch_t": 1,
    "temporal": (False, True, True),
    "encoder_blocks": 2,
    "decoder_blocks": 3,
}

PRESETS: dict[str, TokenizerConfig] = {
    # Bottlenecks, at 4x8x8
    "kl_causal_4x8x8_16ch": TokenizerConfig(),  # the shipped default: see its model card
    "ae_causal_4x8x8_16ch": TokenizerConfig(bottleneck="ae"),  # not measured
    "vq_causal_4x8x8_8k": TokenizerConfig(bottleneck="vq", latent_channels=8, codebook_size=8192),  # not measured
    "fsq_causal_4x8x8_64k": TokenizerConfig(**CODES_64K),  # not measured
    "lfq_causal_4x8x8_256k": TokenizerConfig(bottleneck="lfq", latent_channels=18),  # not measured
    "bsq_causal_4x8x8_256k": TokenizerConfig(bottleneck="bsq", latent_channels=18),  # not measured
    "residual_causal_4x8x8_4x1k": TokenizerConfig(  # of vq; not measured
        bottleneck="residual", latent_channels=8, codebook_size=1024, quantizers=4
    ),
    "residual_causal_4x8x8_4x1k_fsq": TokenizerConfig(  # of fsq; not measured
        bottleneck="residual", latent_channels=4, levels=(8, 5, 5, 5), quantizers=4
    ),
    # Ratios
    "kl_causal_1x8x8_4ch": TokenizerConfig(patch_t=1, latent_channels=4),  # a latent a frame; not measured
    "kl_causal_2x8x8_8ch": TokenizerConfig(patch_t=2, latent_channels=8),  # not measured
    "kl_causal_4x4x4_4ch": TokenizerConfig(patch=2, latent_channels=4),  # not measured
    "kl_causal_4x16x16_16ch": TokenizerConfig(widths=(96, 144, 192), temporal=(False, False)),  # not measured
    "kl_causal_8x8x8_16ch": TokenizerConfig(temporal=(True,)),  # not measured
    "kl_causal_8x16x16_16ch": TokenizerConfig(widths=(96, 144, 192), temporal=(False, True)),  # not measured
    "kl_causal_8x32x32_128ch": TokenizerConfig(  # not measured
        latent_channels=128, widths=(96, 144, 192, 288), temporal=(False, False, True)
    ),
    "fsq_causal_8x16x16_64k": TokenizerConfig(  # not measured
        widths=(96, 144, 192), temporal=(False, True), **CODES_64K
    ),
    # Front end and layers
    "kl_causal_4x8x8_16ch_patch": TokenizerConfig(front_end="patch"),  # no wavelets; not measured
    "kl_causal_4x8x8_16ch_full": TokenizerConfig(convolution="full"),  # not measured
    "kl_causal_4x8x8_16ch_attention": TokenizerConfig(attention=True),  # not measured
    # One stage of patches as large as the ratios, as OmniTokenizer and C-ViViT have it
    "kl_causal_4x8x8_16ch_transformer": TokenizerConfig(  # not measured
        backbone="transformer", patch=8, widths=(384,), temporal=(), encoder_blocks=4, decoder_blocks=6
    ),
    # Wan's autoencoders, untrained; tokenizers/published reads their checkpoints
    "kl_causal_4x8x8_16ch_wan": TokenizerConfig(patch=1, widths=(96, 192, 384, 384), **WAN),  # 2.1; not measured
    "kl_causal_4x16x16_48ch_wan": TokenizerConfig(  # 2.2; not measured
        latent_channels=48,
        patch=2,
        widths=(160, 320, 640, 640),
        decoder_widths=(256, 512, 1024, 1024),
        shortcuts=True,
        **WAN,
    ),
    "tiny": TokenizerConfig(  # for tests: every kind of layer, both time rates
        latent_channels=4,
        patch_t=2,
        patch=2,
        widths=(8, 12, 16),
        temporal=(True, False),
        encoder_blocks=1,
        decoder_blocks=1,
    ),
}
