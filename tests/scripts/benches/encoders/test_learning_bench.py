"""`vidgen bench ssl`: what hidden tokens save, what data takes, and a queue in bounded memory."""

import pytest

from vidgen.scripts.benches.bench_rows import BenchSettings
from vidgen.scripts.benches.encoders import learning
from vidgen.scripts.benches.machine import Machine

MACHINE = Machine(about={}, matmul_gflops={"float32": 10.0}, conv_gflops={"float32": 10.0})


def rows_of(**settings: object) -> list[dict]:
    bench = BenchSettings(**{"dtype": "float32", "rounds": 1, "memory": False, **settings})
    return [row.to_json() for row in learning.measure(bench, MACHINE)]


def test_hidden_tokens_cost_nothing_in_the_encoder() -> None:
    (row,) = rows_of(only=("masked",), quick=True)
    # of 64 tokens 16 are seen: linear layers do a quarter of the work, and attention less
    assert row["gflops"] < 0.3 * row["peer_gflops"] and row["ratio"] > 0 and row["tokens_per_s"] > 0


def test_a_step_and_its_data() -> None:
    (row,) = rows_of(only=("step",), quick=True)
    assert row["gflops"] > 0 and 0 < row["data_share"] < 1


def test_a_queue_has_a_row() -> None:
    (row,) = rows_of(only=("queue",), quick=True)
    assert row["logits_mb"] == 64 * 4096 * 4 / 2**20 and row["ours_s"] > 0


@pytest.mark.slow
def test_the_verb_prints_all_rows(vidgen) -> None:
    ran = vidgen("bench", "ssl", "--quick", "--no-memory", "--rounds", 1, "--dtype", "float32")
    assert ran.status == 0, ran
    assert "75% hidden" in ran.out and "train ssl/mae" in ran.out and "queue of 4,096" in ran.out
    assert "shown all tokens, in turns" in ran.out
