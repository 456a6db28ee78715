"""Task `side_stream`: clips with their actions."""
