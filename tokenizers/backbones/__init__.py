"""Encoders and decoders between pixels and the bottleneck, and the causal layers that they are made of."""
