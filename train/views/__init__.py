"""Views: what a task without labels sees of a clip."""
