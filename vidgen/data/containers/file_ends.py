"""Whether a file is whole, by its container's own sizes and checksums: nothing is decoded."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO

from vidgen.data.webdataset import open_bytes

EBML = b"\x1a\x45\xdf\xa3"
SEGMENT = 0x18538067
CLUSTER = 0x1F43B675
LEVEL_1 = {CLUSTER, 0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367}
# beside those, another header, and what a cluster of unknown size holds
ELEMENTS = LEVEL_1 | {0x1A45DFA3, 0xE7, 0xA7, 0xAB, 0xA3, 0xA0, 0xAF, 0xEC, 0xBF, 0x5854}
CRC_32 = b"\xbf\x84"  # the id and the length of a Matroska element's checksum
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
TAIL = 1 << 16
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def find_cut(path: Path, checksums: bool = True) -> str | None:
    """Return why the file is not whole, where its container can tell; None for a file that looks whole.

    checksums: read all of a Matroska file whose writer put checksums into it, rather than its sizes alone.
    """
    with open_bytes(path) as file:
        size = file.seek(0, SEEK_END)
        file.seek(0)
        head = file.read(16)
        file.seek(0)
        if head[:4] == EBML:
            return _check_matroska(file, size, checksums)
        if head[:4] == b"RIFF":
            return _check_ends(_riff_ends(file, size), size)
        if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp"):
            return _check_ends(_box_ends(file, size), size)
        if head[:3] == b"FLV":
            return _check_ends(_tag_ends(file, size), size)
        file.seek(max(size - TAIL, 0))
        tail = file.read() if size > TAIL else head + file.read()[16:]
        if head[:3] == b"GIF":
            file.seek(0)
            return _check_gif(file.read())
        if head[:9] == b"YUV4MPEG2":
            file.seek(0)
            return _check_y4m(file.readline(1000), size)
        if head[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" not in tail:
            return "its end is missing (no IEND)"
        if head[:4] == b"\0\0\1\xba":
            return _check_ends(_pack_ends(tail), len(tail))
        if head[:4] == b"OggS":
            return _check_ends(_page_ends(tail), len(tail))
        if head[:1] == b"G" and size % 188:
            return _check_packets(tail, size)
        if head[:4] == b"\x30\x26\xb2\x75":
            file.seek(0)
            return _check_ends(_asf_ends(file.read(TAIL)), size)
    return None


def _check_ends(ends: Iterator[int], size: int) -> str | None:
    """Return what is wrong if one of the parts ends behind the file."""
    missing = max((end for end in ends), default=0) - size
    return f"the file is cut short: {missing} bytes of its last part are missing" if missing > 0 else None


def _box_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield where the top-level boxes of an MP4 end (ISO 14496-12, 4.2)."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if not re.fullmatch(rb"[ -~\xa9]{4}", header[4:8]):
            return  # other bytes behind the last box
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: up to the end of the file
            return
        position += length
        yield position


def _riff_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield where the lists of an AVI or WebP end; long AVIs have several."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(8)
        if header[:4] != b"RIFF":
            return
        length = int.from_bytes(header[4:], "little")
        position += 8 + length + length % 2
        yield position - length % 2


def _tag_ends(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield where the tags of an FLV end, each with its size behind it."""
    file.seek(5)
    position = int.from_bytes(file.read(4), "big") + 4
    while position + 11 <= size:
        file.seek(position)
        header = file.read(4)
        if header[0] & 31 not in (8, 9, 18):
            return
        position += 11 + int.from_bytes(header[1:], "big") + 4
        yield position
    if position != size:
        yield position + 11


def _pack_ends(tail: bytes) -> Iterator[int]:
    """Yield where the packets of a program stream's last packs end (ISO 13818-1, 2.5)."""
    position = tail.find(b"\0\0\1\xba", max(len(tail) - TAIL // 2, 0))
    while 0 <= position <= len(tail) - 4:
        if tail[position : position + 3] != b"\0\0\1" or (kind := tail[position + 3]) == 0xB9:
            return
        if kind == 0xBA:
            mpeg_2 = tail[position + 4 : position + 5] >= b"\x40"
            position += 14 + (tail[position + 13] & 7 if position + 13 < len(tail) else 0) if mpeg_2 else 12
        else:
            position += 6 + int.from_bytes(tail[position + 4 : position + 6], "big")
        yield position


def _page_ends(tail: bytes) -> Iterator[int]:
    """Yield where the last page of an Ogg file ends."""
    position = tail.rfind(b"OggS")
    if position >= 0:
        count = tail[position + 26] if position + 26 < len(tail) else 1
        yield position + 27 + count + sum(tail[position + 27 : position + 27 + count])


def _asf_ends(head: bytes) -> Iterator[int]:
    """Yield the size that an ASF file says it has; streams being recorded say none."""
    position = head.find(ASF_PROPERTIES)
    if position >= 0 and not int.from_bytes(head[position + 88 : position + 92], "little") & 1:
        yield int.from_bytes(head[position + 40 : position + 48], "little")


def _check_gif(data: bytes) -> str | None:
    """Walk the blocks of a GIF up to its trailer (GIF89a, appendix B)."""

    def table(flags: int) -> int:
        return 3 << 1 + (flags & 7) if flags & 128 else 0

    position = 13 + table(data[10])
    while position < len(data):
        kind = data[position]
        if kind == 0x3B:
            return None
        if kind not in (0x21, 0x2C):
            return f"what stands at byte {position} is no part of a GIF"
        position += 2 if kind == 0x21 else 11 + table(data[position + 9 : position + 10].ljust(1, b"\0")[0])
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1
    return "its end is missing (no trailer)"


def _check_y4m(header: bytes, size: int) -> str | None:
    """Hold the size of a file of raw frames against that of a frame; depths that are not known are let pass."""
    words = {word[:1]: word[1:] for word in header.decode("ascii", "replace").split()[1:]}
    planes = re.fullmatch(r"(420|422|444|mono)(?:jpeg|mpeg2|paldv|p?(10|12|14|16))?", words.get("C", "420"))
    if planes is None or not (words.get("W", "") + words.get("H", "")).isdecimal():
        return None
    width = int(words["W"])
    height = int(words["H"])
    chroma = {"420": -(-width // 2) * -(-height // 2), "422": -(-width // 2) * height, "444": width * height, "mono": 0}
    frame = (width * height + 2 * chroma[planes[1]]) * (2 if planes[2] else 1) + len("FRAME\n")
    extra = (size - len(header)) % frame
    return f"the file is cut short: its last frame has {extra} of {frame} bytes" if extra else None


def _check_packets(tail: bytes, size: int) -> str | None:
    """Say so if a transport stream of packets of 188 bytes ends in the middle of one."""
    start = len(tail) - size % 188
    whole = start >= 376 and tail[start] == tail[start - 188] == tail[start - 376] == 0x47
    return f"the file is cut short: its last packet has {size % 188} of 188 bytes" if whole else None


def _check_matroska(file: BinaryIO, size: int, checksums: bool) -> str | None:
    """Return what is wrong with the elements of a Matroska or WebM file: cut, or not what their checksums say."""
    position = 0
    end = size
    while position < min(end, size):
        file.seek(position)
        header = file.read(12)
        number, body, length = read_element(header)
        if number == SEGMENT:
            end = size if length is None else position + body + length
            position += body
            continue
        if position == 0 and length is not None:
            position += body + length
            continue
        if number not in ELEMENTS:
            return f"what stands at byte {position} is no part of a Matroska file"
        if length is None:  # of a stream: what it holds follows
            position += body
            continue
        if position + body + length > size:
            return f"the file is cut short: {position + body + length - size} bytes of its last part are missing"
        if number in LEVEL_1 and checksums:
            file.seek(position + body)
            data = file.read(length)
            if data[:2] == CRC_32 and zlib.crc32(data[6:]) != int.from_bytes(data[2:6], "little"):
                kind = "pictures" if number == CLUSTER else "tables"
                return f"a part of its {kind} (byte {position} on) is not what its checksum says"
            if number == CLUSTER and data[:2] != CRC_32 and not _is_cluster(data):
                return f"what stands in its pictures (byte {position} on) is no part of a Matroska file"
        position += body + length
    return f"the file is cut short: {end - size} bytes are missing" if end > size else None


def _is_cluster(data: bytes) -> bool:
    """Return whether the elements of a cluster are known ones, and fill it."""
    position = 0
    while position < len(data):
        number, body, length = read_element(data[position : position + 12])
        if number not in ELEMENTS or length is None:
            return False
        position += body + length
    return position == len(data)


def read_element(header: bytes) -> tuple[int, int, int | None]:
    """Return an EBML element's id, the bytes of its header, and its length; None where it is unknown (RFC 8794)."""
    header = header.ljust(12, b"\0")
    id_bytes = 9 - header[0].bit_length()
    first = header[min(id_bytes, 4)]
    length_bytes = 9 - first.bit_length()
    if id_bytes > 4 or length_bytes > 8:
        return 0, 1, 0
    raw = int.from_bytes(header[id_bytes : id_bytes + length_bytes], "big")
    length = raw & ((1 << 7 * length_bytes) - 1)
    unknown = length == (1 << 7 * length_bytes) - 1
    return int.from_bytes(header[:id_bytes], "big"), id_bytes + length_bytes, None if unknown else length


def has_damaged_slice(packet: bytes) -> bool:
    """Return whether a slice of an FFV1 packet of version 3 is not what its checksum says (RFC 9043, 4.8 and 4.9).

    Slices are read from the last one backwards, by the size that stands behind each. Packets whose sizes do not add up
    with checksums may have none, and are taken as they are.
    """
    slices = []
    end = len(packet)
    while end >= 8:
        length = int.from_bytes(packet[end - 8 : end - 5], "big") + 8
        if length > end:
            return False
        slices.append(packet[end - length : end])
        end -= length
    if end:
        return False
    return any(zlib.crc32(part.translate(REVERSED), 0xFFFFFFFF) != 0xFFFFFFFF for part in slices)
