"""Endless clips of one kind of scene, in groups that differ in what is asked and in nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vidgen.data.shapes.labels import ClipLabels, ShapeClip, ShapeWorldConfig
from vidgen.data.shapes.render import render
from vidgen.data.shapes.scenes.collision import draw_collision
from vidgen.data.shapes.scenes.occlusion import draw_occlusion
from vidgen.data.shapes.scenes.order import draw_order
from vidgen.data.shapes.scenes.rate import draw_rate
from vidgen.data.shapes.scenes.reversal import draw_reversal
from vidgen.data.shapes.scenes.scene import SceneKind
from vidgen.data.shapes.world import MIN_ORDERED_FRAMES, clip_generator, draw_background

SCENES: dict[str, SceneKind] = {
    "reversal": SceneKind(draw=draw_reversal, variants=2, stream=2, least_frames=5),
    "order": SceneKind(draw=draw_order, variants=2, stream=3, least_frames=MIN_ORDERED_FRAMES),
    "occlusion": SceneKind(draw=draw_occlusion, variants=4, stream=4, least_frames=9),
    "collision": SceneKind(draw=draw_collision, variants=2, stream=5, least_frames=9),
    "rate": SceneKind(draw=draw_rate, variants=3, stream=6, least_frames=5),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneClip(ShapeClip):
    """A clip with labels by name, beside those of `label_tasks`, and the group of clips that it belongs to: they are to
    be kept on one side of a split."""

    tasks: dict[str, Any]
    group: str


class SceneWorld:
    """`SceneWorld("occlusion")[index]` is the same clip every time, for any index >= 0; see `SCENES` for the kinds.

    Clips of a group follow one another, and share everything but what is asked; every such label is equally frequent.
    Raises ValueError for an unknown kind, or fewer frames than it can be told from; IndexError for a negative index.
    """

    def __init__(self, kind: str, config: ShapeWorldConfig | None = None):
        if kind not in SCENES:
            raise ValueError(f"scene {kind!r} is unknown; choose one of {', '.join(SCENES)}")
        self.config = config or ShapeWorldConfig()
        self.kind = SCENES[kind]
        if self.config.num_frames < self.kind.least_frames:
            raise ValueError(f"scene {kind!r} needs {self.kind.least_frames} frames, got {self.config.num_frames}")

    def __getitem__(self, index: int) -> SceneClip:
        group, variant = divmod(index, self.kind.variants)
        rng = clip_generator(self.config, group, self.kind.stream)
        background = draw_background(rng, self.config)
        scene = self.kind.draw(rng, self.config)[variant]
        labels = ClipLabels(objects=scene.objects, background=background, events=scene.events, ordered=scene.ordered)
        return SceneClip(
            video=render(labels, self.config),
            caption=scene.caption,
            labels=labels,
            tasks=scene.tasks,
            group=f"{group:06d}",
        )
