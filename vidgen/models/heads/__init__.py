"""Heads: small networks on top of an encoder."""
