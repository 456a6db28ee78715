"""Verbs that take texts and clips: classify, locate."""
