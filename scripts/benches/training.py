"""A step of training: tokens and frames a second, and how near its rate comes to that of matrix products."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from vidgen.data.frames import latent_frames
from vidgen.profiling.flops import count_gflops
from vidgen.profiling.peak_memory import measure_peak, print_peak
from vidgen.profiling.roofline import synchronizer
from vidgen.scripts.benches.bench_rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.timing import alternate
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.tokenizer import TokenizerTask

WARMUP = 2
STEPS = 10**6  # of the schedule: far more than are made


@dataclass(frozen=True, kw_only=True)
class TrainingCase:
    """A shipped recipe on clips of the synthetic world: nothing to fetch, and the data is not part of the time."""

    recipe: str = "tokenizer_default"
    batch_size: int = 8
    num_frames: int = 17
    side: int = 64
    device: str = "cpu"
    autocast: str = "bfloat16"

    @property
    def overrides(self) -> list[str]:
        """The recipe keys that the case sets."""
        return [
            "data.sources=[{kind: shapes}]", f"steps={STEPS}", f"batch_size={self.batch_size}",
            f"data.num_frames={self.num_frames}", f"data.size=[{self.side},{self.side}]",
            f"device={self.device}", f"autocast={self.autocast}",
        ]  # fmt: skip

    @property
    def name(self) -> str:
        """The name of the row."""
        return f"train {self.recipe} {self.batch_size}x{self.num_frames}x{self.side}x{self.side}"


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """A whole step on a batch in memory: forward, backward, clipping, optimizer and averaged weights."""

    run: Callable[[], object]
    tokens: int
    frames: int


def prepare(case: TrainingCase, folder: str) -> TrainingStep:
    """Return the step of `case`. folder: where its trainer keeps its recipe; no checkpoint is written."""
    recipe = load_recipe(case.recipe, [*case.overrides, f"out={folder}"])
    task = TokenizerTask(recipe)
    trainer = Trainer(task, recipe)
    batch = task.gather([task.dataset[(0, slot)] for slot in range(case.batch_size)])
    config = task.model.config
    cells = -(-case.side // config.spatial_compression_ratio)
    return TrainingStep(
        run=lambda: trainer.train_step(batch),
        tokens=case.batch_size * latent_frames(case.num_frames, config.temporal_compression_ratio) * cells**2,
        frames=case.batch_size * case.num_frames,
    )


def prepare_alone(**values: Any) -> Callable[[], object]:
    """Make ready two steps of a case, for a process that measures memory: in the second the optimizer has its state."""
    folder = tempfile.TemporaryDirectory()
    step = prepare(TrainingCase(**values), folder.name)

    def run() -> None:
        for _ in range(2):
            step.run()
        folder.cleanup()

    return run


def measure_training(case: TrainingCase, settings: BenchSettings, machine: Machine) -> Row:
    """Return the row of one case."""
    with tempfile.TemporaryDirectory() as folder:
        step = prepare(case, folder)
        gflops = count_gflops(step.run)
        timings = alternate({"ours": step.run}, rounds=settings.rounds, warmup=WARMUP, settle=synchronizer(case.device))
    times = timings["ours"]
    peak = measure_peak(prepare_alone, **asdict(case)) if settings.memory else None
    return make_row(
        case.name,
        times,
        gflops=gflops,
        peak_gflops=machine.matmul_gflops[case.autocast],
        peak_mb=None if peak is None else peak.peak_mb,
        fps=step.frames / times.median,
        tokens_per_s=step.tokens / times.median,
    )


if __name__ == "__main__":
    print_peak(prepare_alone)
