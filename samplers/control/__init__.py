"""Training-free control: motion fields, motion warp, noise warp, cross-frame attention, trajectories, edit masks."""
