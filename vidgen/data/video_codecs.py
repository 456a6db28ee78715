"""Video codecs to hold tokenizers against: x264, x265 and AV1 (SVT-AV1) through PyAV, frames to packets and back."""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from jaxtyping import UInt8

from vidgen.data.containers.frame_pixels import TO_RGB
from vidgen.data.containers.opening import DECODER_ERRORS, describe_error
from vidgen.data.writing import BT709, TO_YUV, X264_REPEATABLE
from vidgen.errors import VidgenError

START_CODE = re.compile(rb"\x00?\x00\x00\x01")
SEI = 6  # H.264's unit type for remarks (ITU-T H.264, table 7-1)


@dataclass(frozen=True, kw_only=True)
class Codec:
    """An encoder of FFmpeg with its settings, the decoder for it, and the CRFs of a sweep, best quality first.

    All are set for squared error (`tune`), since that is what they are measured by, and run in one thread, since some
    spend bits by the number of threads. Frames with a side under `smallest` are refused.
    """

    name: str
    encoder: str
    decoder: str
    options: dict[str, str]
    sweep: tuple[int, ...]
    smallest: int = 16


_X26 = {"preset": "medium", "tune": "psnr"}
CODECS: dict[str, Codec] = {
    "x264": Codec(
        name="x264",
        encoder="libx264",
        decoder="h264",
        options=_X26 | {"x264-params": X264_REPEATABLE},
        sweep=(4, 10, 16, 22, 28, 34, 40, 46, 51),
    ),
    "x265": Codec(
        name="x265",
        encoder="libx265",
        decoder="hevc",
        options=_X26 | {"x265-params": "log-level=none:info=0:pools=none:frame-threads=1"},
        sweep=(4, 10, 16, 22, 28, 34, 40, 46, 51),
        smallest=64,  # x265 overwrites memory not its own with sides of 32 and less (measured); 64 is its block
    ),
    "av1": Codec(
        name="av1",
        encoder="libsvtav1",
        decoder="libdav1d",
        options={"preset": "6", "svtav1-params": "tune=1:lp=1"},
        sweep=(4, 12, 20, 28, 36, 44, 52, 58, 63),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Compressed:
    """A clip as the packets of one stream, in coding order, each with its presentation and decoding number."""

    codec: Codec
    height: int
    width: int
    packets: list[tuple[bytes, int | None, int | None]] = field(repr=False)

    @property
    def bits(self) -> int:
        """Size of all packets, headers that decoding needs included; no container."""
        return 8 * sum(len(data) for data, _, _ in self.packets)


def has_codec(codec: Codec) -> bool:
    """Return whether this build of FFmpeg can encode and decode it."""
    return codec.encoder in av.codecs_available and codec.decoder in av.codecs_available


def compress(frames: Iterable[UInt8[np.ndarray, "h w 3"]], codec: Codec, *, crf: int, fps: float) -> Compressed:
    """Encode frames at a constant rate factor: 8-bit 4:2:0, BT.709, limited range, one pass.

    Odd sizes are padded by repeating the last row or column. Remarks (x264 signs its work with some 700 bytes) are
    taken out: no decoder needs them. Raises VidgenError where the encoder is not there or refuses the frames.
    """
    if not has_codec(codec):
        raise VidgenError(f"{codec.name}: FFmpeg has no {codec.encoder} here; install PyAV's own wheel")
    os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 writes to stderr past FFmpeg's log
    rate = Fraction(fps).limit_denominator(1001)
    context: av.VideoCodecContext | None = None
    size = (0, 0)
    packets: list[av.Packet] = []
    try:
        for index, frame in enumerate(frames):
            if context is None:
                size = frame.shape[:2]
                if min(size) < codec.smallest:
                    raise VidgenError(f"{codec.name} needs sides of at least {codec.smallest}, not {size[0]}x{size[1]}")
                context = _open_encoder(codec, size, rate, crf)
            picture = _to_yuv(frame)
            picture.pts, picture.time_base = index, 1 / rate
            packets += context.encode(picture)
        if context is None:
            raise ValueError("a clip needs at least one frame, got 0")
        packets += context.encode(None)
    except (av.FFmpegError, OSError) as error:
        reason = describe_error(error)
        raise VidgenError(f"{codec.name} refuses frames of {size[0]}x{size[1]} at crf {crf}: {reason}") from error
    strip = _without_remarks if codec.encoder == "libx264" else bytes
    stripped = [(strip(bytes(packet)), packet.pts, packet.dts) for packet in packets]
    return Compressed(codec=codec, height=size[0], width=size[1], packets=stripped)


def decompress(clip: Compressed) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Yield the frames of a compressed clip, in the order shown, at the size that went in."""
    context = av.CodecContext.create(clip.codec.decoder, "r")
    context.thread_count = 1
    try:
        for data, pts, dts in clip.packets:
            packet = av.Packet(data)
            packet.pts, packet.dts = pts, dts
            yield from (_to_rgb(picture, clip) for picture in context.decode(packet))
        yield from (_to_rgb(picture, clip) for picture in context.decode(None))
    except DECODER_ERRORS as error:
        raise VidgenError(f"{clip.codec.name}: {clip.codec.decoder} cannot decode what was encoded: {error}") from error


def _open_encoder(codec: Codec, size: tuple[int, int], rate: Fraction, crf: int) -> av.VideoCodecContext:
    context = av.CodecContext.create(codec.encoder, "w")
    context.height, context.width = (n + n % 2 for n in size)
    context.pix_fmt = "yuv420p"
    context.framerate = rate
    context.time_base = 1 / rate
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = ColorRange.MPEG
    context.thread_count = 1
    context.options = {**codec.options, "crf": str(crf)}
    return context


def _to_yuv(frame: UInt8[np.ndarray, "h w 3"]) -> av.VideoFrame:
    height, width = frame.shape[:2]
    padded = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
    return picture.reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, interpolation=TO_YUV
    )


def _to_rgb(picture: av.VideoFrame, clip: Compressed) -> UInt8[np.ndarray, "h w 3"]:
    # A new frame of the same samples: decoders mark chroma as sited on the left, `_to_yuv` has it in the middle, and
    # converting by the mark shifts colour by a quarter of a pixel: 5 dB less at the best quality (measured).
    fresh = av.VideoFrame.from_ndarray(picture.to_ndarray(), format="yuv420p")
    fresh.colorspace, fresh.color_range = Colorspace.ITU709, ColorRange.MPEG
    rgb = fresh.reformat(format="rgb24", interpolation=TO_RGB).to_ndarray()
    return np.ascontiguousarray(rgb[: clip.height, : clip.width])


def _without_remarks(data: bytes) -> bytes:
    """Return an H.264 packet (Annex B: units behind start codes) without its SEI units."""
    units = [unit for unit in START_CODE.split(data) if unit]
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in units if unit[0] & 31 != SEI)
