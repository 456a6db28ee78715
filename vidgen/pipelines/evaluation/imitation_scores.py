"""In-context generation: whether a prior does with one object what a clip before shows of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vidgen.data.shapes import ClipLabels, ShapeWorldConfig, check
from vidgen.data.shapes.checker import CheckResult
from vidgen.data.shapes.imitations import ImitationWorld
from vidgen.diffusion.noise import sample_generator
from vidgen.metrics.intervals import wilson_interval
from vidgen.pipelines.priors.pipeline import PriorPipeline

OTHERWISE = "motion_otherwise"


def score_imitation(
    pipe: PriorPipeline, n: int, *, seed: int = 0, progress: Callable[[int], None] | None = None, **settings: Any
) -> dict[str, Any]:
    """Return how often the second half of a clip shows the object of its caption and the motion of its first half, and
    how often it shows this motion after the demonstration of another clip, `motion_otherwise`: chance, and what the
    prior does whatever it sees. With 95% intervals by Wilson.

    Args:
        pipe: A prior whose clips are a demonstration and its imitation.
        n: Held-out clips.
        seed: Of the draws.
        progress: Called with the number of clips that are done.
        settings: Of the pipeline's call.
    """
    s = pipe.scheduler
    world = ImitationWorld(
        ShapeWorldConfig(height=s.height, width=s.width, num_frames=s.num_frames, fps=round(s.fps), split="held_out")
    )
    first = world.lengths[0]
    rows: list[dict[str, bool]] = []
    for index in range(n):
        caption, truth = world.sample_prompt(index)[0], world.sample_pair(index).imitation

        def judge(shown: int, caption: str = caption, truth: ClipLabels = truth, index: int = index) -> CheckResult:
            stream = sample_generator(seed, index)
            clip = pipe(caption, video=world.show(shown), generator=stream, **settings).frames[0]
            return check(clip[first:], truth)

        own, other = judge(index), judge(index + n)
        row = {"colour": own.colour, "shape": own.shape, "motion": own.motion, "all": own.all}
        rows.append(row | {OTHERWISE: other.motion})
        if progress is not None:
            progress(index + 1)
    shares = {name: sum(row[name] for row in rows) / n for name in rows[0]}
    return {"n": n, **shares, "ci": {name: list(wilson_interval(share, n)) for name, share in shares.items()}}
