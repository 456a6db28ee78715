"""Annotations of published data sets, read into one record: a reader for each layout, and manifests made of them."""
