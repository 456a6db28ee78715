"""Published denoisers and text encoders, through the classes of diffusers and transformers."""
