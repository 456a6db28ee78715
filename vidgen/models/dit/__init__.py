"""The spatiotemporal diffusion transformer: configuration, presets, blocks, network."""
