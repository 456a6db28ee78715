"""What the loop stands on: the folder of a run, checkpoints, guards, optimizers, processes, and how busy they are."""
