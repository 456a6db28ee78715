"""What models and solvers are worth, measured on held-out clips and on closed forms."""
