"""Published autoencoders on our backbone: their checkpoints read, and written back."""
