"""Clips of tokens whose law is known in full: what a prior that is trained on them can reach, and not go below."""
