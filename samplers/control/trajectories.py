"""Trajectories: a path that something is to follow, and the crude clip in which a cut-out of a picture follows it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.models.warping import warp
from vidgen.samplers.control.motion_fields import Box, Shifts, box_masks, translation_field

FILL_STEPS = 400  # of relaxation: a hole of 40 pixels is smooth to a level of 255


@dataclass(frozen=True)
class Trajectory:
    """Points (x, y) in pixels that the middle of something passes, at even times from the first frame to the last;
    straight between them. Raises VidgenError for fewer than two points, and for one that is not finite."""

    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if len(self.points) < 2 or not all(len(p) == 2 and all(map(math.isfinite, p)) for p in self.points):
            raise VidgenError(f"a path {self.points} is none: give two points (x, y) or more")

    def positions(self, num_frames: int) -> Float[Tensor, "t 2"]:
        """Return where the middle is in each frame."""
        points = torch.tensor(self.points, dtype=torch.float64)
        at = torch.linspace(0.0, len(points) - 1.0, num_frames, dtype=torch.float64)
        low = at.floor().long().clamp(max=len(points) - 2)
        return torch.lerp(points[low], points[low + 1], (at - low)[:, None])


def read_trajectory(text: str) -> Trajectory:
    """Return the trajectory of "10,32 50,32". Raises VidgenError for anything else."""
    try:
        points = tuple(tuple(float(number) for number in point.split(",")) for point in text.split())
        return Trajectory(points)
    except (ValueError, VidgenError):
        raise VidgenError(f"path {text!r} is none: give two points X,Y or more, in pixels, as '10,32 50,32'") from None


def fill_box(image: Float[Tensor, "c h w"], box: Box) -> Float[Tensor, "c h w"]:
    """Return the picture with the inside of a box filled smoothly from what is around it (a membrane, by relaxation);
    as it is where the box is all of it."""
    inside = box_masks(torch.zeros(1, 2), box, *image.shape[1:])[0]
    if bool(inside.all()):
        return image.clone()
    filled = torch.where(inside, image[:, ~inside].mean(1)[:, None, None], image)
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]).to(image) / 4.0
    for _ in range(FILL_STEPS):
        padded = torch.nn.functional.pad(filled[:, None], (1, 1, 1, 1), mode="replicate")
        around = torch.nn.functional.conv2d(padded, kernel[None, None])[:, 0]
        filled = torch.where(inside, around, filled)
    return filled


def drag_box(
    image: Float[Tensor, "c h w"], box: Box, shifts: Shifts
) -> tuple[Float[Tensor, "c t h w"], Bool[Tensor, "t h w"]]:
    """Return the clip in which what the box holds is cut out, and pasted where the shifts have it, and the pasted
    pixels: the crude animation of Time-to-Move (Singer et al. 2025). Linear between pixels."""
    height, width = image.shape[1:]
    moved = warp(image[None], translation_field(shifts, height, width).to(image))[0]  # c t h w
    pasted = box_masks(shifts, box, height, width)
    return torch.where(pasted, moved, fill_box(image, box)[:, None]), pasted
