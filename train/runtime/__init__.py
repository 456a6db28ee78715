"""The one training loop, its checkpoints, processes, optimizers and what watches for divergence."""
