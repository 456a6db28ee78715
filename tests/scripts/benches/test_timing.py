"""Times in turns: order, medians, spreads and ratios, on a clock that the runs themselves move."""

import pytest

from vidgen.scripts.benches.bench_rows import make_row
from vidgen.scripts.benches.timing import Timing, alternate, quartiles, ratio_of, ratio_quartiles


class FakeClock:
    """A clock that stands still but for the runs, which take the seconds that they were given, one after the other."""

    def __init__(self) -> None:
        self.now, self.order = 0.0, []

    def run(self, name: str, *seconds: float):
        left = list(seconds)

        def work() -> None:
            self.order.append(name)
            self.now += left.pop(0)

        return work

    def __call__(self) -> float:
        return self.now


def test_every_round_begins_with_the_next() -> None:
    clock = FakeClock()
    runs = {name: clock.run(name, *[1.0] * 5) for name in ("ours", "wan", "cosmos")}
    alternate(runs, rounds=4, clock=clock)
    rounds = [clock.order[i : i + 3] for i in range(0, 15, 3)]
    assert rounds[0] == rounds[1] == ["ours", "wan", "cosmos"]  # the untimed one, and the first
    assert rounds[2:] == [["wan", "cosmos", "ours"], ["cosmos", "ours", "wan"], ["ours", "wan", "cosmos"]]


def test_times_are_those_of_the_clock_without_the_warm_up() -> None:
    clock = FakeClock()
    runs = {"ours": clock.run("ours", 100, 1, 2, 9), "peer": clock.run("peer", 200, 4, 6, 8)}

    def settle() -> None:
        clock.now += 0.5  # the device comes to its end: part of the time

    times = alternate(runs, rounds=3, settle=settle, clock=clock)
    assert times["ours"].seconds == (1.5, 2.5, 9.5) and times["peer"].seconds == (4.5, 6.5, 8.5)
    assert times["ours"].median == 2.5 and times["peer"].spread == 2.0
    assert ratio_of(times["ours"], times["peer"]) == pytest.approx(6.5 / 2.5)
    low, high = ratio_quartiles(times["ours"], times["peer"])
    ratios = sorted((4.5 / 1.5, 6.5 / 2.5, 8.5 / 9.5))
    assert low == pytest.approx((ratios[0] + ratios[1]) / 2) and high == pytest.approx((ratios[1] + ratios[2]) / 2)


def test_quartiles_of_few() -> None:
    assert quartiles((3.0,)) == (3.0, 3.0) and Timing(seconds=(3.0,)).spread == 0.0
    assert quartiles((0.0, 1.0, 2.0, 3.0, 4.0)) == (1.0, 3.0)
    for rounds, runs in ((0, {"a": lambda: None}), (1, {})):
        with pytest.raises(ValueError, match=f"{rounds} rounds of {len(runs)} runs"):
            alternate(runs, rounds=rounds)


def test_rows_hold_the_arithmetic() -> None:
    ours, peer = Timing(seconds=(2.0, 2.0, 2.0)), Timing(seconds=(3.0, 3.0, 3.0))
    row = make_row("x", ours, peer=peer, gflops=10.0, peak_gflops=20.0, note="").to_json()
    assert (
        row["ours_s"] == 2.0 and row["peer_s"] == 3.0 and row["ratio"] == 1.5 and row["ratio_quartiles"] == [1.5, 1.5]
    )
    assert row["gflops_per_s"] == 5.0 and row["roof_fraction"] == 0.25 and row["rounds"] == 3
    tenth = make_row("x", ours, peer=peer, peer_share=0.1, gflops=10.0, peak_gflops=20.0).to_json()
    assert tenth["peer_s"] == 3.0 and tenth["ratio"] == 15.0  # by equal work, of which it did a tenth
    alone = make_row("x", ours, gflops=10.0, peak_gflops=20.0).to_json()
    assert alone["peer_s"] is alone["ratio"] is alone["max_abs_diff"] is alone["peak_mb"] is None
