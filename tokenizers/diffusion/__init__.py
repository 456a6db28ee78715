"""A tokenizer whose decoder is a denoiser conditioned on its features."""
