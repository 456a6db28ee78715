"""A tokenizer whose decoder is a diffusion model."""
