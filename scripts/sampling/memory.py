"""The check, before any work, that clips can be sampled and decoded in the memory that is free."""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import TYPE_CHECKING

from vidgen.checkpoints.memory import describe_bytes, free_bytes
from vidgen.errors import VidgenError
from vidgen.models.pass_memory import TEXT_TOKENS, pass_bytes
from vidgen.models.placement import device_of
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.scripts.cli.printing import pluralize
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.streaming.chunks import Plan
from vidgen.tokenizers.streaming.memory_plan import HEADROOM, MemoryModel, plan_for_memory

if TYPE_CHECKING:
    from vidgen.pipelines.video import VideoPipeline

PER_TOKEN = 64  # float32 numbers that a pass holds at most, of each token by the network's width
PER_PIXEL = 1000  # the same of decoding, of each pixel of a latent frame's frames
GUIDED = 2  # sequences of a clip that a prior keeps at most: with the prompt, and without
PLENTY = 4  # where as much fits so many times over, nothing is counted


def check_sampling(
    pipe: VideoPipeline | PriorPipeline, size: tuple[int, int, int], batch: int, *, is_window: bool, decodes: bool
) -> None:
    """Raise VidgenError where sampling or decoding takes more memory than is free on the pipeline's device.

    Args:
        pipe: the pipeline to sample with.
        size: frames, height and width of a clip, or of a window of it.
        batch: clips sampled at once; they are decoded one after the other.
        is_window: whether `size` is that of a window, so that --window is the option to change.
        decodes: whether the clips are decoded too.
    """
    free = free_bytes(str(device_of(pipe.vae)))
    if free is None:
        return
    if isinstance(pipe, PriorPipeline):
        check_cache(pipe, size, batch, free)
    else:
        check_passes(pipe, size, batch, free, "--window" if is_window else "--num-frames")
    if decodes and isinstance(pipe.vae, VideoTokenizer):
        check_decoding(pipe.vae, size, free)


def check_latents(pipe: VideoPipeline | PriorPipeline, size: tuple[int, int, int]) -> None:
    """Raise VidgenError where the latents of a whole clip, which are held until it is written, are too many."""
    needed = 4 * math.prod(pipe.latent_shape(*size))
    free = free_bytes(str(device_of(pipe.vae)))
    if free is not None and needed > free:
        raise VidgenError(
            f"the latents of a clip of {'x'.join(map(str, size))} take {describe_bytes(needed)}, and "
            f"{describe_bytes(free)} are free; lower --num-frames"
        )


def check_passes(pipe: VideoPipeline, size: tuple[int, int, int], batch: int, free: int, length: str) -> None:
    """Raise VidgenError, with what would fit, where a pass over `batch` clips takes more than `free` bytes.

    `length` names the option that sets the frames. Networks that do not run without data are not judged.
    """
    shape = pipe.latent_shape(*size)
    tokens = pipe.tokens_of(shape) * shape[1] + TEXT_TOKENS
    if PLENTY * 4 * PER_TOKEN * pipe.transformer.config.width * tokens * batch <= free:
        return

    def pass_size(clips: int, latent_frames: int) -> int:
        c, _, h, w = shape
        return round(HEADROOM * pass_bytes(pipe.transformer, (c, latent_frames, h, w), clips))

    try:
        needed = pass_size(batch, shape[1])
    except (NotImplementedError, RuntimeError):  # a branch on numbers, of which there are none here
        return
    if needed <= free:
        return
    clips = bisect_right(range(1, batch), free, key=lambda n: pass_size(n, shape[1]))
    frames = 0 if clips else bisect_right(range(1, shape[1]), free, key=lambda n: pass_size(1, n))
    advice = "not even one frame of that size would fit; make it smaller"
    if clips:
        advice = f"--batch-size {clips} would fit"
    elif frames:
        longest = 1 + (frames - 1) * pipe.vae.config.temporal_compression_ratio
        advice = f"{length} {longest}{' with --batch-size 1' * (batch > 1)} would fit"
    clip = f"{batch} clips at once" if batch > 1 else "a clip"
    raise VidgenError(
        f"sampling {clip} of {'x'.join(map(str, size))} takes {describe_bytes(needed)} beside the weights, and "
        f"{describe_bytes(free)} are free; {advice}"
    )


def check_cache(pipe: PriorPipeline, size: tuple[int, int, int], batch: int, free: int) -> None:
    """Raise VidgenError where the keys and values of a window of clips, or their masks, take more than `free` bytes."""
    config, (frames, rows, columns) = pipe.prior.config, pipe.grid_of(size)
    usual = config.window or pipe.vae.latent_frames(pipe.scheduler.num_frames)
    tokens = min(frames, usual) * rows * columns * config.codes + config.words
    needed = 4 * GUIDED * 2 * config.depth * config.width * tokens * batch
    if config.order == "random":  # by the decoders of masked priors each clip has a mask of its own, and its bias
        needed += 5 * tokens**2 * batch
    if needed > free:
        raise VidgenError(
            f"what a prior keeps of {pluralize(batch, 'clip')} of {'x'.join(map(str, size))} takes "
            f"{describe_bytes(needed)}, and {describe_bytes(free)} are free; make them smaller, or lower --batch-size"
        )


def check_decoding(vae: VideoTokenizer, size: tuple[int, int, int], free: int) -> None:
    """Raise VidgenError where decoding one latent frame takes more than `free` bytes."""
    _, height, width = size
    if PLENTY * 4 * PER_PIXEL * vae.config.temporal_compression_ratio * height * width <= free:
        return
    model = MemoryModel(vae)
    needed = model.peak("decode", height, width, Plan(latents=1)) - model.weights
    if needed <= free:
        return
    plan_for_memory(vae, height, width, max_bytes=free + model.weights, task="decode", model=model)
    raise VidgenError(
        f"decoding frames of {height}x{width} takes {describe_bytes(needed)}, and {describe_bytes(free)} are free; in "
        "tiles they would fit: add --output-type latent, then `vidgen tokenizer decode FILE --max-memory "
        f"{describe_bytes(free + model.weights)}`"
    )
