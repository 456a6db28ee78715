"""Training-free control of a pipeline's clips: animated pictures, paths, noise that follows a clip, edits."""
