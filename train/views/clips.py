"""Views of clips: segments, tempos, crops, colours, the same over all frames of a view; and what breaks time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vidgen.bounds import Choice, Count, NoOrCount, Range, Share, check_fields
from vidgen.errors import VidgenError

LUMA = (0.299, 0.587, 0.114)  # Rec. 601
Video = Float[Tensor, "b c T H W"]


def keep_order(frames: int, generator: torch.Generator) -> Tensor:
    """Frames as they come."""
    return torch.arange(frames)


def shuffle_frames(frames: int, generator: torch.Generator) -> Tensor:
    """Frames in any other order (Tao et al. 2020, IIC, section 3.3: intra-negatives)."""
    order = torch.randperm(frames, generator=generator)
    return order.roll(1) if bool((order == torch.arange(frames)).all()) else order


def repeat_frame(frames: int, generator: torch.Generator) -> Tensor:
    """One frame again and again: all there is but motion (IIC, section 3.3)."""
    return torch.randint(frames, (1,), generator=generator).expand(frames)


def reverse_frames(frames: int, generator: torch.Generator) -> Tensor:
    """Frames backwards."""
    return torch.arange(frames).flip(0)


def break_pieces(frames: int, generator: torch.Generator) -> Tensor:
    """Short pieces in another order: the scene stays, and the motion is broken (Wang et al. 2021, DSM, section 3.3)."""
    pieces = torch.arange(frames).split(max(1, frames // 4))
    order = shuffle_frames(len(pieces), generator)
    return torch.cat([pieces[i] for i in order.tolist()])


ORDERS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "kept": keep_order,
    "shuffled": shuffle_frames,
    "repeated": repeat_frame,
    "reversed": reverse_frames,
    "broken": break_pieces,
}


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How a view is drawn of a clip; all of it but `crops` is the same for all its frames (Qian et al. 2021, CVRL,
    section 3.2).

    frames: of the view, 0 for as many as the clip has over `stride`; from a moment that is drawn.
    stride: every so many frames; `max_stride` above it draws one of them.
    crop: the least share of the frame's area, resized to the whole; its sides' ratio is at most 4:3.
    crops: in how many runs, of as many frames each, the crop is another one; with order "repeated", crops of one image
        (Eymaël et al. 2024, CropMAE).
    flip: how often it is mirrored. colour: how much brightness, contrast and saturation change; gray: how often it has
        no colour.
    scramble: how much pixels of each frame are moved about at random, in cells of an eighth of the frame: the motion
        stays, and the scene is broken (DSM, section 3.3).
    order: of ORDERS.
    """

    frames: NoOrCount = 0
    stride: Count = 1
    max_stride: NoOrCount = 0
    crop: Annotated[float, Range(0.0, 1.0, above=True)] = 0.4
    crops: Count = 1
    flip: Share = 0.0
    colour: Share = 0.4
    gray: Share = 0.2
    scramble: Share = 0.0
    order: Annotated[str, Choice(tuple(ORDERS))] = "kept"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_stride and self.max_stride < self.stride:
            raise VidgenError(f"max_stride {self.max_stride} is below stride {self.stride}")

    def length(self, frames: int) -> int:
        """Return the frames of a view of a clip of so many. Raises VidgenError where it has too few."""
        longest = max(self.stride, self.max_stride)
        count = self.frames or -(-frames // longest)
        if 1 + (count - 1) * longest > frames:
            raise VidgenError(f"a view of {count} frames, every {longest}-th, is longer than a clip of {frames}")
        if count % self.crops:
            raise VidgenError(f"a view of {count} frames is not to be parted into {self.crops} crops")
        return count


def draw_view(config: ViewConfig, video: Video, generator: torch.Generator) -> Video:
    """Draw a view of each clip, at the clip's height and width; a clip's draws do not depend on the others'. Raises
    VidgenError for clips that are too short."""
    count = config.length(video.shape[2])
    seeds = torch.randint(2**62, (len(video),), generator=generator).tolist()
    return torch.stack([
        draw_one(config, clip, count, torch.Generator().manual_seed(seed))
        for clip, seed in zip(video, seeds, strict=True)
    ])  # fmt: skip


def draw_one(config: ViewConfig, clip: Float[Tensor, "c T H W"], count: int, generator: torch.Generator) -> Tensor:
    """Draw a view of one clip."""

    def uniform(low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    strides = range(config.stride, max(config.stride, config.max_stride) + 1)
    stride = strides[int(uniform() * len(strides))]
    first = int(uniform() * (clip.shape[1] - (count - 1) * stride))
    times = first + stride * ORDERS[config.order](count, generator)
    frames = clip[:, times].transpose(0, 1)  # (T, c, H, W)
    runs = frames.chunk(config.crops)
    frames = torch.cat(
        [crop_frames(run, uniform(config.crop, 1.0), uniform(-1.0, 1.0), uniform(), uniform()) for run in runs]
    )
    if uniform() < config.flip:
        frames = frames.flip(-1)
    if config.scramble:
        frames = scramble_cells(frames, config.scramble, generator)
    if config.colour:
        frames = change_colours(frames, [uniform(-config.colour, config.colour) for _ in range(3)])
    if uniform() < config.gray:
        frames = luma(frames).expand_as(frames)
    if config.colour or config.gray:  # latents have no such bounds, and no colours
        frames = frames.clamp(-1.0, 1.0)
    return frames.transpose(0, 1)


def crop_frames(frames: Float[Tensor, "T c H W"], area: float, aspect: float, top: float, left: float) -> Tensor:
    """Return a crop of a share `area`, its sides' ratio (4/3)^aspect or what the frame has room for, resized to the
    frame; `top` and `left` in [0, 1] are where it lies."""
    height, width = frames.shape[2:]
    side = area**0.5
    ratio = min(max((4 / 3) ** (aspect / 2), side), 1.0 / side)
    h, w = (max(1, round(n * side * r)) for n, r in ((height, ratio), (width, 1.0 / ratio)))
    if (h, w) == (height, width):
        return frames
    y, x = round(top * (height - h)), round(left * (width - w))
    part = frames[..., y : y + h, x : x + w]
    return F.interpolate(part, size=(height, width), mode="bilinear", antialias=True, align_corners=False)


def luma(frames: Float[Tensor, "T 3 H W"]) -> Float[Tensor, "T 1 H W"]:
    """Return the light of frames."""
    weights = torch.tensor(LUMA, dtype=frames.dtype, device=frames.device)
    return (frames * weights[:, None, None]).sum(1, keepdim=True)


def change_colours(frames: Float[Tensor, "T 3 H W"], amounts: list[float]) -> Float[Tensor, "T 3 H W"]:
    """Return frames with brightness, contrast and saturation times 1 + amount, of values from 0 on."""
    brightness, contrast, saturation = (1.0 + amount for amount in amounts)
    x = (frames + 1.0) * brightness
    x = x.mean() + contrast * (x - x.mean())
    gray = luma(x)
    return gray + saturation * (x - gray) - 1.0


def frame_differences(video: Video) -> Video:
    """Return half of how each frame differs from the one before, in [-1, 1]; the first one is the second's. A stream of
    motion beside that of pixels (in place of the optical flow of Han et al. 2020, CoCLR). Raises ValueError for one
    frame."""
    if video.shape[2] < 2:
        raise ValueError("one frame differs from none before it")
    change = (video[:, :, 1:] - video[:, :, :-1]) / 2.0
    return torch.cat([change[:, :, :1], change], dim=2)


def scramble_cells(frames: Float[Tensor, "T c H W"], share: float, generator: torch.Generator) -> Tensor:
    """Return frames of which a share of the cells, an eighth of a side each, are swapped about, the same in all."""
    height, width = frames.shape[2:]
    h, w = max(1, height // 8), max(1, width // 8)
    rows, columns = height // h, width // w
    cells = torch.arange(rows * columns)
    moved = cells[torch.rand(len(cells), generator=generator) < share]
    cells[moved] = moved[torch.randperm(len(moved), generator=generator)]
    y = (torch.arange(height) // h).clamp(max=rows - 1)
    x = (torch.arange(width) // w).clamp(max=columns - 1)
    source = cells[y[:, None] * columns + x]
    from_y = source // columns * h + (torch.arange(height) - y * h)[:, None]
    from_x = source % columns * w + (torch.arange(width) - x * w)
    return frames[..., from_y.clamp(max=height - 1), from_x.clamp(max=width - 1)]
