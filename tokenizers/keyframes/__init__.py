"""Key frames coded fully and the motion between them compactly: a clip as pictures and fields that move them."""
