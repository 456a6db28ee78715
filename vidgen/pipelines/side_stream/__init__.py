"""Clips with a side stream by one model: sampling in each mode, and how well it does."""
