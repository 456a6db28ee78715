"""Several trainings at one budget, and their table."""
