"""The pipeline of a generator: prompt to clip in one pass."""
