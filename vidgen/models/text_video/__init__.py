"""Texts and clips in one space: dual encoders, how their tokens meet, and models of transformers as such."""
