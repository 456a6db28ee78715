"""Light adaptation of frozen encoders: what is learned beside them, and folders of it."""
