"""Models on disk: saving, loading, hub names, hashes, and checks before memory is taken."""
