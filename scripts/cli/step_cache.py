"""Skipping passes of the network that little has changed since: options that verbs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from vidgen.samplers.step_cache import Caching

CacheBoundOption = Annotated[
    float | None,
    typer.Option("--cache-bound", help="Skip passes while less than this share has changed, as 0.05; default: none."),
]
CacheByOption = Annotated[
    str, typer.Option("--cache-by", help="What is looked at: first_block (of the network), or step (its input alone).")
]


def read_caching(bound: float | None, kind: str) -> Caching | None:
    """The caching that the options ask for, if they do. VidgenError for what is no bound or kind."""
    from vidgen.samplers.step_cache import Caching

    return None if bound is None else Caching(bound=bound, kind=kind)


def describe_passes(caching: Caching | None) -> dict[str, Any]:
    """For a report: {"passes": {"run", "skipped"}, "cache_bound", "cache_by"}; nothing without caching."""
    if caching is None:
        return {}
    passes = {"run": caching.passes.run, "skipped": caching.passes.skipped}
    return {"cache_bound": caching.bound, "cache_by": caching.kind, "passes": passes}
