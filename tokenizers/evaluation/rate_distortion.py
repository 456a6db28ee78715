"""Rate and distortion of a tokenizer beside video codecs, on the same frames and at the same rates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.data.video_codecs import CODECS, Codec, compress, decompress
from vidgen.errors import VidgenError
from vidgen.interfaces import Tokenizer
from vidgen.metrics.clip_metrics import ClipMetrics, ClipScore
from vidgen.metrics.entropy_coding import RANGE_BITS, adaptive_bits, entropy, interpolate_rate
from vidgen.metrics.intervals import METHOD, mean_interval
from vidgen.tokenizers.evaluation.token_usage import codebook_size, symbol_streams
from vidgen.tokenizers.streaming.chunks import decode_stream, encode_tokens

PIECE = 16  # frames that are compared at once
RATES = {
    "raw_bpp": "stored as they are: ceil(log2 K) bits a token of K; 16 bits a latent; ceil(log2 levels) bits a rounded "
    "latent, levels counted channel by channel in the clip",
    "entropy_bpp": "order-0 empirical entropy, by channel or codebook, of the clip's own symbols; their table is not "
    "counted, so a lower bound for a static coder",
    "coded_bpp": "an adaptive order-0 arithmetic coder by channel, codebook, or digit of an implicit codebook "
    "(Krichevsky-Trofimov), ranges included: decodable; the rate at which codecs are compared",
    "prior": "the point of that name: the same tokens, coded_bpp by the law of a prior over them, exactly, and 32 bits "
    "for the end of the stream",
    "codecs": "all packets of the stream without the container or the encoder's remarks; 8-bit 4:2:0, one pass, CRF",
    "matched": "each clip's codec curve, linear in log rate, at the coded rate of that clip; no extrapolation",
}


PRIOR_POINT = "tokens by the prior"  # the point of tokens that a prior codes
TokenBits = Callable[[Tensor], float]  # of indices (1, t, h, w), or (1, t, h, w, q)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """steps: sizes of the uniform quantizer for continuous latents, in standard deviations of a channel; codecs;
    token_bits: what the indices of a clip take by a prior, where there is one."""

    steps: tuple[float, ...] = (2.0, 1.0, 0.5, 0.25)
    codecs: tuple[Codec, ...] = tuple(CODECS.values())
    token_bits: TokenBits | None = None


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """Latents as a decoder would get them, and what they cost in bits."""

    name: str
    latents: Float[Tensor, "1 c t h w"]
    raw_bits: float
    entropy_bits: float
    coded_bits: float


def round_latents(latents: Float[Tensor, "1 c t h w"], step: float) -> OperatingPoint:
    """Return latents at multiples of `step` (uniform scalar quantization), coded by a histogram for each channel."""
    levels = torch.round(latents.float() / step)
    raw = bits = coded = 0.0
    for channel in rearrange(levels, "1 c t h w -> c (t h w)").cpu().numpy().astype(np.int64):
        alphabet = int(channel.max() - channel.min()) + 1
        raw += len(channel) * (alphabet - 1).bit_length() + RANGE_BITS
        bits += len(channel) * entropy(channel)
        coded += adaptive_bits(channel, alphabet) + RANGE_BITS
    rounded = (levels * step).to(latents.dtype)
    return OperatingPoint(name=f"step {step:g}", latents=rounded, raw_bits=raw, entropy_bits=bits, coded_bits=coded)


def half_precision(latents: Float[Tensor, "1 c t h w"]) -> OperatingPoint:
    """Return latents as bfloat16 numbers, 16 bits each, and no more to be had by coding."""
    bits = 16.0 * latents.numel()
    rounded = latents.to(torch.bfloat16).to(latents.dtype)
    return OperatingPoint(name="bfloat16", latents=rounded, raw_bits=bits, entropy_bits=bits, coded_bits=bits)


def operating_points(
    tokenizer: Tokenizer,
    frames: Sequence[UInt8[np.ndarray, "h w 3"]],
    steps: Sequence[float],
    token_bits: TokenBits | None = None,
) -> Iterator[OperatingPoint]:
    """Yield one point, "tokens", for a discrete tokenizer, and with `token_bits` another of the same tokens; for a
    continuous one every step, and "bfloat16"."""
    pieces = list(encode_tokens(tokenizer, frames))
    latents = torch.cat([piece.latents for piece in pieces], dim=2)
    if pieces[0].indices is None:
        yield from (round_latents(latents, step) for step in steps)
        yield half_precision(latents)
        return
    books, size = symbol_streams([piece.indices for piece in pieces]), codebook_size(tokenizer)
    point = OperatingPoint(
        name="tokens",
        latents=latents,
        raw_bits=float(books.size * (size - 1).bit_length()),
        entropy_bits=sum(len(book) * entropy(book) for book in books),
        coded_bits=sum(code_tokens(book, size, tokenizer.bottleneck.levels) for book in books),
    )
    yield point
    if token_bits is not None:
        bits = token_bits(torch.cat([piece.indices for piece in pieces], dim=1))
        yield replace(point, name=PRIOR_POINT, coded_bits=bits)


def code_tokens(book: Int[np.ndarray, " n"], size: int, levels: Sequence[int] = ()) -> float:
    """Return the bits of the adaptive coder for the tokens of one codebook.

    It codes whole indices, or, of an implicit codebook, digit by digit (digit i has `levels[i]` levels, the first one
    changes fastest), whichever is less; one bit says which.
    """
    whole = adaptive_bits(book, size)
    digits = 0.0
    rest = book
    for level in levels:
        digits += adaptive_bits(rest % level, level)
        rest = rest // level
    return 1.0 + min(whole, digits) if levels else whole


def measure_rates(
    tokenizer: Tokenizer, frames: Sequence[UInt8[np.ndarray, "h w 3"]], fps: float, sweep: Sweep
) -> dict[str, Any]:
    """Return the curves of one clip.

    "points" of the tokenizer, each with what codecs reach at its coded rate ("matched"), "codecs" {name: [{"crf",
    "bpp", "psnr", "ssim"}]}, and "refused" {codec: why}.
    """
    height, width = frames[0].shape[:2]
    pixels = len(frames) * height * width
    curves: dict[str, list[dict[str, float]]] = {}
    refused: dict[str, str] = {}
    for codec in sweep.codecs:
        try:
            curves[codec.name] = codec_curve(frames, fps, codec)
        except VidgenError as error:
            refused[codec.name] = str(error)
    points = []
    size = {"num_frames": len(frames), "height": height, "width": width}
    latents = None
    for point in operating_points(tokenizer, frames, sweep.steps, sweep.token_bits):
        if point.latents is not latents:  # else they are those of the point before
            latents = point.latents
            score = score_pieces(frames, decode_stream(tokenizer, latents, **size))
        row: dict[str, Any] = {"name": point.name, "raw_bpp": point.raw_bits / pixels}
        row |= {"entropy_bpp": point.entropy_bits / pixels, "coded_bpp": point.coded_bits / pixels}
        row |= {"psnr": score.psnr, "ssim": score.ssim}
        row["matched"] = {name: match(curve, row["coded_bpp"]) for name, curve in curves.items()}
        points.append(row)
    return {"points": points, "codecs": curves, "refused": refused}


def codec_curve(frames: Sequence[UInt8[np.ndarray, "h w 3"]], fps: float, codec: Codec) -> list[dict[str, float]]:
    """Return rate and quality at every CRF of the codec's sweep. Raises VidgenError where it refuses the frames."""
    pixels = len(frames) * frames[0].shape[0] * frames[0].shape[1]
    curve = []
    for crf in codec.sweep:
        clip = compress(frames, codec, crf=crf, fps=fps)
        score = score_pieces(frames, _stacked(decompress(clip)))
        curve.append({"crf": crf, "bpp": clip.bits / pixels, "psnr": score.psnr, "ssim": score.ssim})
    return curve


def match(curve: Sequence[dict[str, float]], rate: float) -> dict[str, float] | None:
    """Return PSNR and SSIM of a codec's curve at a rate in bits per pixel; None outside of the curve."""
    rates = [point["bpp"] for point in curve]
    scores = {}
    for name in ("psnr", "ssim"):
        values = [point[name] for point in curve]
        scores[name] = None if None in values else interpolate_rate(rates, values, rate)
    return None if scores["psnr"] is None else scores


def score_pieces(frames: Sequence[UInt8[np.ndarray, "h w 3"]], pieces: Iterable[Float[Tensor, "3 k h w"]]) -> ClipScore:
    """Return PSNR and SSIM of a clip that comes in pieces. Raises VidgenError if it has another number of frames."""
    meter = ClipMetrics(multiscale=False)
    done = 0
    for piece in pieces:
        for part in piece.split(PIECE, dim=1):
            originals = frames[done : done + part.shape[1]]
            done += part.shape[1]
            if done <= len(frames):
                meter.add(to_tensor(np.stack(originals)).to(part.device), part)
    if done != len(frames):
        raise VidgenError(f"{done} frames came back of {len(frames)}")
    return meter.score()


def _stacked(frames: Iterator[UInt8[np.ndarray, "h w 3"]]) -> Iterator[Float[Tensor, "3 k h w"]]:
    while piece := list(islice(frames, PIECE)):
        yield to_tensor(np.stack(piece))


def summarize_rates(clips: Sequence[dict[str, Any]], sweep: Sweep) -> dict[str, Any]:
    """Return means over clips: "points" and "codecs" (curves by CRF), "rates" (what each number means), and the clips.

    A point's "matched" {codec: {"psnr", "gain", "ci", "clips"}} counts the clips whose rate lies on the codec's curve:
    the codec's mean PSNR on them, how much better the tokenizer is (negative: worse), dB, and the interval of that.
    """
    names = [point["name"] for point in clips[0]["points"]]
    points = [_mean_point([clip["points"][k] for clip in clips], sweep) for k in range(len(names))]
    codecs = {}
    for codec in sweep.codecs:
        curves = [clip["codecs"][codec.name] for clip in clips if codec.name in clip["codecs"]]
        if curves:
            codecs[codec.name] = [_mean_of(at_crf) for at_crf in zip(*curves, strict=True)]
    return {"rates": RATES, "ci_method": METHOD, "points": points, "codecs": codecs, "clips": list(clips)}


def _mean_point(rows: Sequence[dict[str, Any]], sweep: Sweep) -> dict[str, Any]:
    plain = [{k: v for k, v in row.items() if k not in ("name", "matched")} for row in rows]
    matched = {}
    for codec in sweep.codecs:
        matches = [(row["psnr"], row["matched"].get(codec.name)) for row in rows]
        pairs = [(psnr, match["psnr"]) for psnr, match in matches if match]
        if pairs:
            gain = mean_interval([ours - theirs for ours, theirs in pairs])
            matched[codec.name] = {
                "psnr": mean_interval([theirs for _, theirs in pairs]).mean,
                "gain": gain.mean,
                "ci": None if gain.interval is None else list(gain.interval),
                "clips": gain.n,
            }
    return {"name": rows[0]["name"], **_mean_of(plain), "matched": matched, "clips": len(rows)}


def _mean_of(rows: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of every key; None where a row has none."""
    values = {key: [row[key] for row in rows] for key in rows[0]}
    return {key: None if None in column else float(np.mean(column)) for key, column in values.items()}
