"""Curation of data sets: quality of clips as columns of a manifest, near-duplicates, and filters of both."""
