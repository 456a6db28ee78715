"""Published networks as ours: their checkpoints read into our modules, and written back."""
