"""Clips of any length and size in bounded memory: chunks, halos, tiles, memory plans."""
