"""What solvers are worth, measured on data whose answer is known."""
