"""`vidgen bench tokenizer`: encoding and decoding beside autoencoders of diffusers, Wan's own, and a training step."""

from __future__ import annotations

from collections.abc import Iterator

from vidgen.errors import VidgenError
from vidgen.scripts.benches.bench_rows import BenchSettings, Row
from vidgen.scripts.benches.diffusers_autoencoders import PEERS as AUTOENCODERS
from vidgen.scripts.benches.diffusers_autoencoders import ClipSize
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.tokenizer_comparison import Sizes, TokenizerComparison
from vidgen.scripts.benches.training import TrainingCase, measure_training
from vidgen.scripts.benches.wan_autoencoder import measure_autoencoder

CASES = ("encode", "decode", "train", "wan")
PEERS = tuple(AUTOENCODERS)


def square(frames: int, side: int) -> ClipSize:
    """Return the size of a clip of square frames."""
    return ClipSize(frames=frames, height=side, width=side)


FULL = Sizes(short=square(17, 256), base=square(100, 256), long=square(1000, 256))
QUICK = Sizes(short=square(5, 32), base=square(9, 32), long=square(16, 32))


def measure(settings: BenchSettings, machine: Machine) -> Iterator[Row]:
    """Yield the rows of the chosen cases and peers, as they are done. Raises VidgenError for what cannot be run."""
    cases = CASES if settings.only is None else settings.only
    if "train" in cases and settings.dtype == "float16":
        raise VidgenError("--dtype float16: nothing is trained in it; give another, or --only encode,decode")
    ways = [case for case in ("encode", "decode") if case in cases]
    if ways:
        sizes = QUICK if settings.quick else FULL
        comparison = TokenizerComparison(settings, machine, sizes, PEERS if settings.peers is None else settings.peers)
        for way in ways:
            yield from comparison.rows(way)
    if "wan" in cases:
        yield from measure_autoencoder(settings, machine, with_peer=settings.peers is None or "wan" in settings.peers)
    if "train" in cases:
        small = {"batch_size": 2, "num_frames": 5, "side": 32} if settings.quick else {}
        case = TrainingCase(device=settings.device, autocast=settings.dtype, **small)
        yield measure_training(case, settings, machine)
