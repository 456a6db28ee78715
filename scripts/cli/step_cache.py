"""Skipping passes of the network whose input has hardly changed: the options that verbs share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vidgen.samplers.step_cache import StepCacheConfig


@dataclass(frozen=True, kw_only=True)
class StepCacheOptions:
    """When a pass of the network is skipped and the last result used again."""

    cache_bound: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Reuse the last pass until the relative change since then exceeds this, e.g. 0.05. Default: never.",
        ),
    ] = None
    cache_by: Annotated[
        str,
        typer.Option(help="What the change is measured on: the output of the first_block, or the input of the step."),
    ] = "first_block"

    def read(self) -> StepCacheConfig | None:
        """Return the caching, or None where it was not asked for. Raises VidgenError for what is no bound or kind."""
        from vidgen.samplers.step_cache import StepCacheConfig

        return None if self.cache_bound is None else StepCacheConfig(threshold=self.cache_bound, kind=self.cache_by)


def describe_passes(caching: StepCacheConfig | None) -> dict[str, Any]:
    """Return {"passes": {"run", "skipped"}, "cache_bound", "cache_by"} for a report; nothing without caching."""
    if caching is None:
        return {}
    passes = {"run": caching.passes.run, "skipped": caching.passes.skipped}
    return {"cache_bound": caching.threshold, "cache_by": caching.kind, "passes": passes}
