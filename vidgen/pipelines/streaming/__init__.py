"""Clips chunk by chunk: a causal model with a cache of what is done, streams, and what a chunk holds."""
