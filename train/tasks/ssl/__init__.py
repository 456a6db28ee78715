"""Task `ssl`: an encoder, and the terms of its loss."""
