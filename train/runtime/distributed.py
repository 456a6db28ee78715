"""One run in several processes, started by `torchrun`: each trains on its part of every batch, and all make one step.

Gradients are averaged once they are there. DistributedDataParallel would do it from hooks on `forward`, which tasks do
not call: they encode and decode, and R1 differentiates twice. The first process writes the run. In a run
of one process nothing here does anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.utils.data import Dataset

from vidgen.errors import VidgenError

T = TypeVar("T")
PATIENCE = timedelta(hours=2)  # how long the others wait while the first process validates, saves or fills a cache


@contextmanager
def init_distributed(device: str) -> Iterator[None]:
    """Join the processes that `torchrun` started for as long as a run lasts, each with a GPU of its own."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    own = torch.device(device)
    if own.index is not None:
        raise VidgenError(f"device={device} is one for all processes; give device={own.type}, and each gets its own")
    if own.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_rank_zero() -> bool:
    """Return whether this is the process that speaks, before and after a run too: it is alone, or torchrun's first."""
    return os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process; 0 writes the run."""
    return dist.get_rank() if world_size() > 1 else 0


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def rank_zero_first() -> Iterator[None]:
    """Let the first process run the block alone, then all others: what they look for on disk is there by then."""
    if rank() > 0:
        barrier()
    yield
    if rank() == 0:
        barrier()


class ShardedDataset(Dataset):
    """This process's part of every batch of `size` items (step, slot): slots that lie together, in order of rank."""

    def __init__(self, dataset: Dataset, size: int) -> None:
        if size % world_size():
            raise VidgenError(
                f"batch_size={size} cannot be shared by {world_size()} processes; give a multiple of that"
            )
        self.dataset, self.size = dataset, size // world_size()

    def __getitem__(self, key: tuple[int, int]) -> Any:
        step, slot = key
        return self.dataset[(step, rank() * self.size + slot)]


def all_reduce_mean(values: Mapping[str, float]) -> dict[str, float]:
    """Return means over the processes, the same for all to judge by; all have the same names."""
    if world_size() == 1:
        return dict(values)
    names = sorted(values)
    total = torch.tensor([values[name] for name in names], dtype=torch.float64, device=_communication_device())
    dist.all_reduce(total)
    means = dict(zip(names, (total / world_size()).tolist(), strict=True))
    return {name: means[name] for name in values}


def any_of(*flags: bool) -> list[bool]:
    """Return of each flag whether it is up in any process."""
    if world_size() == 1:
        return list(flags)
    total = torch.tensor(flags, dtype=torch.float32, device=_communication_device())
    dist.all_reduce(total)
    return (total > 0).tolist()


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Make every gradient the mean over the processes, in place.

    One that is missing counts as zero; missing everywhere, it stays so, and optimizers pass it over as in a run of one
    process.
    """
    if world_size() == 1 or not parameters:
        return
    has_gradient = [p.grad is not None for p in parameters]
    for p, present in zip(parameters, has_gradient, strict=True):
        p.grad = p.grad if present else torch.zeros_like(p)
    flat = torch.cat([p.grad.reshape(-1) for p in parameters] + [parameters[0].new_tensor(has_gradient)])
    dist.all_reduce(flat)
    *parts, counts = flat.split([p.numel() for p in parameters] + [len(has_gradient)])
    for p, part, count in zip(parameters, parts, counts.tolist(), strict=True):
        p.grad = p.grad.copy_(part.view_as(p) / world_size()) if count else None


def gather_rows(rows: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "n ..."]:
    """Return the rows of all processes, as many of each, in order of rank, with their gradient: of a batch's parts, the
    batch.

    Where every process computes the loss of the batch from them, what comes back to a process's own rows is the sum of
    what all of them send, so that `average_gradients` leaves the gradient that one process has of the whole batch: of
    parameters that are used before the gathering, and of those after it.
    """
    if world_size() == 1:
        return rows
    return GatherRows.apply(rows)


class GatherRows(torch.autograd.Function):
    """`gather_rows`; the public collectives have no gradient, and those of torch.distributed.nn are deprecated."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Shaped[Tensor, "b ..."]) -> Shaped[Tensor, "n ..."]:
        """Return all processes' rows."""
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "b ..."]:
        """Return the sum of what all processes send to this one's rows."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]


def gather_items(items: Sequence[T]) -> list[T]:
    """Return the items of all processes in order of rank, such as captions; they are pickled on the way."""
    if world_size() == 1:
        return list(items)
    parts: list[list[T]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, list(items))
    return [item for part in parts for item in part]


def first_generator(generator: torch.Generator) -> torch.Generator:
    """Return the first process's generator as it is there now, for draws that are to be the same in all; those of other
    processes stay where they are."""
    if world_size() == 1:
        return generator
    state = generator.get_state().to(_communication_device())
    dist.broadcast(state, src=0)
    if rank() == 0:
        return generator
    same = torch.Generator()
    same.set_state(state.cpu())
    return same


def _communication_device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
