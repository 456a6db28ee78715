"""`--max-memory`: how its words are read, and the plan that keeps within it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from vidgen.errors import VidgenError
from vidgen.profiling.peak_memory import resident_bytes
from vidgen.scripts.cli.printing import note

if TYPE_CHECKING:
    from vidgen.tokenizers.model import VideoTokenizer
    from vidgen.tokenizers.streaming.chunks import Plan, Planner
    from vidgen.tokenizers.streaming.memory_plan import Task

MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="4GB",
        help="Work in chunks and tiles that need no more memory, of the process, or of the GPU where it computes.",
    ),
]
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
# What a process takes beside the plan, guessed on the safe side and not measured one by one: threads, kernels' code and
# buffers of their own; and, a pixel of a frame, what writing a video holds (x264 looks 40 frames ahead). Reading has
# begun before anything is planned, and counts as there already.
RUNTIME_BYTES = 96 * 2**20
CODEC_BYTES: dict[Task, int] = {"encode": 16, "decode": 128, "reconstruct": 144}

# Where so many bytes are free for each pixel of a chunk, nothing is counted; a frame takes so many, uint8 and float32.
PER_PIXEL = 1000
FRAME_BYTES = 15
TASK_NAMES: dict[Task, str] = {"encode": "encoding", "decode": "decoding", "reconstruct": "reconstructing"}


def parse_bytes(text: str | None, option: str = "--max-memory") -> int | None:
    """Return "4GB", "512MiB" or "1.5e9" in bytes; None stays None. Raises VidgenError for anything else."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:[eE]\+?\d+)?)\s*([KMGT]?I?)B?\s*", text, re.IGNORECASE)
    unit = _UNITS.get(match[2].upper()) if match else None
    count = float(match[1]) * unit if unit else 0
    if not 1 <= count < 2**60:
        raise VidgenError(f"{option} {text!r} is not an amount of memory; give some such as 4GB or 800MB")
    return int(count)


def make_planner(tokenizer: VideoTokenizer, limit: int | None, task: Task) -> Planner:
    """Return the function that plans a clip of some size: the default one, or one that keeps to `limit` bytes.

    It raises VidgenError for a size of which one chunk takes more memory than is free.
    """
    if limit is None:
        return lambda tokenizer, height, width: plan_in_free_memory(tokenizer, height, width, task)
    if not tokenizer.streams:
        raise VidgenError(f"--max-memory: {tokenizer.config.name} takes a clip in one go; shorten or shrink the clip")

    import torch

    from vidgen.models.placement import device_of
    from vidgen.tokenizers.streaming.memory_plan import MemoryModel, plan_for_memory

    model = MemoryModel(tokenizer)
    plans: dict[tuple[int, int], Plan] = {}
    device = device_of(tokenizer)

    def plan(_: VideoTokenizer, height: int, width: int) -> Plan:
        if (height, width) in plans:
            return plans[height, width]
        if device.type == "cuda":
            others = torch.cuda.memory_allocated(device) - model.weights
        else:
            others = resident_bytes() - model.weights + RUNTIME_BYTES + CODEC_BYTES[task] * height * width
        planned = plan_for_memory(
            tokenizer, height, width, max_bytes=limit, task=task, reserved=max(0, others), model=model
        )
        note(f"{height}x{width}: {describe_plan(planned, limit)}")
        plans[height, width] = planned
        return planned

    return plan


def plan_in_free_memory(tokenizer: VideoTokenizer, height: int, width: int, task: Task) -> Plan:
    """Return the default plan of a clip. Raises VidgenError, with what would fit, where it takes more than is free."""
    from vidgen.checkpoints.memory import check_bytes, describe_bytes, free_bytes
    from vidgen.models.placement import device_of
    from vidgen.tokenizers.model import VideoTokenizer
    from vidgen.tokenizers.streaming.chunks import plan_by_pixels
    from vidgen.tokenizers.streaming.memory_plan import MemoryModel, plan_for_memory

    plan = plan_by_pixels(tokenizer, height, width)
    device = str(device_of(tokenizer))
    free = free_bytes(device)
    frames = plan.latents * tokenizer.config.temporal_compression_ratio if tokenizer.streams else 1
    if free is None or PER_PIXEL * frames * height * width <= free:
        return plan
    what = f"{TASK_NAMES[task]} frames of {height}x{width}"
    smaller = "free some, or encode the clip at a smaller --size" if task == "decode" else "make them smaller (--size)"
    check_bytes(FRAME_BYTES * frames * height * width, what, smaller, device)
    if not (isinstance(tokenizer, VideoTokenizer) and tokenizer.streams):
        return plan
    model = MemoryModel(tokenizer)
    needed = model.peak(task, height, width, plan) - model.weights
    if needed > free:
        limit = free + model.weights
        plan_for_memory(tokenizer, height, width, max_bytes=limit, task=task, model=model)  # raises where nothing fits
        advice = f"in smaller pieces they would fit: add --max-memory {describe_bytes(limit)}, or {smaller}"
        check_bytes(needed, what, advice, device)
    return plan


def describe_plan(plan: Plan, limit: int) -> str:
    """Return a plan in words."""
    from vidgen.checkpoints.memory import describe_bytes
    from vidgen.tokenizers.streaming.tiles import BlendedTiles

    within = f"at most {describe_bytes(plan.peak_bytes)} of {describe_bytes(limit)}"
    if plan.tiles is None:
        return f"whole frames, {plan.latents} latent frames at a time, {within}"
    tiles = f"tiles of {plan.tiles.rows}x{plan.tiles.cols} latent cells, {within}"
    if isinstance(plan.tiles, BlendedTiles):
        return f"blended {tiles}; blending approximates, since this model attends beyond a tile"
    return f"exact {tiles}"
