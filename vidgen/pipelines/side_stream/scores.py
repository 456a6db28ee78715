"""What a model of clips and actions is worth, in the world of walks, whose actions and positions are exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.data.shapes.render import render
from vidgen.data.shapes.walks import WalkWorld, redraw_walk, track_position, walk_actions
from vidgen.metrics.intervals import mean_interval
from vidgen.pipelines.evaluation.adherence import Progress
from vidgen.pipelines.side_stream.sampling import decode_clips, encode_clips, sample_side_stream
from vidgen.pipelines.video import VideoPipeline

Look = Callable[[str, list[np.ndarray]], None]  # is shown the clips of a name


@dataclass(frozen=True)
class Errors:
    """Errors of each clip, by the name of what made them."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, errors: Float[np.ndarray, "b ..."]) -> None:
        """Add the mean error of each clip."""
        self.values.setdefault(name, []).extend(np.mean(errors.reshape(len(errors), -1), axis=1).tolist())

    def means(self) -> dict[str, dict[str, Any]]:
        """Return the mean over clips of each name, with its 95% interval and the number of clips."""
        return {name: asdict(mean_interval(values)) for name, values in self.values.items()}


def score_side_stream(
    pipe: VideoPipeline,
    world: WalkWorld,
    n: int,
    *,
    context: int = 2,
    seed: int = 0,
    batch_size: int = 8,
    advance: Progress | None = None,
    look: Look | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Return mean errors in the four modes over the first n clips of a world, beside those of answers without a model.

    `actions`, mean absolute errors in standard deviations of an action: "inverse" of all of a clip's; "policy" of those
    in the latent frame after the first `context` ones, one that is drawn from what a walker may do next; beside them
    "inverse zero", "policy zero" and "policy keep", that it keeps its last action.

    `position`, pixels from where the object is, over the frames after the first: "forward" from the first frame and the
    actions; "forward redrawn" from those of another walk that begins there, to where these lead; "video" from the first
    frame alone; "still" where it stays; "reconstruction" of the tokenizer. Clips that show no object are left out.

    `look` is shown the clips of each name, and "truth"; `settings` are those of `sample_side_stream`.
    """
    ratio, unit = pipe.vae.config.temporal_compression_ratio, world.config.unit
    actions_off, position_off = Errors(), Errors()
    after = 1 + (context - 1) * ratio
    for first in range(0, n, batch_size):
        numbers = range(first, min(first + batch_size, n))
        part = [world[index] for index in numbers]
        position = np.stack([clip.labels.objects[0].position for clip in part])
        truth = np.stack([walk_actions(one, unit) for one in position])
        latents = encode_clips(pipe, torch.stack([to_tensor(clip.video) for clip in part]))
        run = {"latents": latents, "seed": seed + first, **settings}
        blank = [""] * len(part)
        inverse = sample_side_stream(pipe, "inverse", blank, **run).side.numpy()
        actions_off.add("inverse", abs(inverse - truth)[:, 1:])
        actions_off.add("inverse zero", abs(truth)[:, 1:])
        nearby = slice(after, after + ratio)
        policy = sample_side_stream(pipe, "policy", blank, context=context, **run).side.numpy()
        actions_off.add("policy", abs(policy - truth)[:, nearby])
        actions_off.add("policy zero", abs(truth)[:, nearby])
        actions_off.add("policy keep", abs(truth[:, after - 1 : after] - truth)[:, nearby])

        def told(actions: Float[np.ndarray, "b T a"], run: dict = run, blank: list = blank) -> Tensor:
            side = torch.from_numpy(actions).float()
            return sample_side_stream(pipe, "forward", blank, context=1, side=side, **run).latents

        others = [
            redraw_walk(np.random.default_rng([seed, index]), clip.labels, world.config)
            for index, clip in zip(numbers, part, strict=True)
        ]
        led = np.stack([labels.objects[0].position for labels in others])
        clips_by_name = {
            "reconstruction": (latents, position),
            "forward": (told(truth), position),
            "forward redrawn": (told(np.stack([walk_actions(one, unit) for one in led])), led),
            "video": (sample_side_stream(pipe, "video", blank, context=1, **run).latents, position),
        }
        position_off.add("still", np.linalg.norm(position[:, :1] - position, axis=-1)[:, 1:])
        for name, (made, wanted) in clips_by_name.items():
            frames = decode_clips(pipe, made, position.shape[1])
            if look is not None:
                look(name, frames)
            for clip, goal in zip(frames, wanted, strict=True):
                center = track_position(clip)
                if center is not None:
                    position_off.add(name, np.linalg.norm(center - goal, axis=-1)[None, 1:])
        if look is not None:
            look("truth", [clip.video for clip in part])
            look("truth redrawn", [render(labels, world.config) for labels in others])
        if advance is not None:
            advance(len(part))
    return {"n": n, "context": context, "actions": actions_off.means(), "position": position_off.means()}
