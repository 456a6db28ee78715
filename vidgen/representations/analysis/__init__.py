"""What features keep and what they leave out: invariance to changes of a clip, and concepts of layers."""
