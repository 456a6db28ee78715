"""Pipelines of token priors: prompt to tokens to clip."""
