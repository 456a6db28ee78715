"""The layer above tokenizers and samplers: whole pipelines, and the families of published models."""
