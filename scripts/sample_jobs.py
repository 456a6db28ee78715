"""From prompts to files: latents of a batch of clips, or a long clip piece by piece; what was made is never lost."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidgen.errors import VidgenError
from vidgen.scripts.cli.errors import explain
from vidgen.scripts.cli.outputs import beside
from vidgen.scripts.cli.printing import note, progress

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from vidgen.pipelines.rollout import WindowConfig
    from vidgen.pipelines.video import VideoPipeline


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


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all clips of a command share. `size` is (frames, height, width), `settings` and `given` go to the pipeline's
    call, `story` holds the prompts of a clip that changes, `loras` names what was put on the model; `kind` and `keep`
    say what is written."""

    pipe: VideoPipeline
    model: str
    size: tuple[int, int, int]
    seed: int
    kind: str
    keep: bool
    windows: WindowConfig
    settings: dict[str, Any]
    given: dict[str, Any] = field(default_factory=dict)
    story: list[tuple[int, str]] | None = None
    loras: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        return self.settings["num_inference_steps"] or self.pipe.scheduler.num_inference_steps

    def said(self, job: Job) -> dict[str, Any]:
        """What a file of latents says of its clip."""
        lora = {"lora": ", ".join(self.loras)} if self.loras else {}
        return {"prompt": job.prompt, "seed": self.seed, "copy": job.copy, "model": self.model, **lora}

    def kept(self, job: Job) -> Path:
        """Where the latents of a clip go."""
        return job.output if self.kind == "latent" else beside(job.output, ".latents.safetensors")


def generate(run: Run, jobs: list[Job]) -> list[Latents]:
    """Latents of the jobs' clips; each depends on prompt, copy and seed alone."""
    from vidgen.diffusion.noise import sample_generator

    what = f"{jobs[0].output.name} ..." if len(jobs) > 1 else jobs[0].output.name
    num_frames, height, width = run.size
    with progress(what, run.steps) as moved, stopped_kept(run, jobs, num_frames):
        made = run.pipe(
            [job.prompt for job in jobs],
            num_frames=num_frames,
            height=height,
            width=width,
            generator=[sample_generator(run.seed, job.copy) for job in jobs],
            output_type="latent",
            callback_on_step_end=lambda step, x, x0: moved(step + 1),
            **run.settings,
            **run.given,
        ).latents
    return [Latents(latents=z[None], num_frames=num_frames, height=height, width=width) for z in made]


def finish(run: Run, job: Job, clip: Latents) -> None:
    """Latents to disk, then decoded to a file beside them; where that fails, they stay, and the error says so."""
    from vidgen.data.writing import write_video
    from vidgen.tokenizers.files.token_writing import write_tokens

    kept = run.kept(job)
    write_tokens(kept, clip, run.pipe.vae, fps=job.fps, extra=run.said(job))
    if run.kind == "latent":
        return
    with latents_kept(kept, job.output, run.model):
        frames = run.pipe.decode(clip.latents, clip.num_frames, clip.height, clip.width)[0]
        write_video(frames, job.output, fps=job.fps)
    if not run.keep:
        kept.unlink()


def make_long(run: Run, job: Job) -> dict[str, Any]:
    """One clip longer than a window: latents and frames go to their files as they come, in memory for one window.

    Returns its drift from window to window. Where it breaks off, the latents so far are kept, and the error says how to
    go on from them.
    """
    from vidgen.data.writing import write_video
    from vidgen.diffusion.noise import sample_generator
    from vidgen.metrics.drift import describe_drift, measure_segment
    from vidgen.pipelines.rollout import rollout
    from vidgen.tokenizers.files.token_writing import Author, writing_tokens
    from vidgen.tokenizers.streaming.chunks import Tokens

    num_frames, height, width = run.size
    kept, done, failure, held, segments = run.kept(job), 0, None, set(), []
    with writing_tokens(kept, Author.of(run.pipe.vae)) as writer, progress(job.output.name, num_frames) as moved:

        def frames() -> Iterator[np.ndarray]:
            nonlocal done
            pieces = rollout(
                run.pipe,
                run.story or job.prompt,
                num_frames,
                windows=run.windows,
                height=height,
                width=width,
                generator=sample_generator(run.seed, job.copy),
                **run.settings,
                **run.given,
            )
            for piece in pieces:
                writer.add(Tokens(latents=piece.latents))
                held.add(piece.prompt)
                segments.append(measure_segment(piece.frames, piece.start))
                done = piece.start + len(piece.frames)
                yield piece.frames
                moved(done)

        try:
            with stopped_kept(run, [job], run.windows.num_frames):
                if run.kind == "latent":
                    for _ in frames():
                        pass
                else:
                    write_video(frames(), job.output, fps=job.fps)
        except (Exception, KeyboardInterrupt) as error:
            if not done:
                raise
            failure = error
        writer.finish(num_frames=done, height=height, width=width, fps=job.fps, extra=run.said(job))
    if failure is not None:
        with latents_kept(kept, beside(job.output, ".mp4") if run.kind == "latent" else job.output, run.model):
            raise failure
    if not run.keep and run.kind != "latent":
        kept.unlink()
    for start, prompt in run.story or []:
        if prompt not in held:
            note(f"no window began between frame {start} and the next prompt's, so this one was not shown: {prompt}")
    return describe_drift(segments)


@contextmanager
def stopped_kept(run: Run, jobs: list[Job], num_frames: int) -> Iterator[None]:
    """Where sampling breaks off, writes the latents as they were before that step, and says where."""
    from vidgen.samplers.solvers import SamplingError
    from vidgen.tokenizers.files.token_writing import write_tokens

    try:
        yield
    except SamplingError as error:
        _, height, width = run.size
        paths = [beside(job.output, ".stopped.safetensors") for job in jobs]
        for job, path, z in zip(jobs, paths, error.latents, strict=True):
            clip = Latents(latents=z[None], num_frames=num_frames, height=height, width=width)
            write_tokens(path, clip, run.pipe.vae, fps=job.fps, extra=run.said(job))
        where = str(paths[0]) if len(paths) == 1 else f"{paths[0]} ... {paths[-1]}"
        raise VidgenError(f"{error}; the noisy latents before that step are in {where}") from error


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
