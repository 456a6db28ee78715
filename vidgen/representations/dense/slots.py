"""Slot attention: slots that cells compete for, trained to reconstruct features; objects without a label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.bounds import Count, Range, Width, check_fields
from vidgen.diffusion.noise import draw_normal, sample_generator

EPS = 1e-8
SHARP = 1.5  # standard deviation of a query's and a key's channels at the start
NARROW = 1e-2  # of half a side, the least that a slot spreads


@dataclass(frozen=True, kw_only=True)
class SlotSettings:
    """How slots are trained.

    count: slots in a frame. width: channels of each. iterations: of attention. steps of Adam at a peak `rate`, with
    `batch` frames each. starts: so many models are trained, and the best is returned. Raises ValueError for settings
    out of range.
    """

    count: Width = 4
    width: Width = 64
    iterations: Count = 3
    steps: Count = 500
    batch: Count = 16
    rate: Annotated[float, Range(0.0, 1e3, above=True)] = 2e-3
    starts: Count = 2

    def __post_init__(self) -> None:
        check_fields(self)


class SlotAttention(nn.Module):
    """Slot attention (Locatello et al. 2020, algorithm 1): cells share themselves out among slots, each of which takes
    the mean of its shares. The order of neither makes a difference."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm_cells, self.norm_slots = nn.LayerNorm(channels), nn.LayerNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key, self.value = (nn.Linear(channels, width, bias=False) for _ in range(2))
        self.update = nn.GRUCell(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        # slots that differ are to compete from the first step on: with all shares alike it takes thousands to begin
        for part in (self.query, self.key):
            nn.init.normal_(part.weight, std=SHARP * part.in_features**-0.5)
        nn.init.zeros_(self.mlp[-1].weight)
        nn.init.zeros_(self.mlp[-1].bias)

    def forward(
        self, x: Float[Tensor, "b n c"], slots: Float[Tensor, "b k d"], iterations: int
    ) -> tuple[Float[Tensor, "b k d"], Float[Tensor, "b n k"]]:
        """Return slots, and the weights of the last mean that each has taken, which sum to 1 over cells."""
        x, count = self.norm_cells(x), slots.shape[1]
        keys, values = self.key(x), self.value(x)  # b n d
        for _ in range(iterations):
            queries = self.query(self.norm_slots(slots)) * slots.shape[-1] ** -0.5
            shares = einsum(keys, queries, "b n d, b k d -> b n k").softmax(-1) + EPS
            weights = shares / shares.sum(1, keepdim=True)
            updates = einsum(weights, values, "b n k, b n d -> b k d")
            updated = self.update(rearrange(updates, "b k d -> (b k) d"), rearrange(slots, "b k d -> (b k) d"))
            slots = rearrange(updated, "(b k) d -> b k d", k=count)
            slots = slots + self.mlp(slots)
        return slots, weights


class SlotModel(nn.Module):
    """An autoencoder of a frame's features through slots (Seitzer et al. 2023, section 3): each slot predicts, by one
    MLP, the features of every cell and how much of the cell is its own.

    Cells get their position, as features such as pixels do not hold it; and the MLP gets a position as seen from the
    slot, in units of its spread (Biza et al. 2023, section 3.2). Without that, some hundred frames do not suffice to
    learn that an object looks the same everywhere.
    """

    def __init__(self, channels: int, shape: tuple[int, int], settings: SlotSettings) -> None:
        super().__init__()
        d = settings.width
        self.settings = settings
        self.register_buffer("positions", cell_positions(*shape), persistent=False)
        waves = position_waves(self.positions)
        self.register_buffer("waves", waves, persistent=False)
        self.read = nn.Sequential(
            nn.Linear(channels + waves.shape[1], d), nn.LayerNorm(d), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d)
        )
        self.attention = SlotAttention(d, d)
        self.mean, self.log_std = nn.Parameter(torch.randn(d) * d**-0.5), nn.Parameter(torch.zeros(d))
        self.position = nn.Linear(2, d)
        self.decoder = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU(), nn.Linear(d, channels + 1))

    def begin(self, noise: Float[Tensor, "b k d"]) -> Float[Tensor, "b k d"]:
        """Return slots before any attention: draws of one learned normal distribution."""
        return self.mean + self.log_std.exp() * noise

    def forward(
        self, x: Float[Tensor, "b n c"], slots: Float[Tensor, "b k d"]
    ) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n k"], Float[Tensor, "b k d"]]:
        """Return the reconstructed features, the share of every slot in each cell, and the slots."""
        cells = self.read(torch.cat([x, repeat(self.waves, "n p -> b n p", b=len(x))], dim=-1))  # b n d
        slots, weights = self.attention(cells, slots, self.settings.iterations)
        middle = einsum(weights, self.positions, "b n k, n a -> b k a")
        square = einsum(weights, self.positions.square(), "b n k, n a -> b k a")
        spread = (square - middle.square()).clamp(min=NARROW**2).sqrt()
        relative = rearrange(self.positions, "n a -> 1 n 1 a") - rearrange(middle, "b k a -> b 1 k a")
        out = self.decoder(slots[:, None] + self.position(relative / spread[:, None]))  # b n k c+1
        alpha = out[..., -1].softmax(-1)
        return einsum(out[..., :-1], alpha, "b n k c, b n k -> b n c"), alpha, slots


def cell_positions(h: int, w: int) -> Float[Tensor, "n a"]:
    """Return row and column of every cell of a grid, from -1 to 1."""
    sides = [(2 * torch.arange(size) + 1) / size - 1 for size in (h, w)]
    return rearrange(torch.stack(torch.meshgrid(*sides, indexing="ij")), "a h w -> (h w) a")


def position_waves(positions: Float[Tensor, "n a"]) -> Float[Tensor, "n p"]:
    """Return sines and cosines of positions: a half wave a side, a whole one, and two."""
    waves = torch.pi / 2 * einsum(positions, torch.tensor([1.0, 2.0, 4.0]), "n a, f -> n a f")
    return rearrange(torch.stack([waves.sin(), waves.cos()]), "s n a f -> n (s a f)")


def train_slots(
    x: Float[Tensor, "m t h w c"], held_out: Float[Tensor, "v t h w c"], settings: SlotSettings, seed: int
) -> SlotModel:
    """Return a model trained to reconstruct the features of single frames, by mean square error; of several starts the
    one that does so best on clips it was not trained on."""
    models = [train_start(x, settings, seed, start) for start in range(settings.starts)]
    return min(models, key=lambda model: assign_slots(model, held_out, seed)[1])


def train_start(x: Float[Tensor, "m t h w c"], settings: SlotSettings, seed: int, start: int) -> SlotModel:
    """Return a model trained from start number `start`."""
    frames = rearrange(x, "m t h w c -> (m t) (h w) c")
    generator = sample_generator(seed, f"slots {start}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())
        model = SlotModel(x.shape[-1], (x.shape[2], x.shape[3]), settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_then_linear(step, settings.steps))
    for _ in range(settings.steps):
        batch = frames[torch.randint(len(frames), (settings.batch,), generator=generator)]
        noise = draw_normal((settings.batch, settings.count, settings.width), generator)
        loss = F.mse_loss(model(batch, model.begin(noise))[0], batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def warmup_then_linear(step: int, steps: int) -> float:
    """Return the rate's share of its peak: up over a tenth of the steps, and down over the others."""
    warm = max(1, steps // 10)
    return min((step + 1) / warm, (steps - step) / (steps - warm + 1))


@torch.no_grad()
def assign_slots(model: SlotModel, x: Float[Tensor, "b t h w c"], seed: int) -> tuple[Int[Tensor, "b t h w"], float]:
    """Return the slot that has most of every cell, and the mean square error of the reconstructed features.

    A frame begins with the slots that the one before has ended with (Kipf et al. 2022, section 3.1), so that a slot may
    stay with its object. All clips begin with the same slots: they know nothing of each other.
    """
    count, width = model.settings.count, model.settings.width
    noise = draw_normal((count, width), sample_generator(seed, "first slots"))
    slots = model.begin(repeat(noise, "k d -> b k d", b=len(x)))
    groups, errors = [], []
    for frame in rearrange(x, "b t h w c -> t b (h w) c"):
        reconstruction, alpha, slots = model(frame, slots)
        groups.append(alpha.argmax(-1))
        errors.append(F.mse_loss(reconstruction, frame))
    assigned = rearrange(torch.stack(groups), "t b (h w) -> b t h w", h=x.shape[2])
    return assigned, float(torch.stack(errors).mean())
