"""`vidgen restore`: a clip from what a known loss has left of it: pixels, sharpness, colour, or parts of frames."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidgen.errors import VideoError, VidgenError
from vidgen.scripts.cli.conditioning import NEW_FROM, PictureFitOption, frames_of
from vidgen.scripts.cli.guidance import GuidanceScaleOption
from vidgen.scripts.cli.options import (
    DeviceOption,
    Dtype,
    JsonOption,
    ModelOption,
    SeedOption,
    check_rate,
    find_device,
    find_dtype,
)
from vidgen.scripts.cli.outputs import check_frames, check_output, output_kind
from vidgen.scripts.cli.printing import describe_memory, note, peak_memory_mb, print_json, progress

if TYPE_CHECKING:
    from torch import Tensor

    from vidgen.samplers.conditioning.degradations import Degradation

Task = Literal["super_resolution", "deblurring", "colourising", "inpainting"]


def restore(
    source: Annotated[Path, typer.Argument(metavar="CLIP", help="A video, an image, or a folder of frames.")],
    task: Annotated[Task, typer.Option("--task", help="What was lost.")],
    prompt: Annotated[str, typer.Option("--prompt", help="What the clip shows.")] = "",
    output: Annotated[
        Path, typer.Option("-o", "--output", help="File to write (.mp4 .mkv .gif .webp, or a folder for png).")
    ] = Path("restored.mp4"),
    model: ModelOption = "default",
    scale: Annotated[int, typer.Option("--scale", min=1, help="Of super_resolution: each way.")] = 4,
    sigma: Annotated[float, typer.Option("--sigma", help="Of deblurring: the Gaussian's, in pixels.")] = 1.5,
    mask: Annotated[
        Path | None, typer.Option("--mask", metavar="FILE", help="Of inpainting: image or video, lost where white.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(min=1, help="Of the result; default: the model's, as for width.")
    ] = None,
    width: Annotated[int | None, typer.Option(min=1)] = None,
    fps: Annotated[
        float | None, typer.Option("--fps", help="Rate that frames are taken at; default: the model's.")
    ] = None,
    fit: PictureFitOption = "crop",
    strength: Annotated[
        float, typer.Option("--strength", help="Below 1: start from the clip at that noise level.")
    ] = 1.0,
    num_inference_steps: Annotated[int | None, typer.Option(min=1, help="Default: the model's.")] = None,
    guidance_scale: GuidanceScaleOption = None,
    sampler: Annotated[str | None, typer.Option(help="Default: the model's.")] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Precision of the networks.")] = "float32",
    json: JsonOption = False,
) -> None:
    """Restore the first frames of a clip, as many as the model makes at once, without training for it.

    What is left of the clip stays as it is: means of pixels, low frequencies, greys, or whole pixels; the model makes
    the rest. Example: vidgen restore small.mp4 --task super_resolution --prompt "a red circle moves right"
    """
    started = time.perf_counter()
    check_rate(fps)
    kind = output_kind(output, None)
    if kind == "latent":
        raise VidgenError(f"{output}: restored clips are pixels; name a video, or a folder for png frames")
    if (task == "inpainting") != (mask is not None):
        raise VidgenError("--mask says what inpainting is to fill: give it with --task inpainting, and with no other")
    check_output(output, folder=output.suffix == "")
    for path in (source, mask):
        if path is not None and not path.exists():
            raise VideoError(f"{path}: no such file or folder; check the path")

    from vidgen.data.writing import write_video
    from vidgen.pipelines.loading import load_pipeline
    from vidgen.pipelines.restoration import restore as restore_clip
    from vidgen.samplers.conditioning.inpainting import check_strength

    check_strength(strength)
    where = find_device(device)
    pipe = load_pipeline(model, device=where, dtype=find_dtype(dtype, where))
    s = pipe.scheduler
    size, rate = (height or s.height, width or s.width), fps or s.fps
    pipe.latent_shape(1, *size)
    degraded, degradation = read_degraded(
        source, task, size, rate, s.num_frames, scale=scale, sigma=sigma, mask=mask, fit=fit
    )
    check_frames(output, degraded.shape[2])
    settings = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale, "sampler": sampler}
    steps = num_inference_steps or s.num_inference_steps
    with progress(output.name, steps) as moved:
        out = restore_clip(
            pipe,
            prompt,
            degraded,
            degradation,
            strength=strength,
            seed=seed,
            callback_on_step_end=lambda step, x, x0: moved(step + 1),
            **settings,
        )
    write_video(out.frames[0], output, fps=rate)
    frames, seconds = len(out.frames[0]), time.perf_counter() - started
    if json:
        about = {
            "model": model,
            "task": task,
            "prompt": prompt,
            "seed": seed,
            "path": str(output),
            "num_frames": frames,
        }
        print_json({**about, "seconds": round(seconds, 3), "peak_mb": peak_memory_mb()})
        return
    print(f"{output}: {frames} frames of {size[0]}x{size[1]}, {seconds:.1f} s{describe_memory()}", file=sys.stdout)


def read_degraded(
    source: Path,
    task: Task,
    size: tuple[int, int],
    fps: float,
    most: int,
    *,
    scale: int,
    sigma: float,
    mask: Path | None,
    fit: Any,
) -> tuple[Tensor, Degradation]:
    """What is left of a clip of `size` (height, width), (1, channels, t, h, w), and the way it lost the rest.

    At most `most` frames are read, and it is said if there are more. VidgenError for files that cannot be read, a scale
    that does not divide the size, and a mask of another length.
    """
    import numpy as np
    import torch

    from vidgen.data.frames import to_tensor
    from vidgen.samplers.conditioning.degradations import Blur, Downsample, Grayscale, Mask

    if task == "super_resolution" and (size[0] % scale or size[1] % scale):
        raise VidgenError(f"--scale {scale} does not divide {size[0]}x{size[1]}; choose --height and --width")
    seen = (size[0] // scale, size[1] // scale) if task == "super_resolution" else size
    frames = np.stack(list(frames_of(source, fps, seen, fit, most + 1)))
    if len(frames) > most:
        note(f"{source}: the first {most} frames are restored, which is what the model makes at once")
    pixels = to_tensor(frames[:most])[None]
    if task == "super_resolution":
        return pixels, Downsample(scale)
    if task == "deblurring":
        return pixels, Blur(sigma)
    if task == "colourising":
        return Grayscale().apply(pixels), Grayscale()
    grey = np.stack(list(frames_of(mask, fps, size, fit, pixels.shape[2]))).mean(-1) >= NEW_FROM
    if len(grey) not in (1, pixels.shape[2]):
        raise VidgenError(f"{mask}: {len(grey)} frames for a clip of {pixels.shape[2]}; give one image, or as many")
    gaps = Mask(torch.from_numpy(grey[0] if len(grey) == 1 else grey))
    return gaps.apply(pixels), gaps


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("restore")
