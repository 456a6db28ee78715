"""Codecs: there and back again is nearly the identity, rates fall with quality, and only what decodes is counted."""

from collections.abc import Callable

import numpy as np
import pytest

from vidgen.data.video_codecs import CODECS, Codec, _without_remarks, compress, decompress, has_codec
from vidgen.errors import VidgenError


def psnr(x: np.ndarray, y: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(x.astype(float) - y).mean()))


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Codec:
    found = CODECS[request.param]
    if not has_codec(found):
        pytest.skip(f"this FFmpeg has no {found.encoder}")
    return found


def test_low_crf_is_nearly_lossless_and_the_rate_falls_with_crf(codec: Codec, waves: Callable) -> None:
    frames = waves(9, 64, 96)
    bits, quality = [], []
    for crf in (1, codec.sweep[3], codec.sweep[5], codec.sweep[7]):
        clip = compress(frames, codec, crf=crf, fps=25)
        back = np.stack(list(decompress(clip)))
        assert back.shape == frames.shape and back.dtype == np.uint8
        bits.append(clip.bits)
        quality.append(psnr(frames, back))
    assert quality[0] > 47, quality  # 50.2 is what 4:2:0 in 8 bits leaves of these waves
    assert bits == sorted(bits, reverse=True) and len(set(bits)) == 4, bits
    assert quality == sorted(quality, reverse=True), quality


def test_odd_sizes_and_frame_order_come_back(codec: Codec, numbered: Callable, numbers: Callable) -> None:
    frames = numbered(7, 64, 64)
    back = np.stack(list(decompress(compress(frames, codec, crf=10, fps=8))))
    assert numbers(back) == list(range(7))
    odd = np.full((3, 65, 71, 3), 130, np.uint8)
    back = np.stack(list(decompress(compress(odd, codec, crf=10, fps=30000 / 1001))))
    assert back.shape == odd.shape and np.abs(back.astype(int) - 130).max() <= 2


def test_one_frame(codec: Codec, waves: Callable) -> None:
    frames = waves(1, 64, 64)
    (back,) = decompress(compress(iter(frames), codec, crf=4, fps=25))
    assert psnr(frames[0], back) > 38


def test_sizes_hold_no_signature_of_the_encoder(codec: Codec, waves: Callable) -> None:
    clip = compress(waves(3, 64, 64), codec, crf=40, fps=25)
    data = b"".join(packet for packet, _, _ in clip.packets)
    assert clip.bits == 8 * len(data) and len(data) < 600
    assert b"x264" not in data and b"x265" not in data and b"options" not in data


def test_only_remarks_are_taken_out() -> None:
    units = [bytes([7, 1, 2]), bytes([8, 3]), bytes([6, 5, 9, 9]), bytes([0x65, 4, 4])]
    packet = b"\0\0\0\1" + units[0] + b"\0\0\0\1" + units[1] + b"\0\0\1" + units[2] + b"\0\0\1" + units[3]
    assert _without_remarks(packet) == b"".join(b"\0\0\0\1" + unit for unit in (units[0], units[1], units[3]))


def test_frames_too_small_for_an_encoder() -> None:
    with pytest.raises(VidgenError, match="x265 needs sides of at least 64, not 32x64"):
        compress([np.zeros((32, 64, 3), np.uint8)], CODECS["x265"], crf=20, fps=25)


def test_no_frames_and_no_encoder() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        compress([], CODECS["x264"], crf=20, fps=25)
    missing = Codec(name="h277", encoder="libx277", decoder="h277", options={}, sweep=(1,))
    with pytest.raises(VidgenError, match="h277: FFmpeg has no libx277 here"):
        compress([np.zeros((16, 16, 3), np.uint8)], missing, crf=20, fps=25)
