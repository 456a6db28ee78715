"""What a clip is to be made from besides its prompt: options, and the reading of images, videos, masks and stories."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VideoError, VidgenError
from vidgen.scripts.cli.options import Fit
from vidgen.scripts.tokenizer.decode import parse_moment

if TYPE_CHECKING:
    import numpy as np

    from vidgen.pipelines.rollout import WindowConfig
    from vidgen.pipelines.video import VideoPipeline

NEW_FROM = 128  # grey level of a mask from which a pixel is made anew

ImageOption = Annotated[Path | None, typer.Option("--image", metavar="FILE", help="The first frame.")]
LastImageOption = Annotated[
    Path | None, typer.Option("--last-image", metavar="FILE", help="What the clip comes to rest on.")
]
VideoOption = Annotated[
    Path | None,
    typer.Option("--video", metavar="FILE", help="Continue it; or change it: --strength, --mask."),
]
StrengthOption = Annotated[
    float | None, typer.Option("--strength", help="Noise level to start the video from: near 0 keeps it, 1 does not.")
]
MaskOption = Annotated[
    Path | None,
    typer.Option("--mask", metavar="FILE", help="Image or video: black is kept of the video, white is made anew."),
]
ReferenceOption = Annotated[
    list[Path] | None,
    typer.Option("--reference", metavar="FILE", help="What it shows looks like this picture; several: once for each."),
]
PictureFitOption = Annotated[Fit, typer.Option("--fit", help="How images, videos and masks get to the clip's size.")]
StoryOption = Annotated[
    Path | None,
    typer.Option(
        "--story", metavar="FILE", help="Prompts of one clip, lines of TIME PROMPT (4, 0:04 or 32f), not PROMPT."
    ),
]
WindowOption = Annotated[
    int | None, typer.Option("--window", min=1, help="Frames made at once; longer clips go on from window to window.")
]
OverlapOption = Annotated[
    int | None, typer.Option("--overlap", min=1, help="Latent frames that windows share. Default: half of them.")
]
ContextNoiseOption = Annotated[
    float, typer.Option("--context-noise", help="Noise level at which windows see the frames that they share.")
]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The files and numbers of the options of the same names; pictures get to the clip's size by `fit`."""

    image: Path | None = None
    last_image: Path | None = None
    video: Path | None = None
    mask: Path | None = None
    reference: Sequence[Path] = ()
    strength: float | None = None
    fit: Any = "crop"

    def checked(self) -> Sources:
        """Itself. VidgenError for what can be told without a model: no such file, strength, a mask without a video."""
        for path in (self.image, self.last_image, self.video, self.mask, *self.reference):
            if path is not None and not path.exists():
                raise VideoError(f"{path}: no such file or folder; check the path")
        if self.strength is not None and not 0.0 < self.strength <= 1.0:
            raise VidgenError(f"--strength {self.strength:g} must lie in (0, 1]: near 0 keeps the video, 1 does not")
        if self.video is None and (self.mask is not None or self.strength is not None):
            option = "--mask" if self.mask is not None else "--strength"
            raise VidgenError(f"{option} says what becomes of a video; name it with --video")
        return self

    @property
    def changes_video(self) -> bool:
        return self.video is not None and (self.mask is not None or self.strength is not None)

    def length(self, default: int, fps: float) -> int:
        """Frames of the clip where their number is not asked for: those of a video that is changed, at most `default`,
        else `default`."""
        if not self.changes_video:
            return default
        return sum(1 for _ in frames_of(self.video, fps, None, self.fit, default))

    def read(
        self, pipe: VideoPipeline, size: tuple[int, int, int], fps: float, windows: WindowConfig
    ) -> dict[str, Any]:
        """The arguments of the pipeline's call for clips of `size` (frames, height, width).

        A video is sampled at `fps`. To be continued, it gives as many of its last frames as windows share. Raises
        VidgenError for files that cannot be read, and for what does not go beyond one window.
        """
        import numpy as np

        shape, given = size[1:], {}
        count = min(size[0], windows.num_frames)
        if size[0] > count and (self.mask is not None or self.last_image is not None):
            option = "--last-image" if self.last_image is not None else "a video with --mask"
            raise VidgenError(
                f"{option} needs the clip in one go, and {size[0]} frames are longer than --window {count}"
            )
        for name, path in (("image", self.image), ("last_image", self.last_image)):
            if path is not None:
                given[name] = next(frames_of(path, fps, shape, self.fit, 1))
        if self.reference:  # at the size that the model was made for, whatever the clip's
            usual = pipe.scheduler.height, pipe.scheduler.width
            given["reference"] = [next(frames_of(path, fps, usual, self.fit, 1)) for path in self.reference]
        if self.changes_video and size[0] > count:
            from vidgen.pipelines.rollout import Draft

            frames = np.stack(list(frames_of(self.video, fps, None, self.fit, size[0])))
            given["draft"] = Draft(frames=frames, strength=self.strength, fit=self.fit)
        elif self.changes_video:
            given |= {"video": np.stack(list(frames_of(self.video, fps, shape, self.fit, count)))}
            given |= {"strength": self.strength} if self.strength is not None else {}
        elif self.video is not None:
            t, rate = pipe.latent_shape(count, *shape)[1], pipe.vae.config.temporal_compression_ratio
            kept = 1 + (windows.overlap_of(t) - 1) * rate
            given["video"] = np.stack(deque(frames_of(self.video, fps, shape, self.fit, None), maxlen=kept))
        if self.mask is not None:
            grey = np.stack(list(frames_of(self.mask, fps, shape, self.fit, count))).mean(-1)
            given["mask"] = (grey[0] if len(grey) == 1 else grey) >= NEW_FROM
        return given


def frames_of(
    path: Path, fps: float, size: tuple[int, int] | None, fit: Any, count: int | None
) -> Iterator[np.ndarray]:
    """The first `count` frames of a video at `fps`, or the frame of an image. Raises VideoError if it is neither."""
    from itertools import islice

    from vidgen.data.reading import iter_frames

    return (frame for _, frame in islice(iter_frames(path, fps=fps, size=size, fit=fit), count))


def describe_story(story: list[tuple[int, str]]) -> str:
    """A story in one line, for what is said of a file."""
    return "; ".join(f"{start}f {prompt}" for start, prompt in story)


def read_story(file: Path, fps: float) -> list[tuple[int, str]]:
    """A schedule of prompts, (frame, prompt), from lines of TIME PROMPT. VidgenError for any other line."""
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise VidgenError(f"{file}: not a text file in UTF-8; a time and a prompt a line are wanted") from None
    story = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        time, _, prompt = line.partition(" ")
        if not prompt.strip():
            raise VidgenError(f"{file}: line {number} is {line!r}; a time and a prompt are wanted: 0:04 a star grows")
        moment = parse_moment(time, f"{file}: line {number}: time")
        story.append((moment.at(fps), prompt.strip()))
    if not story:
        raise VidgenError(f"{file}: no prompts in it; write a time and a prompt a line")
    return story
