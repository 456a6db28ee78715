"""NeRV: one clip as the weights of a small network (an implicit neural representation)."""
