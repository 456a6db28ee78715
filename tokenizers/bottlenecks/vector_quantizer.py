"""Quantizers with learned codebooks: vq and residual vq. Codes are running means of the vectors that choose them.

vector-quantize-pytorch 1.32 is right in float32: tests compare its indices. What it gets wrong, measured: k-means
starts at the first pass even in evaluation, and draws from the global generator, so a resumed run is another run;
autocast is turned off on CUDA alone, and in bfloat16 on a CPU 2.5 % of the nearest neighbors (1,024 codes of 8
channels) are others.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from vidgen.tokenizers.bottlenecks.output import (
    BottleneckOutput,
    Quantizer,
    check_codebook_size,
    check_quantizers,
    full_precision,
    mean_square,
    widen,
)

DECAY = 0.99  # of the running counts and sums, a step
DEAD = 0.03  # of an even share of the vectors: a code chosen less is moved. Not chosen at all, that takes 350 steps
KMEANS_STEPS = 10
TABLE = 2**24  # entries of vectors x codes that are held at once

Vectors = Float[Tensor, "n d"]


class Codebook(nn.Module):
    """`size` codes of `width` channels. All that learning needs to go on from a checkpoint is in its buffers.

    Learning is exponential averages of counts and sums (van den Oord et al. 2017, appendix A.1). It starts with
    k-means on the first batch; what that batch could not fill, and codes that fall out of use, are put on
    vectors of later batches. Processes that train together learn of the vectors of all, and stay the same.
    """

    vectors: Tensor
    counts: Tensor
    sums: Tensor
    initialised: Tensor
    updates: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.size = check_codebook_size(size)
        self.register_buffer("vectors", nn.init.normal_(torch.empty(size, width)))
        self.register_buffer("counts", torch.zeros(size))
        self.register_buffer("sums", nn.init.zeros_(torch.empty(size, width)))
        self.register_buffer("initialised", torch.tensor(False))
        self.register_buffer("updates", torch.tensor(0))

    def forward(self, x: Vectors, learn: bool, generator: torch.Generator | None) -> tuple[Int[Tensor, " n"], Vectors]:
        """Return indices and codes of the nearest neighbors, with the codebook as it is before it learns of `x`."""
        with torch.no_grad():
            batch = of_all_processes(x) if learn else x
            # What is drawn then depends on the step alone: other processes have other generators.
            if learn and (generator is None or batch is not x):
                generator = torch.Generator().manual_seed(int(self.updates))
            # A batch moves dead codes only once it is not the one that k-means saw: they would stay doubles of others.
            started = bool(self.initialised) if learn else True
            if not started:
                self._start(batch, generator)
            indices = nearest(x, self.vectors.to(x.dtype))
            codes = self.vectors.to(x.dtype)[indices]
            if learn and started:
                self._average(batch, indices if batch is x else nearest(batch, self.vectors.to(x.dtype)))
                self._revive(batch, generator)
            if learn:
                self.updates += 1
        return indices, codes

    def _start(self, x: Vectors, generator: torch.Generator) -> None:
        """Start with k-means (Lloyd 1982) from random vectors of `x`; where `x` is short, some come more than once."""
        order = torch.randperm(len(x), generator=generator).to(x.device)
        means = x[order[torch.arange(self.size, device=x.device) % len(x)]]
        for _ in range(KMEANS_STEPS):
            counts, sums = gather(x, nearest(x, means), self.size)
            means = torch.where(counts[:, None] > 0, sums / counts[:, None].clamp(min=1.0), means)
        counts, sums = gather(x, nearest(x, means), self.size)
        self.vectors.copy_(means)
        self.counts.copy_(counts)
        self.sums.copy_(sums)
        self.initialised.fill_(True)

    def _average(self, x: Vectors, indices: Int[Tensor, " n"]) -> None:
        counts, sums = gather(x, indices, self.size)
        self.counts.lerp_(counts.to(self.counts), 1.0 - DECAY)
        self.sums.lerp_(sums.to(self.sums), 1.0 - DECAY)
        smallest = torch.finfo(torch.float32).tiny
        means = self.sums / self.counts[:, None].clamp(min=smallest)
        self.vectors.copy_(torch.where(self.counts[:, None] > smallest, means, self.vectors))

    def _revive(self, x: Vectors, generator: torch.Generator) -> None:
        """Put dead codes on vectors of the batch, each on another one, with an even share of the count."""
        even = self.counts.sum() / self.size
        dead = (self.counts < DEAD * even).nonzero().flatten()[: len(x)]
        if len(dead) == 0:
            return
        rows = torch.randperm(len(x), generator=generator)[: len(dead)]
        vectors = x[rows.to(x.device)].to(self.vectors)
        self.vectors[dead] = vectors
        self.counts[dead] = even
        self.sums[dead] = vectors * even


def of_all_processes(x: Vectors) -> Vectors:
    """Return the vectors of all processes that train together, in their order, as many of each.

    Of one process alone, `x` itself.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return x
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def nearest(x: Vectors, codes: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    """Return for each vector the code at the least Euclidean distance, the first of equals.

    A bounded table of distances is held at a time.
    """
    half = codes.square().sum(dim=1) / 2.0
    rows = max(1, TABLE // len(codes))
    parts = [(half - part @ codes.T).argmin(dim=1) for part in x.split(rows)]
    return torch.cat(parts) if parts else x.new_zeros(0, dtype=torch.long)


def gather(x: Vectors, indices: Int[Tensor, " n"], size: int) -> tuple[Float[Tensor, " k"], Float[Tensor, "k d"]]:
    """Return how many vectors each code has, and their sums.

    As a product with one-hot rows, which sums in the same order every time; scattered additions on a GPU do not.
    """
    counts, sums = x.new_zeros(size), x.new_zeros(size, x.shape[1])
    rows = max(1, TABLE // size)
    for part, codes in zip(x.split(rows), indices.split(rows), strict=True):
        hits = F.one_hot(codes, size).to(x.dtype)
        counts += hits.sum(dim=0)
        sums += hits.T @ part
    return counts, sums


class VQ(Quantizer):
    """Vector quantization (van den Oord et al. 2017): latents are the nearest of `codebook_size` learned codes.

    The codebook learns in training mode, and only of inputs that a gradient goes back to: an encoder that is kept
    keeps its codes. Losses: `commitment`, the mean squared distance to the codes (eq. 3, third term); averaging takes
    the place of the second. In bfloat16 the codes are rounded with all other weights.
    """

    def __init__(self, latent_channels: int, *, codebook_size: int) -> None:
        super().__init__()
        self.channels_in = latent_channels
        self.codebook_size = codebook_size
        self.codebook = Codebook(codebook_size, latent_channels)

    def forward(
        self, h: Float[Tensor, "b c t h w"], *, sample: bool = False, generator: torch.Generator | None = None
    ) -> BottleneckOutput:
        """Return the nearest codes with straight-through gradients, their indices, and `commitment`."""
        b, _, t, height, width = h.shape
        with full_precision(h):
            x = rearrange(widen(h), "b c t h w -> (b t h w) c")
            indices, codes = self.codebook(x.detach(), self.training and h.requires_grad, generator)
            axes = {"b": b, "t": t, "h": height, "w": width}
            return BottleneckOutput(
                latents=rearrange(codes + (x - x.detach()), "(b t h w) c -> b c t h w", **axes).to(h.dtype),
                indices=rearrange(indices, "(b t h w) -> b t h w", **axes),
                losses={"commitment": mean_square(x - codes)},
            )

    def from_indices(
        self, indices: Int[Tensor, "b t h w"], *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "b c t h w"]:
        """Return the latents of indices: see `Quantizer.from_indices`."""
        return rearrange(self.codebook.vectors.to(dtype)[self.check_indices(indices)], "b t h w c -> b c t h w")

    def to_indices(self, latents: Float[Tensor, "b c t h w"]) -> Int[Tensor, "b t h w"]:
        """Return the indices of the codes nearest to `latents`.

        It is the inverse of `from_indices`, where no two codes are one.
        """
        b, _, t, height, width = latents.shape
        with full_precision(latents):
            x = rearrange(widen(latents), "b c t h w -> (b t h w) c")
            indices = nearest(x, self.codebook.vectors.to(x.dtype))
        return rearrange(indices, "(b t h w) -> b t h w", b=b, t=t, h=height, w=width)


class ResidualVQ(Quantizer):
    """VQ of what is left, `quantizers` times (Zeghidour et al. 2022, SoundStream, algorithm 1); latents are the sum.

    Each codebook learns as in `VQ`. `commitment` is the mean over codebooks. There is no way from latents to indices:
    the first code of a sum is not always the one nearest to it.
    """

    def __init__(self, latent_channels: int, *, quantizers: int, codebook_size: int) -> None:
        super().__init__()
        self.channels_in = latent_channels
        self.codebook_size = codebook_size
        self.quantizers = check_quantizers(quantizers)
        self.codebooks = nn.ModuleList(Codebook(codebook_size, latent_channels) for _ in range(quantizers))

    def forward(
        self, h: Float[Tensor, "b c t h w"], *, sample: bool = False, generator: torch.Generator | None = None
    ) -> BottleneckOutput:
        """Return the sums of codes with straight-through gradients, indices, and the mean `commitment`."""
        b, _, t, height, width = h.shape
        learn = self.training and h.requires_grad
        with full_precision(h):
            x = left = rearrange(widen(h), "b c t h w -> (b t h w) c")
            columns = []
            losses = []
            total = torch.zeros_like(x)
            for codebook in self.codebooks:
                indices, codes = codebook(left.detach(), learn, generator)
                left, total = left - codes, total + codes
                columns.append(indices)
                losses.append(mean_square(left))
            axes = {"b": b, "t": t, "h": height, "w": width}
            return BottleneckOutput(
                latents=rearrange(total + (x - x.detach()), "(b t h w) c -> b c t h w", **axes).to(h.dtype),
                indices=rearrange(torch.stack(columns, dim=-1), "(b t h w) q -> b t h w q", **axes),
                losses={"commitment": torch.stack(losses).mean()},
            )

    def from_indices(
        self, indices: Int[Tensor, "b t h w q"], *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "b c t h w"]:
        """Return the latents of indices: see `Quantizer.from_indices`."""
        columns = self.check_indices(indices).unbind(dim=-1)
        total = sum(book.vectors.to(dtype)[column] for book, column in zip(self.codebooks, columns, strict=True))
        return rearrange(total, "b t h w c -> b c t h w")
