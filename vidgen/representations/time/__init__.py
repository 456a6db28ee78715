"""What features know of time and physics."""
