"""One clip as a small network of its own: a decoder, and an embedding for each frame (HNeRV, Chen et al. 2023)."""
