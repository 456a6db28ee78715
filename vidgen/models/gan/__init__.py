"""Generators of clips that are trained against discriminators."""
