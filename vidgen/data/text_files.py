"""Texts as people have them: captions, labels and manifests in any encoding, and names of files in none."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from vidgen.data.webdataset import open_bytes
from vidgen.errors import VideoError

MAX_TEXT_BYTES = 2**20  # of a caption, a label, or what is known of one clip
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_text(path: Path) -> str:
    """Return a small text, from a file or an archive, as `readable` has it. Raises VideoError for one over 1 MB."""
    with open_bytes(path) as file:
        data = file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise VideoError(f"{path}: more than {MAX_TEXT_BYTES // 2**20} MB of text; shorten it, or take it away")
    return readable(decode_text(data))


def decode_text(data: bytes) -> str:
    """Return text by its byte order mark, else as UTF-16 where every second byte is zero, else as UTF-8.

    Bytes that are not UTF-8 stand as lone surrogates (PEP 383), as they do in the names of files: `readable` makes
    letters of them.
    """
    for mark, encoding in BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "replace")
    head = data[:256]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(head) > 1 and head[first::2].count(0) > 0.8 * len(head[first::2]) and head[1 - first :: 2].count(0) == 0:
            return data.decode(encoding, "replace")
    return data.decode("utf-8", "surrogateescape")


def readable(text: str) -> str:
    """Return text that any file can hold: bytes that were no UTF-8 as Windows-1252, other lone surrogates as U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub(_letter, text)


def _letter(match: re.Match[str]) -> str:
    code = ord(match[0])
    return bytes([code - 0xDC00]).decode("cp1252", "replace") if 0xDC80 <= code <= 0xDCFF else "\ufffd"
