"""Containers of video: opening them, whether they are whole, and the pixels of their frames."""
