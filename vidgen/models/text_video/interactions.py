"""How well texts go with clips: what is made of the vectors and tokens of both, and the table `INTERACTIONS`.

Every interaction is built for the width of the shared space, and gives the scores (n, m) of n texts and m clips, in the
range of a cosine. One that compares tokens does so for some texts at a time, in bounded memory.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidgen.models.text_video.embedding import Embedding
from vidgen.models.text_video.token_interactions import Tokenwise, WeightedTokenwise, in_parts, tokens_of


class Cosine(nn.Module):
    """The cosine of the vectors of both (Radford et al. 2021, CLIP)."""

    def __init__(self, width: int) -> None:
        super().__init__()

    def forward(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]:
        """Return the scores of all pairs."""
        return texts.vectors @ videos.vectors.T


class TextConditionedPooling(nn.Module):
    """The cosine of a text and the clip as the text sees it, by one head of attention to frames (Gorti et al. 2022,
    X-Pool). Projections start as the identity, as there."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_text = nn.LayerNorm(width)
        self.norm_frames = nn.LayerNorm(width)
        self.norm_pooled = nn.LayerNorm(width)
        self.norm_out = nn.LayerNorm(width)
        self.query, self.key, self.value, self.out, self.dense = (nn.Linear(width, width) for _ in range(5))
        for layer in (self.query, self.key, self.value, self.out, self.dense):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]:
        """Return the scores of all pairs. Raises VidgenError for clips without tokens."""
        tokens_of(videos, "clips")
        return in_parts(self.compare, texts, videos, texts.vectors.shape[1])

    def compare(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]:
        """Return the scores of all pairs, at once."""
        return einsum(texts.vectors, self.pool(texts, videos), "n d, n m d -> n m")

    def pool(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m d"]:
        """Return each clip as each text sees it, of unit length."""
        frames, present = tokens_of(videos, "clips")
        q = self.query(self.norm_text(texts.vectors))
        frames = self.norm_frames(frames)
        logits = einsum(q, self.key(frames), "n d, m f d -> n m f") / math.sqrt(q.shape[1])
        weights = logits.masked_fill(~present, torch.finfo(logits.dtype).min).softmax(-1)
        pooled = self.norm_pooled(self.out(einsum(weights, self.value(frames), "n m f, m f d -> n m d")))
        return F.normalize(self.norm_out(pooled + self.dense(pooled)), dim=-1)


class QueryScored(nn.Module):
    """The cosine of a text and the mean of frames weighted by a softmax of their own cosines to it (Bain et al. 2022, A
    CLIP-Hitchhiker's Guide to Long Video Retrieval). Nothing is learned."""

    def __init__(self, width: int, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]:
        """Return the scores of all pairs. Raises VidgenError for clips without tokens."""
        return in_parts(self.compare, texts, videos, tokens_of(videos, "clips")[0].shape[1])

    def compare(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]:
        """Return the scores of all pairs, at once."""
        frames, present = tokens_of(videos, "clips")
        cosines = einsum(texts.vectors, frames, "n d, m f d -> n m f")
        lowest = torch.finfo(cosines.dtype).min
        weights = (cosines / self.temperature).masked_fill(~present, lowest).softmax(-1)
        # The mean's length by the frames' own products: no vector a pair is made.
        products = einsum(frames, frames, "m f d, m g d -> m f g")
        lengths = einsum(weights, products, weights, "n m f, m f g, n m g -> n m")
        return (weights * cosines).sum(-1) / lengths.clamp(min=1e-12).sqrt()


def find_events(
    frames: Float[Tensor, "m f d"], present: Bool[Tensor, "m f"], count: int, rounds: int = 4
) -> tuple[Float[Tensor, "m k d"], Bool[Tensor, "m k"]]:
    """Return the mean frames of up to `count` groups of a clip's frames, of unit length, and which groups there are.

    Spherical k-means from centers that are far from each other: the frame nearest to the mean, then always the frame
    farthest from those chosen. Equal frames make fewer groups. Groups are constants to the gradient, means are not.
    """
    apart = frames.detach()
    mean = (apart * present[..., None]).sum(1, keepdim=True)
    nearest = einsum(apart, mean, "m f d, m k d -> m f k").masked_fill(~present[..., None], -math.inf)
    chosen = nearest.argmax(1)  # m 1
    for _ in range(count - 1):
        centers = torch.take_along_dim(apart, chosen[..., None], 1)
        far = -einsum(apart, centers, "m f d, m k d -> m f k").amax(2).masked_fill(~present, math.inf)
        chosen = torch.cat([chosen, far.argmax(1, keepdim=True)], dim=1)
    centers = torch.take_along_dim(apart, chosen[..., None], 1)
    for _ in range(rounds):
        groups = F.one_hot(einsum(apart, centers, "m f d, m k d -> m f k").argmax(2), count).to(frames.dtype)
        groups = groups * present[..., None]
        centers = F.normalize(einsum(groups, apart, "m f k, m f d -> m k d"), dim=-1)
    return F.normalize(einsum(groups, frames, "m f k, m f d -> m k d"), dim=-1), groups.sum(1) > 0


class MultiEvent(nn.Module):
    """The largest cosine of a text to any of a clip's events, which are groups of its frames (Zhang et al. 2023,
    MeVTR: a clip has several captions, each of a part of it). Nothing is learned."""

    def __init__(self, width: int, events: int = 4) -> None:
        super().__init__()
        self.events = events

    def forward(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]:
        """Return the scores of all pairs. Raises VidgenError for clips without tokens."""
        events, there = find_events(*tokens_of(videos, "clips"), self.events)
        cosines = einsum(texts.vectors, events, "n d, m k d -> n m k")
        return cosines.masked_fill(~there, torch.finfo(cosines.dtype).min).amax(-1)


class ExpectedDistance(nn.Module):
    """Texts and clips as normal distributions about their vectors, and 1 - E|x - y|^2 / 2 of draws from both.

    That is the cosine less half of both total variances, the closed form of Chun 2024 (PCME++) where UATVR (Fang et al.
    2023) draws. Variances are learned from the vectors; a total is below one.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.text_spread = nn.Linear(width, width)
        self.video_spread = nn.Linear(width, width)
        for layer in (self.text_spread, self.video_spread):
            nn.init.zeros_(layer.weight)
            nn.init.constant_(layer.bias, -4.0)

    def forward(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]:
        """Return the scores of all pairs."""
        of_texts, of_videos = self.variances(texts, videos)
        return texts.vectors @ videos.vectors.T - (of_texts.sum(1)[:, None] + of_videos.sum(1)) / 2

    def variances(self, texts: Embedding, videos: Embedding) -> tuple[Float[Tensor, "n d"], Float[Tensor, "m d"]]:
        """Return the variances of texts and of clips along every axis."""
        spreads = (self.text_spread(texts.vectors), self.video_spread(videos.vectors))
        of_texts, of_videos = (spread.sigmoid() / spread.shape[1] for spread in spreads)
        return of_texts, of_videos


INTERACTIONS: dict[str, type[nn.Module]] = {
    "cosine": Cosine,
    "tokenwise": Tokenwise,
    "weighted_tokenwise": WeightedTokenwise,
    "xpool": TextConditionedPooling,
    "query_scored": QueryScored,
    "multi_event": MultiEvent,
    "probabilistic": ExpectedDistance,
}
