"""Clips of any length and size in bounded memory: chunks, tiles, receptive fields, and the planner on top."""
