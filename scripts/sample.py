"""`vidgen sample`: clips from prompts."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.conditioning import (
    ContextNoiseOption,
    ImageOption,
    LastImageOption,
    MaskOption,
    OverlapOption,
    PictureFitOption,
    ReferenceOption,
    Sources,
    StoryOption,
    StrengthOption,
    VideoOption,
    WindowOption,
    describe_story,
    read_story,
)
from vidgen.scripts.cli.guidance import (
    GuidanceIntervalOption,
    GuidanceOption,
    GuidancePassesOption,
    GuidanceRescaleOption,
    GuidanceScaleOption,
    GuidanceSettingOption,
    GuidanceWords,
)
from vidgen.scripts.cli.lora import LoraOption, describe_loras, find_loras, put_on
from vidgen.scripts.cli.options import (
    DeviceOption,
    Dtype,
    JsonOption,
    ModelOption,
    check_rate,
    find_device,
    find_dtype,
)
from vidgen.scripts.cli.outputs import check_frames, check_output, output_kind, plan_outputs
from vidgen.scripts.cli.printing import describe_memory, peak_memory_mb, print_json
from vidgen.scripts.cli.step_cache import CacheBoundOption, CacheByOption, describe_passes, read_caching
from vidgen.scripts.sample_jobs import Job, Run, finish, generate, make_long

if TYPE_CHECKING:
    pass


def sample(
    prompt: Annotated[str | None, typer.Argument(help="What to show.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="File to write (.mp4 .mkv .gif .webp, a folder for png). Default: ./PROMPT.mp4"
        ),
    ] = None,
    model: ModelOption = "default",
    lora: LoraOption = None,
    num_frames: Annotated[int | None, typer.Option(min=1, help="Default: the model's own, as for all below.")] = None,
    height: Annotated[int | None, typer.Option(min=1, help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option(min=1, help="Pixels.")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames a second that the file plays at.")] = None,
    num_inference_steps: Annotated[int | None, typer.Option(min=1, help="More: slower, finer.")] = None,
    guidance_scale: GuidanceScaleOption = None,
    guidance: GuidanceOption = "cfg",
    guidance_interval: GuidanceIntervalOption = None,
    guidance_rescale: GuidanceRescaleOption = None,
    guidance_passes: GuidancePassesOption = "auto",
    guidance_option: GuidanceSettingOption = None,
    cache_bound: CacheBoundOption = None,
    cache_by: CacheByOption = "first_block",
    negative_prompt: Annotated[str, typer.Option(help="What guidance leads away from.")] = "",
    sampler: Annotated[str | None, typer.Option(help="A solver: `vidgen solvers orders` lists them.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same clip.")] = 0,
    num_videos_per_prompt: Annotated[int, typer.Option(min=1, help="Clips of each prompt: out-0.mp4, out-1.mp4.")] = 1,
    prompts_file: Annotated[
        Path | None, typer.Option(help="A text file, one prompt a line, instead of PROMPT.")
    ] = None,
    image: ImageOption = None,
    last_image: LastImageOption = None,
    video: VideoOption = None,
    strength: StrengthOption = None,
    mask: MaskOption = None,
    reference: ReferenceOption = None,
    fit: PictureFitOption = "crop",
    story: StoryOption = None,
    window: WindowOption = None,
    overlap: OverlapOption = None,
    context_noise: ContextNoiseOption = 0.0,
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
    text_cache: Annotated[
        Literal["auto", "on", "off"], typer.Option(help="Keep encoded prompts on disk; auto: of large encoders.")
    ] = "auto",
    attention: Annotated[
        Literal["auto", "plain", "sdpa", "xformers"], typer.Option(help="How it is computed.")
    ] = "auto",
    json: JsonOption = False,
) -> None:
    """Make clips from a prompt, or from a file of prompts, and from images or a video.

    Example: vidgen sample "a red circle moves right" -o circle.mp4 --seed 3
    """
    started = time.perf_counter()
    check_rate(fps)
    pictures = {"image": image, "last_image": last_image, "reference": tuple(reference or ())}
    sources = Sources(**pictures, video=video, mask=mask, strength=strength, fit=fit).checked()
    if story is not None and (prompt or prompts_file):
        raise VidgenError("--story has the prompts; leave PROMPT and --prompts-file out")
    if story is not None and sources.changes_video:
        raise VidgenError(
            "--story makes a long clip, and --strength and --mask change a video in one go; leave one out"
        )
    prompts = [story.stem] if story is not None else read_prompts(prompt, prompts_file)  # a story is named for its file
    kind = output_kind(output, output_type)
    outputs = plan_outputs(prompts, num_videos_per_prompt, output, kind)
    for path in outputs:
        check_output(path, folder=path.suffix == "")
    loras = find_loras(lora)

    from vidgen.models.text.cache import find_text_cache
    from vidgen.pipelines.loading import load_pipeline
    from vidgen.pipelines.rollout import WindowConfig
    from vidgen.scripts.cli.sampling_memory import check_sampling

    where = find_device(device)
    words = GuidanceWords(
        guidance=guidance,
        guidance_interval=guidance_interval,
        guidance_rescale=guidance_rescale,
        guidance_passes=guidance_passes,
        guidance_option=guidance_option,
    )
    precision = find_dtype(dtype, where)
    guiding, caching = words.read(where, precision), read_caching(cache_bound, cache_by)
    pipe = load_pipeline(model, device=where, dtype=precision)
    pipe.transformer.set_attention(attention)
    put_on(pipe, loras)
    pipe.text_cache = find_text_cache(pipe.text_encoder, text_cache)
    rate = fps or pipe.scheduler.fps
    if hasattr(pipe.transformer, "frame_rate"):  # of models that are told how fast a clip plays
        pipe.transformer.frame_rate = rate
    tale = None if story is None else read_story(story, rate)
    prompts = prompts if tale is None else [describe_story(tale)]
    pairs = [(text, copy) for text in prompts for copy in range(num_videos_per_prompt)]
    jobs = [Job(prompt=p, copy=k, output=path, fps=rate) for (p, k), path in zip(pairs, outputs, strict=True)]
    windows = WindowConfig(num_frames=window or pipe.scheduler.num_frames, overlap=overlap, context_noise=context_noise)
    length = num_frames or sources.length(windows.num_frames, rate) + (tale[-1][0] if tale else 0)
    size = (length, height or pipe.scheduler.height, width or pipe.scheduler.width)
    check_frames(outputs[0], size[0])
    run = Run(
        pipe=pipe,
        model=model,
        size=size,
        seed=seed,
        kind=kind,
        keep=keep_latents,
        windows=windows,
        settings={
            "negative_prompt": negative_prompt,
            "num_inference_steps": num_inference_steps,
            "guidance": guiding,
            "step_cache": caching,
            "guidance_scale": guidance_scale,
            "sampler": sampler,
        },
        given=sources.read(pipe, size, rate, windows),
        story=tale,
        loras=tuple(map(str, loras)),
    )
    long, drifts = length > windows.num_frames or tale is not None, []
    at_once = (min(length, windows.num_frames), *size[1:])
    check_sampling(pipe, at_once, 1 if long else min(batch_size, len(jobs)), long=long, decodes=kind != "latent")
    if long:
        drifts = [make_long(run, job) for job in jobs]
    else:
        for first in range(0, len(jobs), batch_size):
            batch = jobs[first : first + batch_size]
            for job, clip in zip(batch, generate(run, batch), strict=True):
                finish(run, job, clip)
    about = {"model": model, **describe_loras(loras), "seed": seed, **describe_passes(caching)}
    seconds, skipped = time.perf_counter() - started, "" if caching is None else f", {caching.passes}"
    report(jobs, size, seconds, drifts, about, skipped, json)


def read_prompts(prompt: str | None, file: Path | None) -> list[str]:
    """The prompt, or the lines of the file. VidgenError for both, neither, or a file without text."""
    if (prompt is None) == (file is None):
        raise VidgenError('give a prompt, or --prompts-file FILE: vidgen sample "a red circle moves right"')
    if prompt is not None and not prompt.strip():
        raise VidgenError('the prompt is empty; say what to show: vidgen sample "a red circle moves right"')
    if prompt is not None:
        return [prompt]
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise VidgenError(f"{file}: not a text file in UTF-8; one prompt a line is wanted") from None
    if not any(lines):
        raise VidgenError(f"{file}: no prompts in it; write one a line")
    return [line for line in lines if line]


def report(
    jobs: list[Job],
    size: tuple[int, int, int],
    seconds: float,
    drifts: list[dict[str, Any]],
    about: dict[str, Any],
    skipped: str,
    as_json: bool,
) -> None:
    """Prints what was made; `drifts` has one a clip, or none; `about` goes into the JSON."""
    frames, height, width = size
    if as_json:
        shape = {"num_frames": frames, "height": height, "width": width}
        clips = [{"path": str(j.output), "prompt": j.prompt, "copy": j.copy, "fps": j.fps, **shape} for j in jobs]
        clips = [clip | {"drift": drift} for clip, drift in zip(clips, drifts, strict=True)] if drifts else clips
        print_json({**about, "seconds": round(seconds, 3), "peak_mb": peak_memory_mb(), "clips": clips})
        return
    names = str(jobs[0].output) if len(jobs) == 1 else f"{jobs[0].output} ... {jobs[-1].output} ({len(jobs)} clips)"
    print(f"{names}: {frames} frames of {height}x{width}, {seconds:.1f} s{skipped}{describe_memory()}", file=sys.stdout)


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("sample")
