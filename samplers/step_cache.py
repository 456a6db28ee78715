"""First-block cache and step cache: passes that end early.

Where little has changed since the last whole pass, what its later blocks added is added again.

"first_block" runs the first block and looks at what it adds to the stream (as ParaAttention's FBCache); "step" runs no
block, and sums up how much the network's input has changed from pass to pass (Liu et al. 2024, TeaCache, eq. 6, on the
input itself, without a polynomial fitted to one model). Changes are relative in L1, those of a clip's most changed
frame: known frames do not change, and would hide what the others do.

All of it is decided clip by clip, so that no clip depends on its batch, nor the estimates of one guidance on another's.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from einops import reduce
from jaxtyping import Bool, Float
from torch import Tensor

from vidgen.bounds import Choice, Range, check_fields
from vidgen.errors import VidgenError

KINDS = ("first_block", "step")
Stream = Float[Tensor, "b t h w d"]


@dataclass(kw_only=True)
class PassCounts:
    """How many passes were `run` whole and how many `skipped`, each of one clip and one estimate."""

    run: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        return f"{self.skipped} of {self.run + self.skipped} passes skipped"


@dataclass(frozen=True, kw_only=True)
class StepCacheConfig:
    """Passes are skipped while the change stays below `threshold`: 0 skips none, and 0.1 is a tenth.

    `kind` is one of KINDS, what the change is measured on. `passes` counts those of all calls that take this config.
    Raises VidgenError for what is no threshold or kind.
    """

    threshold: Annotated[float, Range(0.0, 1.0, below=True)]
    kind: Annotated[str, Choice(KINDS)] = "first_block"
    passes: PassCounts = field(default_factory=PassCounts, compare=False)

    def __post_init__(self) -> None:
        check_fields(self, "step cache: ")


def Caching(*, bound: float, **settings: Any) -> StepCacheConfig:
    """Return a StepCacheConfig, with a warning: its name before."""
    warnings.warn("Caching(bound=...) is now called StepCacheConfig(threshold=...)", FutureWarning, stacklevel=2)
    return StepCacheConfig(threshold=bound, **settings)


@dataclass(frozen=True, kw_only=True)
class CacheState:
    """What a network remembers of each row of its batch: what the change is measured on, at the last pass that counts
    (`probe`); what the skipped blocks added at the last whole one (`rest`); how much has changed since (`change`)."""

    probe: Stream
    rest: Stream
    change: Float[Tensor, " b"]


def relative_change(new: Stream, old: Stream) -> Float[Tensor, " b"]:
    """Return |new - old| / |old| in L1, of each clip's most changed frame."""
    difference = reduce((new - old).float().abs(), "b t h w d -> b t", "mean")
    return (difference / reduce(old.float().abs(), "b t h w d -> b t", "mean").clamp(min=1e-12)).amax(1)


def take_rows(value: Any, rows: Tensor) -> Any:
    """Return some rows of a condition: of a tensor, or of all that are in a tuple or a dataclass."""
    if isinstance(value, Tensor):
        return value[rows]
    if dataclasses.is_dataclass(value):
        named = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return dataclasses.replace(value, **{name: take_rows(part, rows) for name, part in named})
    if isinstance(value, tuple):
        parts = [take_rows(part, rows) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def finish(iter_features: Iterator[tuple[str, Tensor]], last: Stream | None = None) -> tuple[Stream, Tensor]:
    """Return the last block's output (`last` if none is left) and the prediction."""
    for name, x in iter_features:
        if name == "out":
            break
        last = x
    return last, x


def cached_pass(
    network: Any, config: StepCacheConfig, state: CacheState | None, x: Tensor, t: Tensor, **conditions: Any
) -> tuple[Tensor, CacheState, Bool[Tensor, " b"]]:
    """Return the prediction, the state after it, and which rows were run whole. `state` None starts.

    Raises VidgenError for a network whose `iter_features` does not begin with its patches, or takes nothing in place of
    blocks.
    """
    features = network.iter_features(x, t, **conditions) if hasattr(network, "iter_features") else iter([("out", x)])
    name, base = next(features)
    if name != "patches":
        raise VidgenError(f"{type(network).__name__} does not say what goes into its blocks; sample without a cache")
    probe = base
    if config.kind == "first_block":
        base = next(features)[1]
        probe = base - probe
    change = torch.full((len(x),), torch.inf, device=base.device)
    if state is not None:
        change = relative_change(probe, state.probe) + (state.change if config.kind == "step" else 0.0)
    whole = ~(change < config.threshold)
    change = change.masked_fill(whole, 0.0)
    if bool(whole.all()):
        last, out = finish(features, base)
        return out, CacheState(probe=probe, rest=last - base, change=change), whole
    name, out = features.send(base + state.rest)
    if name != "out":
        raise VidgenError(f"{type(network).__name__} cannot leave blocks out; sample without a cache")
    rest, rows = state.rest, whole.nonzero().squeeze(1)
    if len(rows):
        part = {name: take_rows(value, rows) for name, value in conditions.items()}
        last, prediction = finish(network.iter_features(x[rows], t[rows], **part))
        out, rest = out.index_copy(0, rows, prediction), rest.index_copy(0, rows, last - base[rows])
    if config.kind == "first_block":  # measured against the last whole pass, and not from pass to pass
        probe = state.probe.index_copy(0, rows, probe[rows])
    return out, CacheState(probe=probe, rest=rest, change=change), whole


class CachedNetwork:
    """A network (x, t, **conditions) -> prediction that skips what it can; a new one for each estimate and run."""

    def __init__(self, network: Any, config: StepCacheConfig) -> None:
        self.network, self.config = network, config
        self.state: CacheState | None = None

    def __call__(self, x: Tensor, t: Tensor, **conditions: Any) -> Tensor:
        """Return the prediction, and count how many rows of it were run whole."""
        out, self.state, whole = cached_pass(self.network, self.config, self.state, x, t, **conditions)
        run = int(whole.sum())
        self.config.passes.run += run
        self.config.passes.skipped += len(x) - run
        return out
