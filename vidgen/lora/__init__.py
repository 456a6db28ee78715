"""LoRA: low-rank changes of a network's weights, from files as they are published, put on, scaled and taken off."""
