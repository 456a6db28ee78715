"""The comparison of objectives: reconstruction against denoising, all else being equal."""
