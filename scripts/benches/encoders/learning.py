"""`vidgen bench ssl`: a step of learning without labels beside what it would cost to see every token, the time that
clips are waited for, and contrast with a long queue."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.profiling.flops import count_gflops
from vidgen.profiling.peak_memory import measure_peak, print_peak
from vidgen.profiling.roofline import synchronizer
from vidgen.scripts.benches.bench_rows import BenchSettings, Row, make_row
from vidgen.scripts.benches.encoders.encoder import QUICK, draw_clips
from vidgen.scripts.benches.machine import Machine
from vidgen.scripts.benches.timing import alternate, processor_clock
from vidgen.train.config.files import load_recipe
from vidgen.train.objectives.contrastive import info_nce
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.ssl.task import SSLTask
from vidgen.train.views.masks import MaskConfig, MaskDraw, draw_mask

CASES = ("masked", "step", "queue")
PEERS = ()
RATIOS = (0.75, 0.9, 0.95)  # of hidden tokens
QUEUES = (4096, 65536)
ROWS, CHANNELS = 64, 128  # of a batch of embeddings


def measure(settings: BenchSettings, machine: Machine) -> Iterator[Row]:
    """Yield the rows of each case."""
    cases = CASES if settings.only is None else settings.only
    if "masked" in cases:
        for ratio in RATIOS[:1] if settings.quick else RATIOS:
            yield measure_masked(ratio, settings, machine)
    if "step" in cases:
        yield measure_step(settings, machine)
    if "queue" in cases:
        for length in QUEUES[:1] if settings.quick else QUEUES:
            yield measure_queue(length, settings)


def measure_masked(ratio: float, settings: BenchSettings, machine: Machine) -> Row:
    """Return the time of forward and backward of an encoder that is shown a share of its tokens and, as the peer, all.
    Tokens a second are those of the clips, seen or not."""
    torch.manual_seed(0)
    encoder = VideoViT(QUICK if settings.quick else VideoViTConfig()).to(settings.device)
    video = draw_clips(encoder, settings, 1)
    grid = encoder.grid_of(video)
    draw = MaskDraw(len(video), grid, torch.Generator().manual_seed(0), video, encoder.config.patch)
    keep = draw_mask(MaskConfig(kind="tube", ratio=ratio), draw).keep.to(settings.device)

    def step(places: Tensor | None) -> None:
        with torch.autocast(settings.device, getattr(torch, settings.dtype), enabled=settings.dtype != "float32"):
            loss = encoder(video, places).float().square().mean()
        loss.backward()
        encoder.zero_grad()

    runs: dict[str, Callable[[], None]] = {"masked": lambda: step(keep), "all": lambda: step(None)}
    clock, clock_name = processor_clock(settings.device)
    times = alternate(runs, rounds=settings.rounds, settle=synchronizer(settings.device), clock=clock)
    return make_row(
        f"encoder step, {ratio:.0%} hidden, {len(video)} x {'x'.join(map(str, video.shape[2:]))}",
        times["masked"],
        gflops=count_gflops(runs["masked"]),
        peak_gflops=machine.matmul_gflops[settings.dtype],
        peer=times["all"],
        peer_gflops=count_gflops(runs["all"]),
        tokens_per_s=len(video) * grid[0] * grid[1] * grid[2] / times["masked"].median,
        against="the same encoder, shown all tokens",
        peer_layout="in turns",
        peer_autocast=False,
        clock=clock_name,
    )


def measure_step(settings: BenchSettings, machine: Machine) -> Row:
    """Return the time of a whole step of recipe ssl/mae on a batch in memory, and what share of a step it would take to
    draw the next batch in the same thread (`data_share`; a run's loader draws it beside the step)."""
    quick = ["batch_size=2", "data.num_frames=4", "data.size=[16,16]", "encoder.patch=[2,4,4]"]
    with tempfile.TemporaryDirectory() as folder:
        words = [f"out={folder}", f"device={settings.device}", f"autocast={settings.dtype}"]
        recipe = load_recipe("ssl/mae", [*words, *(quick if settings.quick else [])])
        task = SSLTask(recipe)
        trainer = Trainer(task, recipe)
        batches = iter(range(1, 10**6))

        def draw(number: int) -> dict:
            return task.gather([task.dataset[(number, slot)] for slot in range(recipe.batch_size)])

        batch = draw(0)
        runs = {"step": lambda: trainer.train_step(batch), "draw": lambda: draw(next(batches))}
        gflops = count_gflops(runs["step"])
        times = alternate(runs, rounds=settings.rounds, settle=synchronizer(settings.device))
    step, drawing = times["step"].median, times["draw"].median
    grid = task.encoder.grid_of(batch["video"])
    return make_row(
        f"train ssl/mae {' x '.join(map(str, (recipe.batch_size, *batch['video'].shape[2:])))}",
        times["step"],
        gflops=gflops,
        peak_gflops=machine.matmul_gflops[settings.dtype],
        tokens_per_s=recipe.batch_size * grid[0] * grid[1] * grid[2] / step,
        fps=recipe.batch_size * recipe.data.num_frames / step,
        data_share=drawing / (step + drawing),
        clock="wall",
    )


def prepare_queue(length: int, device: str = "cpu") -> Callable[[], object]:
    """Make ready InfoNCE with its gradient, of a batch against a queue."""
    generator = torch.Generator().manual_seed(0)
    queries, keys, queue = (
        torch.randn(rows, CHANNELS, generator=generator).to(device).requires_grad_(rows == ROWS)
        for rows in (ROWS, ROWS, length)
    )
    return lambda: info_nce(queries, keys, negatives=queue)[0].backward()


def measure_queue(length: int, settings: BenchSettings) -> Row:
    """Return the time of InfoNCE against a queue of so many embeddings, and its peak memory; `logits_mb` is what all
    logits would take at once."""
    run = prepare_queue(length, settings.device)
    times = alternate({"ours": run}, rounds=settings.rounds, settle=synchronizer(settings.device))
    peak = measure_peak(prepare_queue, length=length, device=settings.device) if settings.memory else None
    return make_row(
        f"InfoNCE, {ROWS} clips, queue of {length:,}",
        times["ours"],
        gflops=None,
        peak_gflops=None,
        peak_mb=None if peak is None else peak.peak_mb,
        work_mb=None if peak is None else peak.work_mb,
        logits_mb=ROWS * length * 4 / 2**20,
        clock="wall",
    )


if __name__ == "__main__":
    print_peak(prepare_queue)
