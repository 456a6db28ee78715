"""Motion fields of clips that come without any, by block matching: each block of a frame is searched in the key frame.

Chosen over a codec in memory (x264 gives vectors too): a codec's vectors point to the frame before and have to be
followed back to the key frame, over which their errors add up, and they are what is cheap to code rather than what
looks alike; it takes 8-bit 4:2:0 on a CPU. Matching against the key frame itself measures just the error that
decoding by the field will make, for any size, precision and device, whole batches at once, and is causal.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.tokenizers.encoded import latent_size

LENGTH_COST = 2e-4  # mean absolute error that a pixel of length has to win: of equals the shortest, so 0 in the plain
COARSE, FINE = 4, 2  # reach of the searches, in pixels of half and of full size
QUARTERS = (-0.5, -0.25, 0.0, 0.25, 0.5)

Vectors = Int[Tensor, "n 2 i j"]


@torch.no_grad()
def match_blocks(
    key: Float[Tensor, "n c h w"], frames: Float[Tensor, "n c k h w"], block: int = 16
) -> Float[Tensor, "n 2 k i j"]:
    """Return vectors (x, y), in quarters of a pixel, from each block of frames to where it was in the key frame.

    Frames are consecutive. A block takes the vector of the least mean absolute error over 8 pixels (searched at half
    size) around the best of: no motion, the vector of the frame before, and the last two prolonged. A frame's field
    depends on it, the key frame, and frames between. Raises ValueError for an odd block and for sides that are not
    whole blocks.
    """
    if block % 2 or key.shape[2] % block or key.shape[3] % block:
        raise ValueError(f"frames of {tuple(key.shape[2:])} are not whole blocks of {block}, an even number")
    wide = torch.promote_types(key.dtype, torch.float32)
    key, frames = key.to(wide), frames.to(wide)
    half_key = F.avg_pool2d(key, 2)
    grid = (key.shape[2] // block, key.shape[3] // block)
    last = before = zero = torch.zeros(key.shape[0], 2, *grid, dtype=torch.long, device=key.device)
    fields = []
    for frame in frames.unbind(2):
        guess = best_of(key, frame, [zero, last, 2 * last - before], block)
        coarse = search(half_key, F.avg_pool2d(frame, 2), guess // 2, block // 2, COARSE)
        near = best_of(key, frame, [guess, 2 * coarse], block)
        before = last
        last = search(key, frame, near, block, FINE)
        fields.append(last + find_fraction(key, frame, last, block))
    return torch.stack(fields, dim=2) if fields else key.new_zeros(*zero.shape[:2], 0, *zero.shape[2:])


def check_field(
    field: Float[Tensor, "b 2 T i j"], video: Float[Tensor, "b 3 T H W"], block: int
) -> Float[Tensor, "b 2 T i j"]:
    """Return `field`. Raises VidgenError unless it is the finite field of such a video, a vector a block."""
    expected = (video.shape[0], 2, video.shape[2], *latent_size(*video.shape[3:], block))
    if tuple(field.shape) != expected or not field.isfinite().all():
        raise VidgenError(
            f"motion of shape {tuple(field.shape)} for a video {tuple(video.shape)}: a field of finite vectors "
            f"{expected} is needed; leave it out to have it matched"
        )
    return field


def cut_windows(image: Float[Tensor, "n c h w"], at: Vectors, block: int, margin: int) -> Tensor:
    """Return every block of the image, moved by its own vector, and `margin` pixels around: (n c i j s s).

    The border is repeated.
    """
    h, w = image.shape[2:]
    reach = torch.arange(-margin, block + margin, device=at.device)
    rows, cols = (torch.arange(size, device=at.device) * block for size in at.shape[2:])
    y = (rows[:, None, None] + at[:, 1, :, :, None] + reach).clamp(0, h - 1)  # n i j s
    x = (cols[None, :, None] + at[:, 0, :, :, None] + reach).clamp(0, w - 1)
    index = rearrange(y, "n i j s -> n i j s 1") * w + rearrange(x, "n i j s -> n i j 1 s")
    flat = rearrange(index, "n i j s r -> n 1 (i j s r)").expand(-1, image.shape[1], -1)
    i, j, s = index.shape[1:4]
    pixels = rearrange(image, "n c h w -> n c (h w)").gather(2, flat)
    return rearrange(pixels, "n c (i j s r) -> n c i j s r", i=i, j=j, s=s)


def cut_blocks(frame: Float[Tensor, "n c h w"], block: int) -> Float[Tensor, "n c i j p q"]:
    """Return the blocks of a frame, side by side."""
    return rearrange(frame, "n c (i p) (j q) -> n c i j p q", p=block, q=block)


def length_of(vectors: Tensor) -> Tensor:
    """Return the cost of vectors (n, 2, ...) by their length."""
    return LENGTH_COST * vectors.abs().sum(dim=1)


def choose(costs: list[Tensor], vectors: list[Tensor]) -> Tensor:
    """Return, block by block, the vector (n 2 i j) of the least cost (n i j); the first of equals."""
    best, least = vectors[0], costs[0]
    for cost, vector in zip(costs[1:], vectors[1:], strict=True):
        better = cost < least
        best, least = torch.where(better[:, None], vector, best), torch.where(better, cost, least)
    return best


def best_of(key: Tensor, frame: Tensor, vectors: list[Vectors], block: int) -> Vectors:
    """Return, block by block, the one of several vectors that fits best."""
    target = cut_blocks(frame, block)
    errors = [(cut_windows(key, v, block, 0) - target).abs().mean(dim=(1, 4, 5)) + length_of(v) for v in vectors]
    return choose(errors, vectors)


def search(key: Tensor, frame: Tensor, center: Vectors, block: int, reach: int) -> Vectors:
    """Return the best whole vector within `reach` pixels of `center`, both ways."""
    window, target = cut_windows(key, center, block, reach), cut_blocks(frame, block)
    steps = torch.arange(-reach, reach + 1, device=key.device)
    span = 2 * reach + 1
    costs = []
    for k in range(span):  # a row of positions at a time bounds the memory
        rows = window[..., k : k + block, :].unfold(-1, block, 1)  # n c i j p o q
        error = (rows - rearrange(target, "n c i j p q -> n c i j p 1 q")).abs().mean(dim=(1, 4, 6))  # n i j o
        x = center[:, 0, :, :, None] + steps
        y = (center[:, 1] + (k - reach))[..., None].expand_as(x)
        costs.append(error + length_of(torch.stack([x, y], dim=1)))
    best = torch.cat(costs, dim=-1).argmin(dim=-1)  # n i j
    return center + torch.stack([best % span - reach, best // span - reach], dim=1)


def find_fraction(key: Tensor, frame: Tensor, whole: Vectors, block: int) -> Float[Tensor, "n 2 i j"]:
    """Return the quarters of a pixel, up to a half both ways, to add to whole vectors; linear between pixels."""
    window, target = cut_windows(key, whole, block, 1), cut_blocks(frame, block)
    costs, vectors = [], []
    for dy in sorted(QUARTERS, key=abs):  # the shortest first: it wins where nothing is gained
        moved = between(window, 4, dy, block)
        for dx in sorted(QUARTERS, key=abs):
            fraction = torch.tensor([dx, dy], dtype=key.dtype, device=key.device)[None, :, None, None]
            error = (between(moved, 5, dx, block) - target).abs().mean(dim=(1, 4, 5))
            costs.append(error + length_of(whole + fraction))
            vectors.append(fraction.expand_as(whole))
    return choose(costs, vectors)


def between(window: Tensor, dim: int, fraction: float, block: int) -> Tensor:
    """Return `block` samples along `dim`, out of a margin of one, moved by a fraction in (-1, 1)."""
    first = 1 if fraction >= 0 else 0
    weight = fraction if fraction >= 0 else 1 + fraction
    here = window.narrow(dim, first, block)
    return here if weight == 0 else torch.lerp(here, window.narrow(dim, first + 1, block), weight)
