"""Names of files, no longer than file systems take them."""

import hashlib
import os

LONGEST_NAME = 255  # bytes, as almost all file systems have it


def short_name(stem: str, suffix: str) -> str:
    """Return stem + suffix; where no file could have so long a name, the end of the stem becomes its hash."""
    room = LONGEST_NAME - len(os.fsencode(suffix))
    data = os.fsencode(stem)
    if len(data) <= room:
        return stem + suffix
    digest = hashlib.sha256(data).hexdigest()[:8]  # names that differ only in what is cut off stay apart
    return f"{data[: room - 9].decode(errors='ignore')}-{digest}{suffix}"
