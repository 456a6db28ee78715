"""Labels that can be tracked through a clip: masks, points and boxes, each as labels of cells and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.data.shapes.labels import ClipLabels
from vidgen.data.shapes.masks import find_boxes, find_points, render_masks
from vidgen.metrics.j_and_f import boundary_measure, box_overlap, region_similarity
from vidgen.representations.dense.grids import Grid

# Pixels that a point may be off in a frame whose side is 256 (Doersch et al. 2022, TAP-Vid).
THRESHOLDS = (1, 2, 4, 8, 16)

Cells = Float[Tensor, "b t h w o"]
Scores = dict[str, Float[np.ndarray, " b"]]


@dataclass(frozen=True, kw_only=True)
class TrackedLabels:
    """A kind of labels to track.

    to_cells(clips, grid): exact labels of cells in every frame; those of the first are propagated. score(tracks, clips,
    grid): measures over the other frames, by name, a number a clip. metric: the name of the measure that counts.
    """

    metric: str
    to_cells: Callable[[Sequence[ClipLabels], Grid], Cells]
    score: Callable[[Cells, Sequence[ClipLabels], Grid], Scores]
    higher_is_better: bool = True


def stack(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return arrays (o ...) as one (b o ...), filled up with NaN where there are fewer objects."""
    most = max(len(part) for part in parts)
    filled = [
        np.concatenate([part, np.full((most - len(part), *part.shape[1:]), np.nan, part.dtype)]) for part in parts
    ]
    return np.stack(filled)


def mean_present(values: Float[np.ndarray, "b o *n"]) -> Float[np.ndarray, " b"]:
    """Return the mean of each clip over what is not NaN."""
    return np.nanmean(values.reshape(len(values), -1), axis=1)


# Masks


def true_masks(clips: Sequence[ClipLabels], grid: Grid) -> Float[np.ndarray, "b o t H W"]:
    """Return the share of every pixel that is each object's."""
    return stack([render_masks(labels, *grid.size, grid.frames) for labels in clips])


def masks_to_cells(clips: Sequence[ClipLabels], grid: Grid) -> Cells:
    """Return shares of each cell: background, then the objects."""
    shares = grid.to_cells(torch.from_numpy(np.nan_to_num(true_masks(clips, grid))))
    shares = torch.cat([1 - shares.sum(1, keepdim=True), shares], dim=1)
    return rearrange(shares, "b o t h w -> b t h w o")


def read_masks(tracks: Cells, grid: Grid) -> Bool[np.ndarray, "b o t H W"]:
    """Return of every object the pixels that it has the largest share in."""
    b, t, *_, count = tracks.shape
    shares = grid.to_pixels(rearrange(tracks, "b t h w o -> (b t o) h w"))
    objects = rearrange(shares, "(b t o) h w -> b o t h w", b=b, t=t).argmax(1).numpy()
    return objects[:, None] == np.arange(1, count)[:, None, None, None]


def score_masks(tracks: Cells, clips: Sequence[ClipLabels], grid: Grid) -> Scores:
    """Return j, f, and their mean."""
    shares = true_masks(clips, grid)[:, :, 1:]
    masks, truth = read_masks(tracks, grid)[:, :, 1:], shares > 0.5
    present = np.isfinite(shares[..., 0, 0])
    j = np.where(present, region_similarity(masks, truth), np.nan)
    f = np.where(present, boundary_measure(masks, truth), np.nan)
    return {"j_and_f": mean_present((j + f) / 2), "j": mean_present(j), "f": mean_present(f)}


# Points


def true_points(clips: Sequence[ClipLabels], grid: Grid) -> Float[np.ndarray, "b o p t 2"]:
    """Return where the points of each object are, (x, y) in pixels."""
    return stack([find_points(labels, grid.frames) for labels in clips])


def points_to_cells(clips: Sequence[ClipLabels], grid: Grid) -> Cells:
    """Return each point as weights of the four cells around it, whose mean is where it is; 0 where there is none."""
    points = rearrange(true_points(clips, grid), "b o p t xy -> b t (o p) xy")
    (h, w), (down, across) = grid.shape, grid.stride
    x = np.clip(points[..., 0] / across - 0.5, 0, w - 1)[..., None]
    y = np.clip(points[..., 1] / down - 0.5, 0, h - 1)[..., None]
    rows, columns = np.clip(1 - np.abs(y - np.arange(h)), 0, 1), np.clip(1 - np.abs(x - np.arange(w)), 0, 1)
    heat = np.nan_to_num(rows[..., :, None] * columns[..., None, :])
    return rearrange(torch.from_numpy(heat).float(), "b t o h w -> b t h w o")


def read_points(tracks: Cells, grid: Grid) -> Float[np.ndarray, "b o t 2"]:
    """Return the mean position (x, y) in pixels of the weights in the highest cell and the eight around it."""
    heat = rearrange(tracks, "b t h w o -> b o t h w")
    peak = rearrange(heat, "b o t h w -> b o t (h w)").argmax(-1)
    h, w = grid.shape
    near = repeat(F.one_hot(peak, h * w).float(), "b o t n -> (b o t) 1 n").unflatten(-1, (h, w))
    window = F.max_pool2d(near, 3, stride=1, padding=1).reshape(heat.shape)
    mass = (heat * window).double()
    total = mass.sum((-2, -1)).clamp(min=1e-12)
    y = (mass.sum(-1) @ ((torch.arange(h).double() + 0.5) * grid.stride[0])) / total
    x = (mass.sum(-2) @ ((torch.arange(w).double() + 0.5) * grid.stride[1])) / total
    return torch.stack([x, y], dim=-1).numpy()


def score_points(tracks: Cells, clips: Sequence[ClipLabels], grid: Grid) -> Scores:
    """Return the error in pixels, and near: the mean share of points that are no more than `THRESHOLDS` off."""
    truth = rearrange(true_points(clips, grid), "b o p t xy -> b (o p) t xy")[:, :, 1:]
    error = np.linalg.norm(read_points(tracks, grid)[:, :, 1:] - truth, axis=-1)
    limits = np.array(THRESHOLDS) * min(grid.size) / 256
    near = np.where(np.isfinite(error), (error[..., None] <= limits).mean(-1), np.nan)
    return {"error_px": mean_present(error), "near": mean_present(near)}


# Boxes


def true_boxes(clips: Sequence[ClipLabels], grid: Grid) -> Float[np.ndarray, "b o t 4"]:
    """Return the box of each object: left, top, right and bottom in pixels."""
    return stack([find_boxes(labels, grid.frames) for labels in clips])


def boxes_to_cells(clips: Sequence[ClipLabels], grid: Grid) -> Cells:
    """Return the share of each cell that a box covers."""
    boxes = true_boxes(clips, grid)
    sides = []
    for axis in (1, 0):  # rows, columns
        edges = np.arange(grid.shape[1 - axis]) * grid.stride[1 - axis]
        low, high = boxes[..., axis, None], boxes[..., axis + 2, None]
        length = grid.stride[1 - axis]
        sides.append(np.clip(np.minimum(edges + length, high) - np.maximum(edges, low), 0, None) / length)
    shares = np.nan_to_num(sides[0][..., :, None] * sides[1][..., None, :])
    return rearrange(torch.from_numpy(shares).float(), "b o t h w -> b t h w o")


def read_boxes(tracks: Cells, grid: Grid) -> Float[np.ndarray, "b o t 4"]:
    """Return the box around pixels of which the object's share is a half and more, or the greatest if none is."""
    b, t, *_, o = tracks.shape
    shares = grid.to_pixels(rearrange(tracks, "b t h w o -> (b o t) h w")).numpy()
    inside = shares >= np.minimum(0.5, shares.max((1, 2), keepdims=True))
    sides = [first_and_last(inside.any(axis)) for axis in (1, 2)]  # columns, rows
    box = np.stack([sides[0][0], sides[1][0], sides[0][1], sides[1][1]], axis=-1)
    return rearrange(box, "(b o t) k -> b o t k", b=b, o=o, t=t).astype(np.float64)


def first_and_last(mask: Bool[np.ndarray, "n l"]) -> tuple[np.ndarray, np.ndarray]:
    """Return where the first true pixel of each row begins, and the last ends."""
    return mask.argmax(1), mask.shape[1] - mask[:, ::-1].argmax(1)


def score_boxes(tracks: Cells, clips: Sequence[ClipLabels], grid: Grid) -> Scores:
    """Return iou, and the distance in pixels of the middles."""
    truth = true_boxes(clips, grid)[:, :, 1:]
    boxes = read_boxes(tracks, grid)[:, :, 1:]
    middle = np.linalg.norm((boxes[..., :2] + boxes[..., 2:] - truth[..., :2] - truth[..., 2:]) / 2, axis=-1)
    return {"iou": mean_present(box_overlap(boxes, truth)), "middle_px": mean_present(middle)}


TRACKED: dict[str, TrackedLabels] = {
    "masks": TrackedLabels(metric="j_and_f", to_cells=masks_to_cells, score=score_masks),
    "points": TrackedLabels(metric="error_px", to_cells=points_to_cells, score=score_points, higher_is_better=False),
    "boxes": TrackedLabels(metric="iou", to_cells=boxes_to_cells, score=score_boxes),
}
