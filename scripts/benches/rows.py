"""What a bench is asked for, and the rows that it answers with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vidgen.scripts.benches.timing import Timing, ratio_of, ratio_quartiles


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """The options of `vidgen bench`. `peers` and `only` None: all that the bench has; `bank_gb` and `knn_rows` None: as
    many as it finds right."""

    model: str = "default"
    device: str = "cpu"
    dtype: str = "bfloat16"
    rounds: int = 5
    quick: bool = False
    memory: bool = True
    peers: tuple[str, ...] | None = None
    only: tuple[str, ...] | None = None
    peer_seconds: float = 600.0
    bank_gb: float | None = None
    knn_rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a bench. `gflops` is the work (None: not of that kind), `roof_fraction` its rate over that of matrix
    products in the same dtype; `ratio` is the peer's time over ours; `max_abs_diff` only where both should agree, as
    with the same weights. `more` holds what only some rows have."""

    name: str
    ours_s: float
    gflops: float | None
    roof_fraction: float | None
    peer_s: float | None = None
    ratio: float | None = None
    peak_mb: float | None = None
    max_abs_diff: float | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        values = {key: value for key, value in vars(self).items() if key != "more"}
        return {key: rounded(value) for key, value in {**values, **self.more}.items()}


def rounded(value: Any) -> Any:
    """Six significant digits of what is a float."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return [rounded(v) for v in value] if isinstance(value, list | tuple) else value


def make_row(
    name: str,
    ours: Timing,
    *,
    gflops: float | None,
    roof: float | None,
    peer: Timing | None = None,
    peer_share: float = 1.0,
    peak_mb: float | None = None,
    max_abs_diff: float | None = None,
    **more: Any,
) -> Row:
    """A row of measured times. roof: GFLOP/s. peer_share: the part of our work that the peer was timed on; the ratio
    is then by equal work, and `peer_s` stays what was measured."""
    rate = None if gflops is None else gflops / ours.median
    found: dict[str, Any] = {"gflops_per_s": rate, "ours_iqr_s": ours.spread, "rounds": len(ours.seconds)}
    if peer is not None:
        found["peer_iqr_s"] = peer.spread
        found["ratio_quartiles"] = [q / peer_share for q in ratio_quartiles(ours, peer)]
    return Row(
        name=name,
        ours_s=ours.median,
        gflops=gflops,
        roof_fraction=None if rate is None or roof is None else rate / roof,
        peer_s=None if peer is None else peer.median,
        ratio=None if peer is None else ratio_of(ours, peer) / peer_share,
        peak_mb=peak_mb,
        max_abs_diff=max_abs_diff,
        more={**found, **more},
    )
