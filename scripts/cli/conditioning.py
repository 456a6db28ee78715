"""What a clip is made from besides its prompt: the options, and the reading of images, videos and masks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VideoError, VidgenError
from vidgen.scripts.cli.options import Fit

if TYPE_CHECKING:
    import numpy as np

    from vidgen.models.text.learned_tokens import LearnedTokens
    from vidgen.pipelines.rollout import WindowConfig
    from vidgen.pipelines.video import VideoPipeline

MASKED_FROM = 128  # gray level of a mask from which a pixel is made anew

FrameFitOption = Annotated[
    Fit,
    typer.Option("--fit", help="How images, videos and masks get to the clip's size: cut off, add bars, or distort."),
]


@dataclass(frozen=True, kw_only=True)
class WindowOptions:
    """How a clip that is longer than a window goes on from one window to the next."""

    overlap: Annotated[
        int | None,
        typer.Option(
            min=1, max=10**6, help="Latent frames that a window shares with the one before. Default: half of it."
        ),
    ] = None
    context_noise: Annotated[
        float,
        typer.Option(
            min=0.0, max=1.0, help="Noise level put on the shared frames: a little keeps small errors from growing."
        ),
    ] = 0.0


@dataclass(frozen=True, kw_only=True)
class ConditioningOptions:
    """What a clip is made from besides its prompt."""

    image: Annotated[Path | None, typer.Option(metavar="FILE", help="The first frame of the clip.")] = None
    last_image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The last frame of the clip, which comes to rest on it.")
    ] = None
    video: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A video to continue; with --strength or --mask, one to change.")
    ] = None
    strength: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="How much of --video changes: near 0 keeps it as it is, 1 keeps nothing of it."
        ),
    ] = None
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Image or video: --video is kept where it is black, and made anew where white."
        ),
    ] = None
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A picture of what the clip shows, not one of its frames; may be repeated. Or a folder of learned "
            "tokens.",
        ),
    ] = None
    fit: FrameFitOption = "crop"

    def files(self) -> tuple[Path | None, ...]:
        """Return all that is read; None for what is not asked for."""
        return (self.image, self.last_image, self.video, self.mask, *(self.reference or ()))

    def check(self) -> None:
        """Raise VidgenError for what is wrong without a model: a missing file, --strength, a mask without a video."""
        for path in self.files():
            if path is not None and not path.exists():
                raise VideoError(f"{path}: no such file or folder; check the path")
        if self.strength is not None and not 0.0 < self.strength <= 1.0:
            raise VidgenError(f"--strength {self.strength:g} must lie in (0, 1]: near 0 keeps the video, 1 does not")
        if self.video is None and (self.mask is not None or self.strength is not None):
            option = "--mask" if self.mask is not None else "--strength"
            raise VidgenError(f"{option} says what becomes of a video; name it with --video")

    @property
    def changes_video(self) -> bool:
        """Whether the video is changed rather than continued."""
        return self.video is not None and (self.mask is not None or self.strength is not None)

    def length(self, default: int, fps: float) -> int:
        """Return how many frames a clip without --num-frames has: those of a video that is changed, at most `default`,
        else `default`."""
        if not self.changes_video:
            return default
        return sum(1 for _ in read_frames(self.video, fps, None, self.fit, default))

    def read(
        self, pipe: VideoPipeline, size: tuple[int, int, int], fps: float, windows: WindowConfig
    ) -> dict[str, Any]:
        """Return the arguments of the pipeline's call for clips of `size` (frames, height, width).

        A video is sampled at `fps`. Raises VidgenError for files that cannot be read, and for what does not go beyond
        one window.
        """
        import numpy as np

        shape = size[1:]
        count = min(size[0], windows.num_frames)
        if size[0] > count and (self.mask is not None or self.last_image is not None):
            option = "--last-image" if self.last_image is not None else "a video with --mask"
            raise VidgenError(
                f"{option} needs the clip in one go, and {size[0]} frames are longer than --window {count}"
            )
        arguments = {} if self.video is None else self.read_video(pipe, size, fps, windows)
        for name, path in (("image", self.image), ("last_image", self.last_image)):
            if path is not None:
                arguments[name] = next(read_frames(path, fps, shape, self.fit, 1))
        if self.reference:  # at the size that the model was made for, whatever the clip's
            usual = (pipe.scheduler.height, pipe.scheduler.width)
            arguments["reference"] = read_learned(self.reference) or [
                next(read_frames(path, fps, usual, self.fit, 1)) for path in self.reference
            ]
        if self.mask is not None:
            gray = np.stack(list(read_frames(self.mask, fps, shape, self.fit, count))).mean(-1)
            arguments["mask"] = (gray[0] if len(gray) == 1 else gray) >= MASKED_FROM
        return arguments

    def read_video(
        self, pipe: VideoPipeline, size: tuple[int, int, int], fps: float, windows: WindowConfig
    ) -> dict[str, Any]:
        """Return the arguments that hold the video: to be changed, or its last frames, as many as windows share."""
        import numpy as np

        shape = size[1:]
        count = min(size[0], windows.num_frames)
        if not self.changes_video:
            latent_shape = pipe.latent_shape(count, *shape)
            shared = 1 + (windows.overlap_of(latent_shape[1]) - 1) * pipe.vae.config.temporal_compression_ratio
            frames = read_frames(self.video, fps, shape, self.fit, None)
            return {"video": np.stack(deque(frames, maxlen=shared))}
        if size[0] > count:
            from vidgen.pipelines.rollout import Draft

            frames = np.stack(list(read_frames(self.video, fps, None, self.fit, size[0])))
            return {"draft": Draft(frames=frames, strength=self.strength, fit=self.fit)}
        frames = np.stack(list(read_frames(self.video, fps, shape, self.fit, count)))
        return {"video": frames} | ({} if self.strength is None else {"strength": self.strength})


def read_learned(paths: list[Path]) -> LearnedTokens | None:
    """Return the learned tokens of the one folder that is named; None where these are pictures.

    Raises VidgenError for tokens beside others.
    """
    from vidgen.checkpoints.pretrained import CONFIG_NAME
    from vidgen.models.text.learned_tokens import LearnedTokens

    folders = [path for path in paths if (path / CONFIG_NAME).is_file()]
    if not folders:
        return None
    if len(paths) > 1:
        raise VidgenError(f"{folders[0]} holds learned tokens, which are the one reference: leave the others out")
    return LearnedTokens.from_pretrained(folders[0])


def read_frames(
    path: Path, fps: float, size: tuple[int, int] | None, fit: Fit, count: int | None
) -> Iterator[np.ndarray]:
    """Yield the first `count` frames of a video at `fps`, or the frame of an image. VideoError if it is neither."""
    from vidgen.data.reading import iter_frames

    return (frame for _, frame in islice(iter_frames(path, fps=fps, size=size, fit=fit), count))
