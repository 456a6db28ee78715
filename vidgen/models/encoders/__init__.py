"""Encoders of other libraries, read as our own: named feature maps of clips."""
