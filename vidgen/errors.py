"""Errors that are part of the interface: one line that says what is wrong, where, and what to do."""


class VidgenError(ValueError):
    """Bad input from the user. The command line prints it as one line and exits with status 2."""


class VideoError(VidgenError):
    """A file that cannot be read as video (missing, empty, truncated, not a video)."""
