"""One frame or many, as arrays and tensors: fitting to a size, and the way between uint8 and [-1, 1]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar, get_args

import numpy as np
from einops import rearrange
from jaxtyping import Float, Shaped, UInt8
from PIL import Image

if TYPE_CHECKING:  # readers work without PyTorch, which takes seconds to import
    from torch import Tensor

Fit = Literal["crop", "pad", "stretch"]
Pixels = TypeVar("Pixels", "Tensor", np.ndarray)


def check_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """Return `size` as (height, width): one number is a square, None stays None. Raises ValueError unless positive."""
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ValueError(f"size must be positive, got height {height} and width {width}")
    return int(height), int(width)


def fit_frame(
    frame: UInt8[np.ndarray, "h w 3"], size: tuple[int, int] | None, fit: Fit = "crop"
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Resize one frame to `size` = (height, width), antialiased (bicubic, its support grows with the reduction).

    fit "crop" fills the target and cuts what sticks out evenly on both sides, "pad" shows everything on black, and
    "stretch" gives up the aspect ratio. `size` None, or the size the frame has, returns the frame as it is.
    """
    if fit not in get_args(Fit):
        raise ValueError(f"fit must be one of {', '.join(get_args(Fit))}, got {fit!r}")
    height, width = frame.shape[:2]
    if size is None or size == (height, width):
        return frame
    to_height, to_width = size
    image = Image.fromarray(frame)
    if fit == "stretch":
        return np.asarray(image.resize((to_width, to_height), Image.Resampling.BICUBIC))
    if fit == "crop":
        scale = max(to_height / height, to_width / width)
        cut_x, cut_y = (width - to_width / scale) / 2, (height - to_height / scale) / 2
        box = (max(cut_x, 0.0), max(cut_y, 0.0), min(width - cut_x, width), min(height - cut_y, height))
        return np.asarray(image.resize((to_width, to_height), Image.Resampling.BICUBIC, box=box))
    scale = min(to_height / height, to_width / width)
    inner = max(round(height * scale), 1), max(round(width * scale), 1)
    canvas = np.zeros((to_height, to_width, 3), np.uint8)
    top, left = (to_height - inner[0]) // 2, (to_width - inner[1]) // 2
    canvas[top : top + inner[0], left : left + inner[1]] = image.resize(inner[::-1], Image.Resampling.BICUBIC)
    return canvas


def levels_to_float(levels: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return 8-bit levels, 0 to 255, as new contiguous float32 pixels in [-1, 1]."""
    import torch

    return levels.to(torch.float32, memory_format=torch.contiguous_format, copy=True).div_(127.5).sub_(1.0)


def float_to_levels(pixels: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Return pixels as 8-bit levels, after clamping them to [-1, 1]."""
    import torch

    return scale_to_levels(pixels.clamp(-1.0, 1.0)).round().to(torch.uint8)


def scale_to_levels(pixels: Pixels) -> Pixels:
    """Return pixels in [-1, 1] on the scale of 8-bit levels, 0 to 255, neither rounded nor clamped."""
    return (pixels + 1.0) * 127.5


def composite_on_black(rgba: UInt8[np.ndarray, "h w 4"]) -> UInt8[np.ndarray, "h w 3"]:
    """Return colours times opacity, rounded."""
    colour = rgba[..., :3].astype(np.uint16)
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((colour * alpha + 127) // 255).astype(np.uint8)


def to_tensor(
    frames: UInt8[np.ndarray, "t h w 3"] | Float[np.ndarray, "t h w 3"],
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> Float[Tensor, "3 t h w"]:
    """Return frames as a contiguous float32 tensor in [-1, 1].

    uint8 is always 0 to 255. Float frames hold `value_range`, (-1, 1) or (0, 1), and are brought to [-1, 1] from
    there; a value outside it, or NaN, is a ValueError. `to_uint8(to_tensor(x))` equals x for uint8 x.
    """
    import torch

    if not isinstance(frames, np.ndarray) or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames must be an array of shape (t, h, w, 3), got {_describe(frames)}")
    channels_first = rearrange(_as_tensor(frames), "t h w c -> c t h w")
    if frames.dtype == np.uint8:
        return levels_to_float(channels_first)
    low, high = _check_range(channels_first, value_range)
    video = channels_first.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return video.sub_(low).mul_(2.0 / (high - low)).sub_(1.0).clamp_(-1.0, 1.0)


def to_uint8(
    video: Shaped[Tensor, "3 t h w"] | Shaped[np.ndarray, "t h w 3"],
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> UInt8[np.ndarray, "t h w 3"]:
    """Return any clip as uint8 frames. Tensors are (3, t, h, w), arrays (t, h, w, 3): the type says the layout.

    uint8 passes with its values unchanged. Floats must hold `value_range`, (-1, 1) unless said otherwise; they may
    leave it by one part in 255 (rounding in half precision). Further out, or NaN, is a ValueError: clamp what comes
    from a network on purpose, and say (0, 1) for frames in that range.
    """
    import torch

    if isinstance(video, torch.Tensor):
        if video.ndim != 4 or video.shape[0] != 3:
            raise ValueError(f"a video tensor must have shape (3, t, h, w), got {_describe(video)}")
        frames = rearrange(video.detach(), "c t h w -> t h w c").cpu()
    elif isinstance(video, np.ndarray) and video.ndim == 4 and video.shape[-1] == 3:
        frames = _as_tensor(video)
    else:
        raise ValueError(f"frames must be an array of shape (t, h, w, 3), got {_describe(video)}")
    if frames.dtype == torch.uint8:
        return frames.contiguous().numpy()
    low, high = _check_range(frames, value_range)
    levels = (frames.to(torch.float32) - low) * (255.0 / (high - low))
    return levels.round_().clamp_(0, 255).to(torch.uint8).contiguous().numpy()


def clamp_to_uint8(video: Float[Tensor, "b 3 t h w"]) -> UInt8[np.ndarray, "b t h w 3"]:
    """Return clips of a network as uint8 frames; what lies outside [-1, 1] is clamped, on their device."""
    return rearrange(float_to_levels(video.detach().float()), "b c t h w -> b t h w c").cpu().numpy()


def _as_tensor(frames: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(np.require(frames, requirements=["C", "W"]))  # PyTorch warns of read-only memory


def _check_range(values: Tensor, value_range: tuple[float, float]) -> tuple[float, float]:
    low, high = value_range
    if (low, high) not in ((-1, 1), (0, 1)):
        raise ValueError(f"value_range must be (-1, 1) or (0, 1), got {value_range}")
    if not values.is_floating_point():
        raise ValueError(f"frames must be uint8 or floating point, got {values.dtype}")
    if values.numel() == 0:
        return low, high
    minimum, maximum = (value.item() for value in values.aminmax())
    slack = (high - low) / 255
    if not (low - slack <= minimum and maximum <= high + slack):  # NaN fails every comparison
        raise ValueError(
            f"values from {minimum:.4g} to {maximum:.4g} lie outside the declared range {low:g} to {high:g}"
        )
    return low, high


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} of shape {tuple(shape)}"


def latent_frames(num_frames: int, temporal_compression_ratio: int) -> int:
    """Return how many latent frames hold a clip, by the frame rule t = 1 + ceil((T - 1) / f_t).

    The first frame has a latent frame of its own; the last one is filled up by repeating the last frame.
    """
    return 1 + -(-(num_frames - 1) // temporal_compression_ratio)
