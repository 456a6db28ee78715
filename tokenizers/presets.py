"""Named tokenizers. Every line ends with its measured result, or says "not measured"."""

from vidgen.tokenizers.model import TokenizerConfig

PRESETS: dict[str, TokenizerConfig] = {
    "kl_causal_4x8x8_16ch": TokenizerConfig(),  # the shipped default: see its model card
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
