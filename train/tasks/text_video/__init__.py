"""Tasks on texts and clips: alignment, moments."""
