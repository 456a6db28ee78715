"""Named tokenizers. Every line ends with its measured result, or says "not measured"."""

from vidgen.tokenizers.model import TokenizerConfig

PRESETS: dict[str, TokenizerConfig] = {
    "kl_causal_4x8x8_16ch": TokenizerConfig(),  # the shipped default: see its model card
    "ae_causal_4x8x8_16ch": TokenizerConfig(bottleneck="ae"),  # not measured
    "vq_causal_4x8x8_8k": TokenizerConfig(bottleneck="vq", latent_channels=8, codebook_size=8192),  # not measured
    "fsq_causal_4x8x8_64k": TokenizerConfig(  # not measured
        bottleneck="fsq", latent_channels=6, levels=(8, 8, 8, 5, 5, 5)
    ),
    "lfq_causal_4x8x8_256k": TokenizerConfig(bottleneck="lfq", latent_channels=18),  # not measured
    "bsq_causal_4x8x8_256k": TokenizerConfig(bottleneck="bsq", latent_channels=18),  # not measured
    "residual_causal_4x8x8_4x1k": TokenizerConfig(  # of vq; not measured
        bottleneck="residual", latent_channels=8, codebook_size=1024, quantizers=4
    ),
    "residual_causal_4x8x8_4x1k_fsq": TokenizerConfig(  # of fsq; not measured
        bottleneck="residual", latent_channels=4, levels=(8, 5, 5, 5), quantizers=4
    ),
    "kl_causal_4x8x8_16ch_full": TokenizerConfig(convolution="full"),  # not measured
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
