"""What a denoiser's loss is on held-out clips, at fixed noise levels with fixed noise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.noise import draw_normal, sample_generator
from vidgen.samplers.conditioning.generation_tasks import RESTORATIONS
from vidgen.train.data.sources import rng_of
from vidgen.train.tasks.denoising_draws import context_frames
from vidgen.train.tasks.task import Metrics

if TYPE_CHECKING:
    from vidgen.train.tasks.denoising import DenoisingTask


def validate(task: DenoisingTask) -> Metrics:
    """Return `measure` of held-out clips.

    Where they have pictures it is with these and the captions beside them, and there are the losses of the same
    captions alone and of whole captions, between which it should lie. With generation tasks see `measure_tasks`.
    """
    rows, seed = range(len(task.held_out.rows)), task.recipe.seed
    captions = [task.held_out.caption(i, rng_of(seed, i)) for i in rows]
    if task.recipe.tasks:
        return measure_tasks(task, captions)
    if task.held_out.pictures is None:
        return measure(task, captions)
    beside = [task.held_out.beside(i, rng_of(seed, i)) for i in rows]
    others = {"loss_without_picture": measure(task, beside), "loss_whole_caption": measure(task, captions)}
    metrics = measure(task, beside, task.held_out.pictures.float())
    return {**metrics, **{name: other["loss"] for name, other in others.items()}}


def measure_tasks(task: DenoisingTask, captions: list[str]) -> Metrics:
    """Return `measure` of every generation task by its name, and of all the mean by their shares."""
    shares = task.recipe.tasks
    each = {name: measure(task, captions, generation_task=name) for name in shares}
    total = sum(shares.values())
    names = next(iter(each.values()))
    means = {name: sum(share * each[other][name] for other, share in shares.items()) / total for name in names}
    return {**means, **{f"loss_{name}": metrics["loss"] for name, metrics in each.items()}}


def measure(
    task: DenoisingTask,
    captions: list[str],
    pictures: Float[Tensor, "n c 1 h w"] | None = None,
    generation_task: str | None = None,
) -> Metrics:
    """Return the loss of held-out clips at fixed, equally probable noise levels with fixed noise, and its mean.

    Under a `generation_task` it is with what that draws of each clip; of stories it is that of the last scene.
    """
    latents = task.held_out.latents.float()
    eps = draw_normal(latents.shape, sample_generator(task.recipe.seed, "validation"))
    earlier = [row.get("earlier", ()) for row in task.held_out.rows]
    context = torch.arange(latents.shape[2]) < context_frames({"latents": latents, "earlier": earlier})
    metrics = {}
    for level in task.time_of(latents).stratified(task.recipe.validation_levels).tolist():
        losses = []
        for first in range(0, len(latents), task.recipe.batch_size):
            part = slice(first, first + task.recipe.batch_size)
            t = torch.full((len(latents[part]),), level)
            tokens = None if pictures is None else task.image_prompt(pictures[part].to(task.recipe.device))
            text = task.encode(captions[part], tokens)
            if generation_task is None:
                if context.any():
                    t = t[:, None].expand(-1, latents.shape[2]).masked_fill(context, 0.0)
                losses.append(task.denoising_loss(latents[part], text, t, eps[part]))
                continue
            name = generation_task
            batch = {"latents": latents[part], "tasks": [name] * len(t)}
            batch |= {"degraded": task.held_out.degraded[name][part].float()} if name in RESTORATIONS else {}
            generator = sample_generator(task.recipe.seed, f"validation-{name}-{first}")
            draw = task.draw(latents[part], generator, batch["tasks"])
            t = t[:, None].expand_as(draw.t).masked_fill(draw.known.flatten(2).all(2), 0.0)
            losses.append(task.losses(batch, text, replace(draw, t=t, eps=eps[part])))
        metrics[f"loss@t={level:.3f}"] = torch.cat(losses).mean().item()
    return {"loss": sum(metrics.values()) / len(metrics), **metrics}
