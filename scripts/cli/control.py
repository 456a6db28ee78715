"""Training-free control of `vidgen sample`: a path, a moving picture, noise that follows a clip, an edit by prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidgen.errors import VideoError, VidgenError
from vidgen.scripts.cli.conditioning import ConditioningOptions, read_frames
from vidgen.scripts.cli.options import parse_numbers

if TYPE_CHECKING:
    import torch

    from vidgen.pipelines.output import PipelineOutput
    from vidgen.pipelines.video import VideoPipeline

Make = Callable[..., "PipelineOutput"]  # (prompts, **settings of a call) -> clips


@dataclass(frozen=True, kw_only=True)
class ControlOptions:
    """How a clip moves, or what of a video changes, without training."""

    path: Annotated[
        str | None,
        typer.Option(
            metavar="'X,Y X,Y ...'",
            help="Points, in pixels, that the middle of the subject passes from the first frame to the last. The "
            "subject is that of the model's own picture, or of --image.",
        ),
    ] = None
    box: Annotated[
        str | None,
        typer.Option(metavar="LEFT,TOP,RIGHT,BOTTOM", help="Where it is in that picture. Default: it is found."),
    ] = None
    pan: Annotated[
        str | None,
        typer.Option(
            metavar="'X,Y X,Y ...'",
            help="Move the whole picture by these pixels, counted from the first point; implies --animate.",
        ),
    ] = None
    animate: Annotated[
        bool,
        typer.Option(
            "--animate",
            help="Make the frames as pictures, moved from the first and attending to it, by --path or --pan.",
        ),
    ] = False
    warp_noise: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A video whose motion the noise of the clip follows.")
    ] = None
    noise_share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The share of the noise that does; the rest is independent.")
    ] = 0.5
    source_prompt: Annotated[
        str | None,
        typer.Option(help="What --video shows: with --strength, change no more of it than PROMPT says otherwise."),
    ] = None
    edit_method: Annotated[Literal["flow_edit", "inversion"], typer.Option(help="How --source-prompt does that.")] = (
        "flow_edit"
    )

    @property
    def names(self) -> list[str]:
        """The options that are given of those that say how a clip is made."""
        values = {"--path": self.path, "--pan": self.pan, "--warp-noise": self.warp_noise}
        return [name for name, value in (values | {"--source-prompt": self.source_prompt}).items() if value is not None]

    def check(self, conditioning: ConditioningOptions, story: Path | None) -> None:
        """Raise VidgenError for what is wrong without a model: options that contradict each other, and no paths."""
        from vidgen.samplers.control.trajectories import read_trajectory

        if len(self.names) > 1:
            raise VidgenError(f"{self.names[0]} and {self.names[1]} make a clip in two ways; leave one out")
        for name, value, needed in (("--box", self.box, self.path), ("--animate", self.animate, self.path or self.pan)):
            if value and needed is None:
                raise VidgenError(f"{name} says something of a path; give one with --path")
        if not self.names:
            return
        for text in (self.path, self.pan):
            if text is not None:
                read_trajectory(text)
        if self.box is not None and len(parse_numbers(self.box, "--box")) != 4:
            raise VidgenError(f"--box {self.box!r} is none: give LEFT,TOP,RIGHT,BOTTOM in pixels")
        if self.warp_noise is not None and not self.warp_noise.exists():
            raise VideoError(f"{self.warp_noise}: no such file or folder; check the path")
        self.check_others(conditioning, story)

    def check_others(self, conditioning: ConditioningOptions, story: Path | None) -> None:
        """Raise VidgenError for conditions that do not go with the control that is asked for."""
        name = self.names[0]
        if story is not None:
            raise VidgenError(f"{name} needs the clip in one go, and --story makes it in windows; leave one out")
        if self.source_prompt is not None:
            others = (conditioning.mask, conditioning.image, conditioning.last_image, conditioning.reference)
            if conditioning.strength is None or any(others):
                raise VidgenError("--source-prompt changes a video: give --video and --strength, and no other pictures")
        elif self.warp_noise is None:
            given = {"--video": conditioning.video, "--last-image": conditioning.last_image}
            if others := [option for option, value in given.items() if value is not None]:
                raise VidgenError(f"{others[0]} does not go with {name}, which has a clip of its own to start from")

    def read(self, size: tuple[int, int, int], fps: float, window: int, fit: str) -> Callable[[VideoPipeline], Make]:
        """Return what makes, of a pipeline, the function in place of its call; that call itself without control.

        Raises VidgenError for a clip of `size` (frames, height, width) that is longer than a window, and for a video
        that cannot be read.
        """
        if not self.names:
            return lambda pipe: pipe
        if size[0] > window:
            raise VidgenError(
                f"{self.names[0]} needs the clip in one go, and {size[0]} frames are over --window {window}"
            )
        if self.warp_noise is not None:
            import numpy as np

            video = np.stack(list(read_frames(self.warp_noise, fps, size[1:], fit, size[0])))
            if len(video) < size[0]:
                raise VidgenError(f"{self.warp_noise} has {len(video)} frames at {fps:g} fps, and the clip {size[0]}")
            return lambda pipe: partial(call_with_noise, pipe, video=video, share=self.noise_share)
        if self.source_prompt is not None:
            return lambda pipe: partial(edit, pipe, self.source_prompt, self.edit_method)
        return self.read_path()

    def read_path(self) -> Callable[[VideoPipeline], Make]:
        """Return the same for --path and --pan."""
        from vidgen.pipelines.control.animation import animate
        from vidgen.pipelines.control.paths import follow_path
        from vidgen.samplers.control.trajectories import read_trajectory

        settings: dict[str, Any] = {"trajectory": read_trajectory(self.path or self.pan)}
        if self.pan is not None:
            settings["subject"] = False
        if self.box is not None:
            settings["box"] = tuple(parse_numbers(self.box, "--box"))
        function = animate if self.animate or self.pan is not None else follow_path
        return lambda pipe: partial(function, pipe, **settings)


def call_with_noise(
    pipe: VideoPipeline,
    prompt: list[str],
    *,
    generator: Sequence[torch.Generator],
    video: Any,
    share: float,
    **call: Any,
) -> PipelineOutput:
    """Return the clips of a pipeline's call that starts from noise which follows a video."""
    from vidgen.pipelines.control.clip_motion import clip_noise

    noise = clip_noise(pipe, video, generator, share=share)
    return pipe(prompt, latents=noise, generator=generator, **call)


def edit(
    pipe: VideoPipeline,
    source_prompt: str,
    method: str,
    prompt: list[str],
    *,
    num_frames: int,
    height: int,
    width: int,
    step_cache: Any = None,
    sampler: str | None = None,
    **settings: Any,
) -> PipelineOutput:
    """Return a video edited by prompts. Raises VidgenError for options of sampling that an edit has no use for."""
    from vidgen.pipelines.control.editing import edit_video

    if step_cache is not None or sampler is not None:
        raise VidgenError("--source-prompt has steps of its own: leave --sampler and --cache-bound out")
    return edit_video(pipe, prompt, source_prompt=source_prompt, method=method, **settings)
