"""The settings of a bench, and the rows of its report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vidgen.scripts.benches.timing import Timing, ratio_of, ratio_quartiles


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """The options of `vidgen bench`. `peers` and `only` None: all that the bench has; `bank_gb` and `knn_rows` None:
    the bench's own sizes."""

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
    """One line of a report. `gflops` is the work (None: not of that kind), `roof_fraction` its rate over that of matrix
    products in the same dtype; `ratio` is the peer's time over ours; `max_abs_diff` only where both should agree, as
    with the same weights. `more` holds the columns that only some rows have."""

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
        """Return all columns, to six digits."""
        values = {key: value for key, value in vars(self).items() if key != "more"}
        return {key: round_floats(value) for key, value in {**values, **self.more}.items()}


def round_floats(value: Any) -> Any:
    """Return a value with its floats, or those of a list, rounded to six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return [round_floats(v) for v in value] if isinstance(value, list | tuple) else value


def make_row(
    name: str,
    ours: Timing,
    *,
    gflops: float | None,
    peak_gflops: float | None,
    peer: Timing | None = None,
    peer_share: float = 1.0,
    peak_mb: float | None = None,
    max_abs_diff: float | None = None,
    **more: Any,
) -> Row:
    """Return a row of measured times.

    Args:
        name: the name of the row.
        ours: our times.
        gflops: the work of one run, in GFLOP.
        peak_gflops: the peak rate of the machine in that dtype, in GFLOP/s.
        peer: the peer's times.
        peer_share: the part of our work that the peer was timed on; the ratio is then by equal work, and `peer_s` stays
            the measured time.
        peak_mb: peak memory, in MiB.
        max_abs_diff: the largest difference between both results.
        more: columns that only some rows have.
    """
    rate = None if gflops is None else gflops / ours.median
    columns: dict[str, Any] = {"gflops_per_s": rate, "ours_iqr_s": ours.spread, "rounds": len(ours.seconds)}
    if peer is not None:
        columns["peer_iqr_s"] = peer.spread
        columns["ratio_quartiles"] = [q / peer_share for q in ratio_quartiles(ours, peer)]
    return Row(
        name=name,
        ours_s=ours.median,
        gflops=gflops,
        roof_fraction=None if rate is None or peak_gflops is None else rate / peak_gflops,
        peer_s=None if peer is None else peer.median,
        ratio=None if peer is None else ratio_of(ours, peer) / peer_share,
        peak_mb=peak_mb,
        max_abs_diff=max_abs_diff,
        more={**columns, **more},
    )
