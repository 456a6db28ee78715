"""Decoders of token priors: exact categorical draws, causal decoding, speculation, parallel groups, guidance."""
