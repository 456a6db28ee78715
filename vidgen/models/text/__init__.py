"""Text encoders, and text prepared for the blocks of a denoiser."""
