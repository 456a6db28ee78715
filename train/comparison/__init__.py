"""Variants of a tokenizer trained for one budget and measured on the same held-out clips."""
