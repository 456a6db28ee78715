"""Recipes of tasks on texts and clips."""
