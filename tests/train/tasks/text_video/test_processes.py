"""Task align in two processes of half a batch each is task align in one of the whole: losses and gradients."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vidgen.train.config.files import load_recipe
from vidgen.train.runtime import distributed
from vidgen.train.tasks.text_video.align import AlignTask

pytestmark = pytest.mark.slow
BATCH = 6
SMALL = [
    "init_from=''", f"batch_size={BATCH}", "seen=1", "changed_captions=0", "counterfactuals=0", "autocast=float32",
    "data.validation_clips=4", "data.num_frames=4", "data.size=[16,16]", "encoder={width: 16, depth: 1, head_dim: 16}",
    "text={width: 16, depth: 1, head_dim: 16}",
]  # fmt: skip
SCORES = ("cosine", "tokenwise", "xpool")


def learn(folder: Path) -> list[float]:
    """Write the loss and the gradients of a step, of every way to score, and return the losses."""
    losses = []
    for name in SCORES:
        task = AlignTask(
            load_recipe("align", [*SMALL, f"out={folder}", f"heads={{width: 16, head_dim: 8, interaction: {name}}}"])
        )
        task.model.double().train()
        data = distributed.ShardedDataset(task.dataset, BATCH)
        batch = task.gather([data[(0, slot)] for slot in range(data.size)])
        batch["video"] = batch["video"].double()
        loss, _ = task.loss(batch, torch.Generator().manual_seed(distributed.rank()))
        loss.backward()
        parameters = [p for p in task.model.parameters() if p.requires_grad]
        distributed.average_gradients(parameters)
        rows = [p.grad.flatten() for p in parameters if p.grad is not None]
        torch.save(torch.cat(rows), folder / f"{name}-{distributed.rank()}.pt")
        losses.append(loss.item())
    return losses


def test_two_processes_learn_as_one(in_two: Callable[..., list], tmp_path: Path) -> None:
    folders = [tmp_path / "alone", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    alone, (first, second) = learn(folders[0]), in_two(learn, folders[1])
    assert first == pytest.approx(alone, abs=1e-6) and second == pytest.approx(alone, abs=1e-6)
    for name in SCORES:
        ours, theirs = (torch.load(folder / f"{name}-0.pt") for folder in folders)
        assert ours.abs().max() > 1e-3
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
