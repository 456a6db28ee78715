"""`vidgen sample`: clips from prompts."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.failures import explain
from vidgen.scripts.options import DeviceOption, Dtype, JsonOption, ModelOption, check_rate, find_device, find_dtype
from vidgen.scripts.outputs import beside, check_frames, check_output, output_kind, plan_outputs
from vidgen.scripts.reporting import describe_memory, note, peak_memory_mb, print_json, progress

if TYPE_CHECKING:
    from torch import Tensor

    from vidgen.samplers.pipeline import VideoPipeline


@dataclass(frozen=True, kw_only=True)
class Job:
    """One clip to make: copy number `copy` of `prompt`, written to `output`, played at `fps`."""

    prompt: str
    copy: int
    output: Path
    fps: float


@dataclass(frozen=True, kw_only=True)
class Latents:
    """One clip before decoding, (1, c, t, h, w), and the size that decoding gives it."""

    latents: Tensor
    num_frames: int
    height: int
    width: int


def sample(
    prompt: Annotated[str | None, typer.Argument(help="What to show.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="File to write (.mp4 .mkv .gif .webp, a folder for png). Default: ./PROMPT.mp4"
        ),
    ] = None,
    model: ModelOption = "default",
    num_frames: Annotated[int | None, typer.Option(min=1, help="Default: the model's own, as for all below.")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Pixels.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second that the file plays at.")] = None,
    num_inference_steps: Annotated[int | None, typer.Option(min=1, help="More: slower, finer.")] = None,
    guidance_scale: Annotated[
        float | None, typer.Option(help="How strictly to follow the prompt; 1: no guidance.")
    ] = None,
    negative_prompt: Annotated[str, typer.Option(help="What guidance leads away from.")] = "",
    sampler: Annotated[str | None, typer.Option(help="A solver: `vidgen solvers orders` lists them.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same clip.")] = 0,
    num_videos_per_prompt: Annotated[int, typer.Option(min=1, help="Clips of each prompt: out-0.mp4, out-1.mp4.")] = 1,
    prompts_file: Annotated[
        Path | None, typer.Option(help="A text file, one prompt a line, instead of PROMPT.")
    ] = None,
    output_type: Annotated[
        Literal["mp4", "gif", "webp", "png", "latent"] | None,
        typer.Option(help="Default: by the suffix of -o, else mp4."),
    ] = None,
    keep_latents: Annotated[
        bool, typer.Option("--keep-latents", help="Leave OUT.latents.safetensors beside OUT.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips made at once.")] = 4,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Precision of the networks.")] = "float32",
    attention: Annotated[
        Literal["auto", "plain", "sdpa", "xformers"], typer.Option(help="How it is computed.")
    ] = "auto",
    json: JsonOption = False,
) -> None:
    """Make clips from a prompt, or from a file of prompts.

    Example: vidgen sample "a red circle moves right" -o circle.mp4 --seed 3
    """
    started = time.perf_counter()
    check_rate(fps)
    prompts = read_prompts(prompt, prompts_file)
    kind = output_kind(output, output_type)
    outputs = plan_outputs(prompts, num_videos_per_prompt, output, kind)
    for path in outputs:
        check_output(path, folder=path.suffix == "")

    from vidgen.samplers.pipeline import load_pipeline

    where = find_device(device)
    pipe = load_pipeline(model, device=where, dtype=find_dtype(dtype, where))
    pipe.transformer.set_attention(attention)
    pairs = [(text, copy) for text in prompts for copy in range(num_videos_per_prompt)]
    rate = fps or pipe.scheduler.fps
    jobs = [Job(prompt=p, copy=k, output=path, fps=rate) for (p, k), path in zip(pairs, outputs, strict=True)]
    size = (num_frames or pipe.scheduler.num_frames, height or pipe.scheduler.height, width or pipe.scheduler.width)
    check_frames(outputs[0], size[0])
    settings = {
        "negative_prompt": negative_prompt,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        "sampler": sampler,
    }
    for first in range(0, len(jobs), batch_size):
        batch = jobs[first : first + batch_size]
        clips = generate(pipe, batch, size, seed, settings)
        for job, clip in zip(batch, clips, strict=True):
            said = {"prompt": job.prompt, "seed": seed, "copy": job.copy, "model": model}
            finish(pipe, job, clip, said, kind, keep_latents)
    report(jobs, size, model, seed, time.perf_counter() - started, json)


def read_prompts(prompt: str | None, file: Path | None) -> list[str]:
    """The prompt, or the lines of the file. VidgenError for both, neither, or a file without text."""
    if (prompt is None) == (file is None):
        raise VidgenError('give a prompt, or --prompts-file FILE: vidgen sample "a red circle moves right"')
    if prompt is not None:
        return [prompt]
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise VidgenError(f"{file}: not a text file in UTF-8; one prompt a line is wanted") from None
    if not any(lines):
        raise VidgenError(f"{file}: no prompts in it; write one a line")
    return [line for line in lines if line]


def generate(
    pipe: VideoPipeline, jobs: list[Job], size: tuple[int, int, int], seed: int, settings: dict[str, Any]
) -> list[Latents]:
    """Latents of the jobs' clips, of `size` (frames, height, width); each depends on prompt, copy and seed alone."""
    from vidgen.noise import sample_generator

    steps = settings["num_inference_steps"] or pipe.scheduler.num_inference_steps
    what = f"{jobs[0].output.name} ..." if len(jobs) > 1 else jobs[0].output.name
    num_frames, height, width = size
    with progress(what, steps) as moved:
        made = pipe(
            [job.prompt for job in jobs],
            num_frames=num_frames,
            height=height,
            width=width,
            generator=[sample_generator(seed, job.copy) for job in jobs],
            output_type="latent",
            callback_on_step_end=lambda step, x, x0: moved(step + 1),
            **settings,
        ).latents
    return [Latents(latents=z[None], num_frames=num_frames, height=height, width=width) for z in made]


def finish(pipe: VideoPipeline, job: Job, clip: Latents, said: dict, kind: str, keep: bool) -> None:
    """Latents to disk, then decoded to a file beside them; where that fails, they stay, and the error says so."""
    from vidgen.data.writing import write_video
    from vidgen.tokenizers.files.token_writing import write_tokens

    kept = job.output if kind == "latent" else beside(job.output, ".latents.safetensors")
    write_tokens(kept, clip, pipe.vae, fps=job.fps, extra=said)
    if kind == "latent":
        return
    with latents_kept(kept, job.output, said["model"]):
        frames = pipe.decode(clip.latents, clip.num_frames, clip.height, clip.width)[0]
        write_video(frames, job.output, fps=job.fps)
    if not keep:
        kept.unlink()


@contextmanager
def latents_kept(kept: Path, output: Path, model: str) -> Iterator[None]:
    """Adds to whatever fails inside how to go on from the latents."""
    command = shlex.join(["vidgen", "tokenizer", "decode", str(kept), "--model", model, "-o", str(output)])
    hint = f"the latents are safe; go on with: {command}"
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; {hint}") from None
    except Exception as error:
        if (line := explain(error)) is not None:
            raise VidgenError(f"{line}; {hint}") from error
        note(hint)
        raise


def report(jobs: list[Job], size: tuple[int, int, int], model: str, seed: int, seconds: float, as_json: bool) -> None:
    frames, height, width = size
    if as_json:
        shape = {"num_frames": frames, "height": height, "width": width}
        clips = [{"path": str(j.output), "prompt": j.prompt, "copy": j.copy, "fps": j.fps, **shape} for j in jobs]
        seconds = round(seconds, 3)
        print_json({"model": model, "seed": seed, "seconds": seconds, "peak_mb": peak_memory_mb(), "clips": clips})
        return
    names = str(jobs[0].output) if len(jobs) == 1 else f"{jobs[0].output} ... {jobs[-1].output} ({len(jobs)} clips)"
    print(f"{names}: {frames} frames of {height}x{width}, {seconds:.1f} s{describe_memory()}", file=sys.stdout)


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("sample")
