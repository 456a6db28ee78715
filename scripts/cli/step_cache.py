"""Skipping passes of the network that little has changed since: options that verbs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vidgen.samplers.step_cache import StepCacheConfig

CacheBoundOption = Annotated[
    float | None,
    typer.Option("--cache-bound", help="Skip passes while less than this share has changed, as 0.05; default: none."),
]
CacheByOption = Annotated[
    str, typer.Option("--cache-by", help="What is looked at: first_block (of the network), or step (its input alone).")
]


def read_caching(bound: float | None, kind: str) -> StepCacheConfig | None:
    """The caching that the options ask for, if they do. VidgenError for what is no bound or kind."""
    from vidgen.samplers.step_cache import StepCacheConfig

    return None if bound is None else StepCacheConfig(threshold=bound, kind=kind)


def describe_passes(caching: StepCacheConfig | None) -> dict[str, Any]:
    """For a report: {"passes": {"run", "skipped"}, "cache_bound", "cache_by"}; nothing without caching."""
    if caching is None:
        return {}
    passes = {"run": caching.passes.run, "skipped": caching.passes.skipped}
    return {"cache_bound": caching.threshold, "cache_by": caching.kind, "passes": passes}
