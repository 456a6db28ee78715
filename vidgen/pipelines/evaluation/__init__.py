"""What pipelines are worth, measured on held-out prompts and clips."""
