"""Pipelines of diffusers: their folders read, and their schedules."""
