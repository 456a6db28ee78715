"""Generation tasks of one denoiser, which it is told by an id: what of a clip is known under each, in latents.

Frames that are known have noise level 0 (Chen et al. 2024, diffusion forcing). Cells of inpainting are shown clean
among noisy ones (Saharia et al. 2022, Palette, section 3). A degraded clip, for restoration, stands clean before the
frames of the clip, as frames that are known: no input of the network is new but the id.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from jaxtyping import Bool
from torch import Tensor

from vidgen.models.dit.label_embedding import TEXT_TO_VIDEO
from vidgen.samplers.conditioning.degradations import Blur, Degradation, Downsample, Grayscale, Mask

IMAGE_TO_VIDEO = "image_to_video"  # the first latent frame
INTERPOLATION = "interpolation"  # the first and the last
PREDICTION = "prediction"  # the first ones, two or more
KEYFRAMES = "keyframes"  # any others
INPAINTING = "inpainting"  # parts of frames
# The latent frames that a clip has at least, for each task of frames; others take any.
SHORTEST: Mapping[str, int] = MappingProxyType({IMAGE_TO_VIDEO: 2, INTERPOLATION: 3, PREDICTION: 3, KEYFRAMES: 2})
# What a restored clip has lost in training, as `vidgen restore` has it unless told otherwise.
RESTORATIONS: Mapping[str, Degradation] = MappingProxyType(
    {"super_resolution": Downsample(), "deblurring": Blur(), "colorization": Grayscale()}
)
GENERATION_TASKS = (TEXT_TO_VIDEO, *SHORTEST, INPAINTING, *RESTORATIONS)


def find_task(known: Bool[Tensor, "t h w"]) -> str:
    """Return the task of making the cells of a clip that are not known."""
    frames = known.flatten(1).all(1)
    if bool((known & ~frames[:, None, None]).any()):
        return INPAINTING
    if not bool(frames.any()):
        return TEXT_TO_VIDEO
    count = int(frames.sum())
    if bool(frames[:count].all()):  # all of them lie at the start
        return IMAGE_TO_VIDEO if count == 1 else PREDICTION
    return INTERPOLATION if count == 2 and bool(frames[0] and frames[-1]) else KEYFRAMES


def find_restoration(degradation: Degradation) -> str | None:
    """Return the task of undoing a degradation, or None for one that is no task."""
    kinds = {type(lost): name for name, lost in RESTORATIONS.items()} | {Mask: INPAINTING}
    return kinds.get(type(degradation))


def draw_known(task: str, shape: tuple[int, int, int], generator: torch.Generator) -> Bool[Tensor, "t h w"]:
    """Draw cells of latents (t, h, w) that are known under a task; `find_task` of them is the task. A restored clip has
    none: what is known lies before it.

    Raises ValueError for a clip that is too short for the task.
    """
    t, h, w = shape
    if t < SHORTEST.get(task, 1):
        raise ValueError(f"{task} needs {SHORTEST[task]} latent frames, got {t}")
    known = torch.zeros(shape, dtype=torch.bool)
    if task == INPAINTING:
        known[:] = True
        top, height = draw_span(h, generator)
        left, width = draw_span(w, generator)
        known[:, top : top + height, left : left + width] = False
    elif task == IMAGE_TO_VIDEO:
        known[0] = True
    elif task == INTERPOLATION:
        known[0] = known[-1] = True
    elif task == PREDICTION:
        known[: int(torch.randint(2, t, (), generator=generator))] = True
    elif task == KEYFRAMES:
        while find_task(known) != KEYFRAMES or bool(known.all()):
            known[:] = (torch.rand(t, generator=generator) < 0.5)[:, None, None]
    return known


def draw_span(length: int, generator: torch.Generator) -> tuple[int, int]:
    """Draw the start and the size of a part of an axis: a quarter of it to three quarters, one cell at least."""
    size = max(1, int(length * (0.25 + 0.5 * float(torch.rand((), generator=generator))) + 0.5))
    return int(torch.randint(length - size + 1, (), generator=generator)), size
