"""What tests of terms share: training on one batch."""

from collections.abc import Callable

import pytest
import torch

from vidgen.train.tasks.ssl.task import SSLTask

Parts = dict[str, float]


@pytest.fixture
def learn() -> Callable[..., list[Parts]]:
    """Train a task on one batch, and return the parts of every step, and "total". A `seed` is that of every step."""

    def train(task: SSLTask, batch: dict, *, steps: int, lr: float, seed: int | None = None) -> list[Parts]:
        optimizer = torch.optim.Adam(task.model.parameters(), lr=lr)
        rows = []
        for step in range(steps):
            generator = torch.Generator().manual_seed(step if seed is None else seed)
            loss, parts = task.loss(batch, generator)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rows.append(parts | {"total": loss.item()})
        return rows

    return train
