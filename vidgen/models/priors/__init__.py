"""Priors over token grids: transformers that give a law over the indices of a discrete tokenizer."""
