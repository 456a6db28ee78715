"""`vidgen sample`: clips from prompts."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vidgen.bounds import FPS, FRAMES, SIDE
from vidgen.checkpoints.hub import find_model
from vidgen.errors import VidgenError
from vidgen.scripts.cli.conditioning import ConditioningOptions, WindowOptions
from vidgen.scripts.cli.control import ControlOptions
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.guidance import GuidanceOptions
from vidgen.scripts.cli.lora import LoraOption, describe_loras, find_loras
from vidgen.scripts.cli.option_sets import (
    HardwareOptions,
    MaskingOptions,
    SamplerOptions,
    StepCacheOptions,
    TokenOptions,
    describe_passes,
    with_option_sets,
)
from vidgen.scripts.cli.options import BatchOption, JsonOption, ModelOption, SeedOption
from vidgen.scripts.cli.outputs import check_frames
from vidgen.scripts.cli.printing import describe_memory, peak_memory_mb, pluralize, print_json
from vidgen.scripts.cli.prompts import (
    Prompt,
    check_prompts,
    check_text,
    describe_prompt_schedule,
    read_prompt_schedule,
    read_prompts,
)
from vidgen.scripts.sampling.index import plan_clips, stamp
from vidgen.scripts.sampling.jobs import Job, Run, make_clips
from vidgen.scripts.sampling.pipelines import call_settings, open_pipeline, sampler_settings


@with_option_sets
def sample(
    *,
    prompt: Annotated[str | None, typer.Argument(help="What the clip is to show, in words.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="File to write (.mp4 .mkv .gif .webp .safetensors); without a suffix a folder: of png frames, or of "
            "several clips. Default: ./PROMPT.mp4",
        ),
    ] = None,
    model: ModelOption = "default",
    lora: LoraOption = None,
    num_frames: Annotated[
        int | None,
        typer.Option(
            **FRAMES.limits, help="Frames of the clip; beyond --window it is made in pieces. Default: the model's."
        ),
    ] = None,
    height: Annotated[int | None, typer.Option(**SIDE.limits, help="Height in pixels. Default: the model's.")] = None,
    width: Annotated[int | None, typer.Option(**SIDE.limits, help="Width in pixels. Default: the model's.")] = None,
    fps: Annotated[
        float | None, typer.Option(**FPS.limits, help="Frames a second that the file plays at. Default: the model's.")
    ] = None,
    sampling: SamplerOptions,
    guidance: GuidanceOptions,
    step_cache: StepCacheOptions,
    tokens: TokenOptions,
    masking: MaskingOptions,
    negative_prompt: Annotated[str, typer.Option(help="What guidance leads away from, in words.")] = "",
    seed: SeedOption = 0,
    num_videos_per_prompt: Annotated[
        int, typer.Option(min=1, max=10**4, help="Clips of each prompt, numbered: out-0.mp4, out-1.mp4.")
    ] = 1,
    only_copy: Annotated[
        int | None,
        typer.Option(
            "--copy", min=0, max=10**6, help="Make only this one of the clips that a prompt can have, counted from 0."
        ),
    ] = None,
    prompts_file: Annotated[
        Path | None, typer.Option(help="A text file with one prompt a line, instead of PROMPT.")
    ] = None,
    conditioning: ConditioningOptions,
    control: ControlOptions,
    story: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Prompts of one long clip, instead of PROMPT: lines of TIME PROMPT, the time as 4, 0:04 or 32f.",
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(
            min=1, max=10**6, help="Frames made at once; a longer clip goes on in windows. Default: the model's length."
        ),
    ] = None,
    windows: WindowOptions,
    output_type: Annotated[
        Literal["mp4", "gif", "webp", "png", "latent"] | None,
        typer.Option(help="Format of the files. Default: by the suffix of --output, else mp4."),
    ] = None,
    keep_latents: Annotated[
        bool, typer.Option("--keep-latents", help="Also leave the latents, in OUT.latents.safetensors.")
    ] = False,
    batch_size: BatchOption = 4,
    hardware: HardwareOptions,
    text_cache: Annotated[
        Literal["auto", "on", "off"],
        typer.Option(help="Keep encoded prompts on disk for the next time; auto: those of large text encoders."),
    ] = "auto",
    attention: Annotated[
        Literal["auto", "plain", "sdpa", "xformers"], typer.Option(help="The implementation of attention.")
    ] = "auto",
    json: JsonOption = False,
) -> None:
    """Make clips from a prompt, or from a file of prompts, and from images or a video.

    Example: vidgen sample "a red circle moves right" -o circle.mp4 --seed 3
    """
    started = time.perf_counter()
    conditioning.check()
    control.check(conditioning, story)
    if story is not None:
        check_story(prompt, prompts_file, conditioning)
    if only_copy is not None and num_videos_per_prompt > 1:
        raise VidgenError("--copy makes one clip of a prompt; leave --num-videos-per-prompt out")
    # a story is named for its file
    prompts = [Prompt(text=story.stem)] if story is not None else read_prompts(prompt, prompts_file)
    check_text(negative_prompt, "--negative-prompt")
    copies = range(num_videos_per_prompt) if only_copy is None else (only_copy,)
    loras = find_loras(lora)
    settings = hardware.settings()

    def recipe() -> dict[str, Any]:
        """Return all that clips depend on; how many are computed at once, and where, may differ."""
        files = map(stamp, (*conditioning.files(), story))
        options = map(asdict, (sampling, guidance, step_cache, tokens, masking, windows))
        controls = [asdict(replace(control, warp_noise=None)), stamp(control.warp_noise)] if control.names else []
        return {
            "model": stamp(find_model(model)),
            "loras": [[str(lora), stamp(Path(lora.file))] for lora in loras],
            "size": [num_frames, height, width, fps, window],
            "options": [*options, negative_prompt, seed, attention, hardware.dtype, keep_latents],
            "conditions": [conditioning.strength, conditioning.fit, *files],
            **({"control": controls} if controls else {}),
        }

    planned = plan_clips(
        [prompt.text for prompt in prompts],
        copies,
        output,
        output_type,
        prompts_file=prompts_file,
        recipe=recipe,
    )
    outputs = planned.outputs

    from vidgen.pipelines.rollout import WindowConfig, long_clip_maker
    from vidgen.pipelines.video import VideoPipeline

    guide = guidance.read(**settings)
    caching = step_cache.read()
    pipe = open_pipeline(model, settings, loras, attention=attention, text_cache=text_cache, fps=fps)
    if not isinstance(pipe, VideoPipeline):
        others = {"story": story, "window": window, "context_noise": windows.context_noise or None}
        others["attention"] = None if attention == "auto" else attention
        call_settings(pipe, model, replace(conditioning, fit="crop"), step_cache, control, **others)
    scheduler = pipe.scheduler
    rate = fps or scheduler.fps
    check_prompts(pipe.text_encoder, [] if story else prompts, negative_prompt)
    schedule = None if story is None else read_prompt_schedule(story, rate)
    texts = [prompt.text for prompt in prompts] if schedule is None else [describe_prompt_schedule(schedule)]
    config = WindowConfig(num_frames=window or scheduler.num_frames, **vars(windows))
    length = num_frames or conditioning.length(config.num_frames, rate) + (schedule[-1][0] if schedule else 0)
    size = (length, height or scheduler.height, width or scheduler.width)
    check_frames(outputs[0], length)
    conditions = conditioning.read(pipe, size, rate, config)
    made_by = sampler_settings(pipe, model, sampling, guidance, tokens, masking, negative_prompt)
    maker = pipe
    if isinstance(pipe, VideoPipeline):
        made_by |= {"guidance": guide, "step_cache": caching}
        arguments = {**made_by, **conditions}
        if not control.names:  # which is of the model itself
            is_long = length > config.num_frames or schedule is not None
            maker = long_clip_maker(pipe, config, **arguments) if is_long else pipe.maker(**arguments)
    else:
        config = replace(config, num_frames=length)  # it rolls on by itself
    make = control.read(size, rate, config.num_frames, conditioning.fit)
    run = Run(
        pipe=maker,
        model=model,
        size=size,
        seed=seed,
        kind=planned.kind,
        keep=keep_latents,
        windows=config,
        settings=made_by,
        conditions=conditions,
        schedule=schedule,
        loras=tuple(map(str, loras)),
        index=planned.index,
        make=make(maker),
    )
    pairs = [(text, copy) for text in texts for copy in copies]
    jobs = [
        Job(prompt=text, copy=copy, output=path, fps=rate, hash=clip_hash, is_done=is_done)
        for (text, copy), path, clip_hash, is_done in zip(pairs, outputs, planned.hashes, planned.are_done, strict=True)
    ]
    with planned.locked():
        drifts = make_clips(run, jobs, batch_size)
    seconds = time.perf_counter() - started
    if json:
        report = {
            "model": model,
            "student": maker is not pipe,
            **describe_loras(loras),
            "seed": seed,
            **describe_passes(caching),
        }
        clips = list_rows(run, jobs, drifts)
        print_json({**report, "seconds": round(seconds, 3), "peak_mb": peak_memory_mb(), "clips": clips})
        return
    names = str(outputs[0]) if len(jobs) == 1 else f"{outputs[0]} ... {outputs[-1]} ({len(jobs)} clips)"
    names += f", {sum(planned.are_done)} of them there already" if any(planned.are_done) else ""
    skipped = "" if caching is None else f", {caching.passes}"
    clip = f"{pluralize(length, 'frame')} of {size[1]}x{size[2]}"
    clip += "" if maker is pipe else f", by its student of {pluralize(run.steps, 'step')}"
    print(f"{names}: {clip}, {seconds:.1f} s{skipped}{describe_memory()}")


def check_story(prompt: str | None, prompts_file: Path | None, conditioning: ConditioningOptions) -> None:
    """Raise VidgenError for options that contradict --story."""
    if prompt or prompts_file:
        raise VidgenError("--story has the prompts; leave PROMPT and --prompts-file out")
    if conditioning.changes_video:
        raise VidgenError(
            "--story makes a long clip, and --strength and --mask change a video in one go; leave one out"
        )


def list_rows(run: Run, jobs: list[Job], drifts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row of the JSON report for every clip; `drifts` has one a clip, or none."""
    shape = dict(zip(("num_frames", "height", "width"), run.size, strict=True))
    clips = [{"path": str(job.output), "prompt": job.prompt, "copy": job.copy, "fps": job.fps, **shape} for job in jobs]
    return [clip | {"drift": drift} for clip, drift in zip(clips, drifts, strict=True)] if drifts else clips


if __name__ == "__main__":
    run_verb("sample", sample)
