"""Decoders of masked token priors: MaskGIT, any-order, first-hitting, and what their steps share."""
