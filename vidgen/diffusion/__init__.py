"""Probability paths, prediction types, noise and its distribution over levels, loss weighting."""
