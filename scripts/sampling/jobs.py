"""Sampling of clips to files, in batches or window by window; latents outlive a failure of what comes after them."""

from __future__ import annotations

import shlex
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen.errors import VidgenError
from vidgen.scripts.cli.errors import explain
from vidgen.scripts.cli.outputs import beside
from vidgen.scripts.cli.printing import note, progress
from vidgen.scripts.sampling.index import SampleIndex, size_of

if TYPE_CHECKING:
    import numpy as np

    from vidgen.pipelines.output import PipelineOutput
    from vidgen.pipelines.rollout import WindowConfig
    from vidgen.pipelines.video import VideoPipeline
    from vidgen.tokenizers.encoded import Encoded
    from vidgen.tokenizers.files.token_writing import TokenWriter


@dataclass(frozen=True, kw_only=True)
class Job:
    """One clip to make: copy number `copy` of `prompt`, written to `output`, played at `fps`.

    `hash` stands for all that it depends on; `is_done` says that it is there already.
    """

    prompt: str
    copy: int
    output: Path
    fps: float
    hash: str = ""
    is_done: bool = False


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all clips of a command share.

    `size` is (frames, height, width); `settings` and `conditions` go to the pipeline's call; `schedule` holds the
    (first frame, prompt) pairs of a clip whose prompt changes; `loras` names the weights added to the model; `kind`
    is the format of the outputs, `keep` whether latents stay beside them, and `index` what is told of finished clips.
    `make`, where there is one, makes clips in place of the pipeline's call.
    """

    pipe: VideoPipeline
    model: str
    size: tuple[int, int, int]
    seed: int
    kind: str
    keep: bool
    windows: WindowConfig
    settings: dict[str, Any]
    conditions: dict[str, Any] = field(default_factory=dict)
    schedule: list[tuple[int, str]] | None = None
    loras: tuple[str, ...] = ()
    index: SampleIndex | None = None
    make: Callable[..., PipelineOutput] | None = None

    @property
    def steps(self) -> int:
        """Steps of a clip."""
        known = {name: self.settings[name] for name in ("num_inference_steps", "decoder") if name in self.settings}
        return self.pipe.steps_of(self.size, **known)

    @property
    def is_long(self) -> bool:
        """Whether a clip takes more than one window."""
        return self.size[0] > self.windows.num_frames or self.schedule is not None

    def describe(self, job: Job) -> dict[str, Any]:
        """Return what a file of latents says of its clip."""
        lora = {"lora": ", ".join(self.loras)} if self.loras else {}
        return {"prompt": job.prompt, "seed": self.seed, "copy": job.copy, "model": self.model, **lora}

    def record(self, job: Job, **values: Any) -> None:
        """Tell the index, where there is one, that a clip is begun, or by `values` that it is there."""
        if self.index is not None:
            row = {"caption": job.prompt, "seed": self.seed, "copy": job.copy, "hash": job.hash}
            self.index.add(job.output, row | values)

    def latents_path(self, job: Job) -> Path:
        """Return the file that the latents of a clip go to."""
        return job.output if self.kind == "latent" else beside(job.output, ".latents.safetensors")


def make_clips(run: Run, jobs: list[Job], batch_size: int) -> list[dict[str, Any]]:
    """Make the clips of all jobs that are not done, and return the drift of each where they are long.

    A batch of which one clip is missing is made as a whole: what is computed beside a clip changes its last bits.
    Raises VidgenError, before any work, where they do not fit in the memory that is free.
    """
    from vidgen.pipelines.gan.pipeline import GANPipeline
    from vidgen.scripts.sampling.memory import check_latents, check_sampling

    if isinstance(run.pipe, GANPipeline):
        make_in_one_pass(run, jobs, batch_size)
        return []
    check_latents(run.pipe, run.size)
    num_frames, *frame = run.size
    size = (min(num_frames, run.windows.num_frames), *frame)
    batch = 1 if run.is_long else min(batch_size, len(jobs))
    check_sampling(run.pipe, size, batch, is_window=run.is_long, decodes=run.kind != "latent")
    if run.is_long:
        return [run.index.row_of(job.output).get("drift") if job.is_done else make_long(run, job) for job in jobs]
    for first in range(0, len(jobs), batch_size):
        batch = jobs[first : first + batch_size]
        if not all(job.is_done for job in batch):
            make_batch(run, batch)
    return []


def make_in_one_pass(run: Run, jobs: list[Job], batch_size: int) -> None:
    """Make the clips of all jobs that are not done by a generator, which has no latents to keep. Raises VidgenError
    where these are asked for."""
    from vidgen.data.writing import write_video
    from vidgen.diffusion.noise import sample_generator

    if run.kind == "latent" or run.keep:
        raise VidgenError(f"{run.model} makes frames in one pass and has no latents to write; choose another format")
    size = dict(zip(("num_frames", "height", "width"), run.size, strict=True))
    for first in range(0, len(jobs), batch_size):
        batch = jobs[first : first + batch_size]
        if all(job.is_done for job in batch):
            continue
        streams = [sample_generator(run.seed, job.copy) for job in batch]
        clips = run.pipe([job.prompt for job in batch], generator=streams, **size, **run.settings).frames
        for job, frames in zip(batch, clips, strict=True):
            if not job.is_done:
                run.record(job)
                write_video(frames, job.output, fps=job.fps)
                run.record(job, bytes=size_of(job.output))


def make_batch(run: Run, jobs: list[Job]) -> None:
    """Make the clips of a few jobs at once; each depends on its prompt, copy and the seed alone."""
    from vidgen.diffusion.noise import sample_generator
    from vidgen.tokenizers.encoded import Encoded

    label = f"{jobs[0].output.name} ..." if len(jobs) > 1 else jobs[0].output.name
    num_frames, height, width = run.size
    with progress(label, run.steps) as advance, saves_stopped(run, jobs, num_frames):
        batch = (run.make or run.pipe)(
            [job.prompt for job in jobs],
            num_frames=num_frames,
            height=height,
            width=width,
            generator=[sample_generator(run.seed, job.copy) for job in jobs],
            output_type="latent",
            callback_on_step_end=lambda step, *_: advance(step + 1),
            **run.settings,
            **run.conditions,
        ).latents
    for job, latents in zip(jobs, batch, strict=True):
        if not job.is_done:
            run.record(job)
            write_clip(run, job, Encoded(latents=latents[None], num_frames=num_frames, height=height, width=width))
            run.record(job, bytes=size_of(job.output))


def write_clip(run: Run, job: Job, clip: Encoded) -> None:
    """Write latents, and decode them to a file beside them; where that fails, they stay, and the error says so."""
    from vidgen.data.writing import write_video
    from vidgen.tokenizers.files.token_writing import write_tokens

    path = run.latents_path(job)
    write_tokens(path, clip, run.pipe.vae, fps=job.fps, extra=run.describe(job))
    if run.kind == "latent":
        return
    with names_latents(path, job.output, run.model):
        frames = run.pipe.decode(clip.latents, clip.num_frames, clip.height, clip.width)[0]
        write_video(frames, job.output, fps=job.fps)
    if not run.keep:
        path.unlink()


def make_long(run: Run, job: Job) -> dict[str, Any]:
    """Make one clip longer than a window: latents and frames go to their files as they come, in memory for one window.

    Returns its drift from window to window. Where it breaks off, the latents so far are kept, and the error says how to
    go on from them.
    """
    from vidgen.data.writing import write_video
    from vidgen.metrics.drift import describe_drift
    from vidgen.tokenizers.files.token_writing import Author, writing_tokens

    _, height, width = run.size
    path = run.latents_path(job)
    written = Windows()
    failure = None
    run.record(job)
    with writing_tokens(path, Author.of(run.pipe.vae)) as writer:
        frames = make_windows(run, job, writer, written)
        try:
            with saves_stopped(run, [job], run.windows.num_frames):
                if run.kind == "latent":
                    deque(frames, maxlen=0)
                else:
                    write_video(frames, job.output, fps=job.fps)
        except (Exception, KeyboardInterrupt) as error:
            if not written.num_frames:
                raise
            failure = error
        size = {"num_frames": written.num_frames, "height": height, "width": width}
        writer.finish(**size, fps=job.fps, extra=run.describe(job))
    if failure is not None:
        with names_latents(path, beside(job.output, ".mp4") if run.kind == "latent" else job.output, run.model):
            raise failure
    if not run.keep and run.kind != "latent":
        path.unlink()
    for start, prompt in run.schedule or []:
        if prompt not in written.prompts:
            note(f"no window began between frame {start} and the next prompt's, so this one was not shown: {prompt}")
    drift = describe_drift(written.segments)
    run.record(job, bytes=size_of(job.output), drift=drift)
    return drift


@dataclass(kw_only=True)
class Windows:
    """What has been written of a long clip: its frames, the prompts that were used, and a row of drift a window."""

    num_frames: int = 0
    prompts: set[str] = field(default_factory=set)
    segments: list[dict[str, Any]] = field(default_factory=list)


def make_windows(run: Run, job: Job, writer: TokenWriter, written: Windows) -> Iterator[np.ndarray]:
    """Yield the frames of a long clip window by window, whose latents go to `writer`, and keep account in `written`."""
    from vidgen.diffusion.noise import sample_generator
    from vidgen.metrics.drift import measure_segment
    from vidgen.pipelines.rollout import rollout
    from vidgen.tokenizers.streaming.chunks import Tokens

    num_frames, height, width = run.size
    chunks = rollout(
        run.pipe,
        run.schedule or job.prompt,
        num_frames,
        windows=run.windows,
        height=height,
        width=width,
        generator=sample_generator(run.seed, job.copy),
        **run.settings,
        **run.conditions,
    )
    with progress(job.output.name, num_frames) as advance:
        for chunk in chunks:
            writer.add(Tokens(latents=chunk.latents))
            written.prompts.add(chunk.prompt)
            written.segments.append(measure_segment(chunk.frames, chunk.start))
            written.num_frames = chunk.start + len(chunk.frames)
            yield chunk.frames
            advance(written.num_frames)


@contextmanager
def saves_stopped(run: Run, jobs: list[Job], num_frames: int) -> Iterator[None]:
    """Write the latents as they were before the step where sampling breaks off, and say where they are."""
    from vidgen.samplers.solvers import SamplingError
    from vidgen.tokenizers.encoded import Encoded
    from vidgen.tokenizers.files.token_writing import write_tokens

    try:
        yield
    except SamplingError as error:
        _, height, width = run.size
        paths = [beside(job.output, ".stopped.safetensors") for job in jobs]
        for job, path, z in zip(jobs, paths, error.latents, strict=True):
            clip = Encoded(latents=z[None], num_frames=num_frames, height=height, width=width)
            write_tokens(path, clip, run.pipe.vae, fps=job.fps, extra=run.describe(job))
        names = str(paths[0]) if len(paths) == 1 else f"{paths[0]} ... {paths[-1]}"
        raise VidgenError(f"{error}; the noisy latents before that step are in {names}") from error


@contextmanager
def names_latents(path: Path, output: Path, model: str) -> Iterator[None]:
    """Add to the message of whatever fails inside how to go on from the latents in `path`."""
    command = shlex.join(["vidgen", "tokenizer", "decode", str(path), "--model", model, "-o", str(output)])
    hint = f"the latents are safe; go on with: {command}"
    try:
        yield
    except KeyboardInterrupt as error:
        error.args = (f"interrupted; {hint}",)
        raise
    except Exception as error:
        if (line := explain(error)) is not None:
            raise VidgenError(f"{line}; {hint}") from error
        note(hint)
        raise
