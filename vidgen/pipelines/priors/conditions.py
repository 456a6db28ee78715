"""What a prior is told: a prompt, the class of a clip, and its actions, a row for each latent frame."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.models.dit.side_stream import rows_of_latents
from vidgen.models.placement import device_of
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.text.encoders import ByteTextEncoder, TextEncoding


def read_texts(
    prior: TokenPrior, text_encoder: ByteTextEncoder | None, prompts: Sequence[str], negative_prompt: str
) -> tuple[TextEncoding, TextEncoding] | tuple[None, None]:
    """Return what a prior reads of prompts beside its tokens, and of what guidance leads away from. Raises VidgenError
    for texts that it does not read."""
    if text_encoder is not None:
        return text_encoder(prompts), text_encoder([negative_prompt] * len(prompts))
    if any(prompts) and not prior.config.words:
        raise VidgenError("this prior reads no text; leave the prompt empty")
    return None, None


def read_actions(
    prior: TokenPrior, actions: Float[np.ndarray, "b T a"] | None, prompts: int, num_frames: int, temporal_ratio: int
) -> dict[str, Float[Tensor, "b t k"]]:
    """Return the conditions `actions` of a prior, rows of latent frames (`rows_of_latents`); nothing without actions.

    Raises VidgenError for actions to a prior that takes none, for none to one that does, and for others than it knows.

    Args:
        prior: The prior.
        actions: Of each prompt, those that lead into each frame of its clips.
        prompts: How many.
        num_frames: Of the clips.
        temporal_ratio: Frames of a latent frame after the first.
    """
    channels = prior.config.actions // temporal_ratio
    if actions is None:
        if channels:
            raise VidgenError(
                f"this prior is told actions: in Python give actions=, (prompts, {num_frames}, {channels}) numbers"
            )
        return {}
    if not channels:
        raise VidgenError("this prior is told no actions; leave them out")
    values = torch.as_tensor(np.asarray(actions), dtype=torch.float32)
    if values.ndim != 3 or values.shape[1:] != (num_frames, channels) or len(values) != prompts:
        raise VidgenError(
            f"actions of shape {tuple(values.shape)} are not ({prompts}, {num_frames}, {channels}): one a frame of "
            "each prompt's clips"
        )
    if not bool(values.isfinite().all()):
        raise VidgenError("actions are not finite; give numbers")
    return {"actions": rows_of_latents(values, temporal_ratio).to(device_of(prior))}


def read_classes(prior: TokenPrior, class_id: int | Sequence[int] | None, prompts: int) -> dict[str, Int[Tensor, " b"]]:
    """Return the condition `class_id` of a prior, a class for each prompt; nothing without classes.

    A single number is the class of all; the number of classes itself stands for none. Raises VidgenError for a class to
    a prior that is told none, for none to one that is, and for others than it knows.
    """
    classes = prior.config.classes
    if class_id is None:
        if classes:
            raise VidgenError(
                f"this prior is told a class: in Python give class_id=, 0 to {classes - 1}, or {classes} for none"
            )
        return {}
    if not classes:
        raise VidgenError("this prior is told no class; leave class_id out")
    ids = [class_id] * prompts if isinstance(class_id, Integral) else list(class_id)
    if len(ids) != prompts or not all(isinstance(number, Integral) and 0 <= number <= classes for number in ids):
        raise VidgenError(f"class_id={class_id} is not {prompts} of 0 to {classes}; give one, or one a prompt")
    return {"class_id": torch.tensor([int(number) for number in ids], device=device_of(prior))}


def refuse_actions(prior: TokenPrior, purpose: str) -> None:
    """Raise VidgenError for a prior that is told actions, where clips come without them."""
    if prior.config.actions:
        raise VidgenError(f"{purpose} has clips without actions, and this prior is told them; name one that is not")
