"""Tokens on disk: one clip a file, or a folder of them with an index."""
