"""Models on disk: saving, loading, hub names, atomic writes, hashes, and checks before memory is taken."""
