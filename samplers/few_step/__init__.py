"""Few steps: what a student learns from a teacher, as pure functions of denoisers, and what it is sampled through."""
