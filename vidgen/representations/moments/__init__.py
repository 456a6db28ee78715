"""Moments of films: spans of time that a text tells of, found, measured, read and written."""
