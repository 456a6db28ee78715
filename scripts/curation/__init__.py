"""Verbs of `vidgen data` that choose among clips."""
