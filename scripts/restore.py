"""`vidgen restore`: a clip from what a known loss has left of it: pixels, sharpness, colour, or parts of frames."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vidgen.bounds import SIDE
from vidgen.errors import VideoError, VidgenError
from vidgen.scripts.cli.conditioning import MASKED_FROM, FrameFitOption, read_frames
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.option_sets import HardwareOptions, SamplerOptions, with_option_sets
from vidgen.scripts.cli.options import Fit, JsonOption, ModelFpsOption, ModelOption, SeedOption
from vidgen.scripts.cli.outputs import check_frames, check_output, output_kind
from vidgen.scripts.cli.printing import describe_memory, note, peak_memory_mb, pluralize, print_json, progress

if TYPE_CHECKING:
    from torch import Tensor

    from vidgen.pipelines.video import VideoPipeline
    from vidgen.samplers.conditioning.degradations import Degradation

MOST_TIMES = 4  # the model's usual pixels; the default one at 16 times as many is behind bicubic interpolation
SIDE_HELP = (
    "{} of the result in pixels. Default: the model's, or for super_resolution --scale times the clip's, where that is "
    f"at most {MOST_TIMES} times as many pixels as the model's."
)
Task = Literal["super_resolution", "deblurring", "colorization", "inpainting"]
By = Literal["projection", "task", "both"]
BY_HELP = (
    "projection: any model, and what is left of the clip stays as it is. task: a model that was trained for --task "
    "(recipe key tasks), faster, and nothing stays for certain. Default: both where the model was trained for it, "
    "else projection. A model that is shown the clip (task, both, but for inpainting) has no guidance unless "
    "--guidance-scale says so."
)


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """What a clip has lost, and how."""

    task: Annotated[Task, typer.Option(help="What to bring back: resolution, sharpness, colour, or parts of frames.")]
    scale: Annotated[int, typer.Option(min=1, max=10**6, help="super_resolution: how many times larger, each way.")] = 4
    sigma: Annotated[
        float, typer.Option(min=0.0, max=1000.0, help="deblurring: standard deviation of the Gaussian blur, in pixels.")
    ] = 1.5
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="inpainting: image or video, white where pixels are lost.")
    ] = None

    def check(self) -> None:
        """Raise VidgenError for a mask without inpainting, and for inpainting without one."""
        if (self.task == "inpainting") != (self.mask is not None):
            raise VidgenError(
                "--mask says what inpainting is to fill: give it with --task inpainting, and with no other"
            )


@with_option_sets
def restore(
    *,
    source: Annotated[Path, typer.Argument(metavar="CLIP", help="A video, an image, or a folder of frames.")],
    loss: LossOptions,
    prompt: Annotated[str, typer.Option(help="What the clip shows, in words.")] = "",
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File to write (.mp4 .mkv .gif .webp), or a folder for png frames.")
    ] = Path("restored.mp4"),
    model: ModelOption = "default",
    height: Annotated[int | None, typer.Option(**SIDE.limits, help=SIDE_HELP.format("Height"))] = None,
    width: Annotated[int | None, typer.Option(**SIDE.limits, help=SIDE_HELP.format("Width"))] = None,
    fps: ModelFpsOption = None,
    fit: FrameFitOption = "crop",
    by: Annotated[By | None, typer.Option(help=BY_HELP)] = None,
    strength: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Noise level to start from: 1 starts from noise alone, less from the clip itself."
        ),
    ] = 1.0,
    sampling: SamplerOptions,
    seed: SeedOption = 0,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Restore the first frames of a clip, as many as the model makes at once; it need not be trained for it.

    What is left of the clip stays as it is: means of pixels, low frequencies, grays, or whole pixels; the model makes
    the rest. One that was trained for the task is shown the clip as well.
    Example: vidgen restore small.mp4 --task super_resolution --prompt "a red circle moves right"
    """
    started = time.perf_counter()
    if output_kind(output, None) == "latent":
        raise VidgenError(f"{output}: restored clips are pixels; name a video, or a folder for png frames")
    loss.check()
    check_output(output, folder=output.suffix == "")
    for path in (source, loss.mask):
        if path is not None and not path.exists():
            raise VideoError(f"{path}: no such file or folder; check the path")

    from vidgen.data.writing import write_video
    from vidgen.pipelines.loading import load_pipeline
    from vidgen.pipelines.restoration import choose_method, sampled_frames
    from vidgen.pipelines.restoration import restore as restore_clip
    from vidgen.samplers.conditioning.frame_conditioning import check_strength
    from vidgen.samplers.conditioning.generation_tasks import RESTORATIONS
    from vidgen.scripts.sampling.memory import check_sampling

    check_strength(strength)
    pipe = load_pipeline(model, **hardware.settings())
    scheduler = pipe.scheduler
    rate = fps or scheduler.fps
    size = choose_size(pipe, source, loss, (height, width), rate)
    pipe.latent_shape(1, *size)
    degraded, degradation = read_degraded(source, loss, size, rate, scheduler.num_frames, fit)
    check_frames(output, degraded.shape[2])
    by = choose_method(pipe, degradation, by)
    trained = RESTORATIONS.get(loss.task, degradation)
    if by != "projection" and trained != degradation:
        note(f"{loss.task} was trained by {trained}, and this is {degradation}; --by projection is for any")
    frames_at_once = sampled_frames(pipe, degradation, degraded.shape[2], by)
    check_sampling(pipe, (frames_at_once, *size), 1, is_window=False, decodes=True)
    with progress(output.name, sampling.used(scheduler)["num_inference_steps"]) as advance:
        result = restore_clip(
            pipe,
            prompt,
            degraded,
            degradation,
            by=by,
            strength=strength,
            seed=seed,
            callback_on_step_end=lambda step, x, x0: advance(step + 1),
            **sampling.settings(),
        )
    frames = result.frames[0]
    write_video(frames, output, fps=rate)
    seconds = time.perf_counter() - started
    if json:
        report = {"model": model, "task": loss.task, "by": by, "prompt": prompt, "seed": seed, "path": str(output)}
        report |= {"num_frames": len(frames), "seconds": round(seconds, 3), "peak_mb": peak_memory_mb()}
        print_json(report)
        return
    clip = f"{pluralize(len(frames), 'frame')} of {size[0]}x{size[1]}"
    print(f"{output}: {clip}, {describe_method(by)}, {seconds:.1f} s{describe_memory()}")


def describe_method(by: By) -> str:
    """Return in words how a clip was restored."""
    return {"task": "by the trained task", "both": "by the trained task and projection"}.get(by, "by projection")


def choose_size(
    pipe: VideoPipeline, source: Path, loss: LossOptions, asked: tuple[int | None, int | None], fps: float
) -> tuple[int, int]:
    """Return height and width of the restored clip: what is asked for, else the model's own, or for super_resolution
    the clip's times the scale, as near as the model takes it, where that is at most `MOST_TIMES` the model's pixels.

    A line on stderr says where the clip is made smaller for that, and what to ask for instead.
    """
    is_enlarged = loss.task == "super_resolution"
    scale = loss.scale if is_enlarged else 1
    frame = next(read_frames(source, fps, None, "stretch", 1)).shape[:2]
    unit = math.lcm(pipe.size_multiple, scale)
    whole = [max(1, round(side * scale / unit)) * unit for side in frame]
    usual = [pipe.scheduler.height, pipe.scheduler.width]
    if is_enlarged and math.prod(whole) <= MOST_TIMES * math.prod(usual):
        usual = whole
    height, width = (value or default for value, default in zip(asked, usual, strict=True))
    if height < frame[0] * scale or width < frame[1] * scale:
        first = f"resized to {height // scale}x{width // scale} first, and restored to {height}x{width}"
        times = math.prod(whole) / (height * width)
        advice = f"; to keep all of it add --height {whole[0]} --width {whole[1]}, {times:.3g} times the pixels"
        note(f"{source}: frames of {frame[0]}x{frame[1]} are {first}{advice * ([height, width] != whole)}")
    return height, width


def read_degraded(
    source: Path, loss: LossOptions, size: tuple[int, int], fps: float, max_frames: int, fit: Fit
) -> tuple[Tensor, Degradation]:
    """Return what is left of a clip, (1, channels, t, h, w), and the way it lost the rest.

    Raises VidgenError for files that cannot be read, a scale that does not divide the size, and a mask of another
    length.

    Args:
        source: the clip, a video, an image or a folder of frames.
        loss: what it has lost.
        size: height and width of the restored clip.
        fps: the rate that frames are taken at.
        max_frames: the most frames that are read; where there are more, a line on stderr says so.
        fit: how frames get to the size.
    """
    import numpy as np
    import torch

    from vidgen.data.frames import to_tensor
    from vidgen.samplers.conditioning.degradations import Blur, Downsample, Grayscale, Mask

    task = loss.task
    scale = loss.scale if task == "super_resolution" else 1
    if size[0] % scale or size[1] % scale:
        raise VidgenError(f"--scale {scale} does not divide {size[0]}x{size[1]}; choose --height and --width")
    frames = np.stack(list(read_frames(source, fps, (size[0] // scale, size[1] // scale), fit, max_frames + 1)))
    if len(frames) > max_frames:
        note(f"{source}: the first {max_frames} frames are restored, which is what the model makes at once")
    pixels = to_tensor(frames[:max_frames])[None]
    if task == "super_resolution":
        return pixels, Downsample(scale)
    if task == "deblurring":
        return pixels, Blur(loss.sigma)
    if task == "colorization":
        return Grayscale().apply(pixels), Grayscale()
    num_frames = pixels.shape[2]
    is_lost = np.stack(list(read_frames(loss.mask, fps, size, fit, num_frames))).mean(-1) >= MASKED_FROM
    if len(is_lost) not in (1, num_frames):
        raise VidgenError(f"{loss.mask}: {len(is_lost)} frames for a clip of {num_frames}; give one image, or as many")
    mask = Mask(torch.from_numpy(is_lost[0] if len(is_lost) == 1 else is_lost))
    return mask.apply(pixels), mask


if __name__ == "__main__":
    run_verb("restore", restore)
