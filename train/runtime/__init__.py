"""The one training loop, its checkpoints, processes, optimizers and guards."""
