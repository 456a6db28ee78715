"""Named tokenizers. Every line ends with its measured result, or says "not measured".

Names say bottleneck, ratios in time and space, channels or codes, and then what else sets a tokenizer apart. All are
measured by one command, at a small equal budget: vidgen tokenizer compare compare_presets --clips FOLDER --out DIR
PSNR and coded bits a pixel of held-out natural clips after 100 steps from scratch, and the seconds that those took on
two cores: what a choice costs, and how fast it starts to learn. docs/measurements.md has the whole table.
"""

from typing import Any

from vidgen.tokenizers.config import TokenizerConfig

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
    "kl_causal_4x8x8_16ch": TokenizerConfig(),  # the shipped default; 21.94 dB, 0.181 b/px, 45 s
    "ae_causal_4x8x8_16ch": TokenizerConfig(bottleneck="ae"),  # 21.92 dB, 0.176 b/px, 47 s
    "vq_causal_4x8x8_8k": TokenizerConfig(  # 20.92 dB, 0.042 b/px, 62 s
        bottleneck="vq", latent_channels=8, codebook_size=8192
    ),
    "fsq_causal_4x8x8_64k": TokenizerConfig(**CODES_64K),  # 20.64 dB, 0.043 b/px, 46 s
    "lfq_causal_4x8x8_256k": TokenizerConfig(bottleneck="lfq", latent_channels=18),  # 20.23 dB, 0.071 b/px, 48 s
    "bsq_causal_4x8x8_256k": TokenizerConfig(bottleneck="bsq", latent_channels=18),  # 19.54 dB, 0.074 b/px, 47 s
    "residual_causal_4x8x8_4x1k": TokenizerConfig(  # of vq; 21.42 dB, 0.157 b/px, 47 s
        bottleneck="residual", latent_channels=8, codebook_size=1024, quantizers=4
    ),
    "residual_causal_4x8x8_4x1k_fsq": TokenizerConfig(  # of fsq; 19.77 dB, 0.120 b/px, 44 s
        bottleneck="residual", latent_channels=4, levels=(8, 5, 5, 5), quantizers=4
    ),
    # Ratios
    "kl_causal_1x8x8_4ch": TokenizerConfig(  # a latent a frame; 22.76 dB, 0.143 b/px, 125 s
        patch_t=1, latent_channels=4
    ),
    "kl_causal_2x8x8_8ch": TokenizerConfig(patch_t=2, latent_channels=8),  # 22.59 dB, 0.154 b/px, 74 s
    "kl_causal_4x4x4_4ch": TokenizerConfig(patch=2, latent_channels=4),  # 23.66 dB, 0.171 b/px, 150 s
    "kl_causal_4x16x16_16ch": TokenizerConfig(  # 20.33 dB, 0.051 b/px, 57 s
        widths=(96, 144, 192), temporal=(False, False)
    ),
    "kl_causal_8x8x8_16ch": TokenizerConfig(temporal=(True,)),  # 21.36 dB, 0.108 b/px, 46 s
    "kl_causal_8x16x16_16ch": TokenizerConfig(  # 19.89 dB, 0.031 b/px, 60 s
        widths=(96, 144, 192), temporal=(False, True)
    ),
    "kl_causal_8x32x32_128ch": TokenizerConfig(  # 18.16 dB, 0.078 b/px, 78 s
        latent_channels=128, widths=(96, 144, 192, 288), temporal=(False, False, True)
    ),
    "fsq_causal_8x16x16_64k": TokenizerConfig(  # 18.19 dB, 0.006 b/px, 63 s
        widths=(96, 144, 192), temporal=(False, True), **CODES_64K
    ),
    # Front end and layers
    "kl_causal_4x8x8_16ch_patch": TokenizerConfig(front_end="patch"),  # no wavelets; 22.14 dB, 0.183 b/px, 46 s
    "kl_causal_4x8x8_16ch_full": TokenizerConfig(convolution="full"),  # 21.66 dB, 0.178 b/px, 83 s
    "kl_causal_4x8x8_16ch_attention": TokenizerConfig(attention=True),  # 22.00 dB, 0.180 b/px, 57 s
    # One stage of patches as large as the ratios, as OmniTokenizer and C-ViViT have it
    "kl_causal_4x8x8_16ch_transformer": TokenizerConfig(  # 23.21 dB, 0.173 b/px, 198 s
        backbone="transformer", patch=8, widths=(384,), temporal=(), encoder_blocks=4, decoder_blocks=6
    ),
    # Wan's autoencoders, untrained; vidgen/pipelines/wan reads their checkpoints
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
