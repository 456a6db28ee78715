"""FusedEncoder: one network that reads a text and a clip together, and what it says of a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vidgen.bounds import Choice, Count, Depth, Expansion, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.checkpoints.pretrained import Pretrained
from vidgen.errors import VidgenError
from vidgen.models.attention import Heads, Mask, find_attention
from vidgen.models.dit.config import BlockConfig, check_heads
from vidgen.models.text.prepared import TextHeads
from vidgen.models.text_video.embedding import Embedding
from vidgen.models.text_video.token_interactions import tokens_of
from vidgen.models.transformer_block import Attend, TransformerBlock

STREAMS = ("single", "dual")
BYTE_VALUES = 256  # what a masked word's bytes may be


@dataclass(frozen=True, kw_only=True)
class FusedEncoderConfig(ConfigMapping):
    """Shape of a FusedEncoder; `token_width` is the width of the shared space whose tokens it reads.

    stream: "single" is one transformer over words and frames (Wang et al. 2023, All-in-one); "dual" keeps one for each,
    which look the other up in every block (Lu et al. 2019, ViLBERT).
    dual_encoder: name or folder of the model whose tokens it reads, as it was trained.
    """

    token_width: Width = 192
    width: Width = 192
    depth: Depth = 2
    head_dim: Width = 48
    mlp_ratio: Expansion = 4
    max_frames: Count = 64
    stream: Annotated[str, Choice(STREAMS)] = "single"
    dual_encoder: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        check_heads(self.width, self.head_dim)


@dataclass(frozen=True, kw_only=True)
class FusedPairs:
    """Pairs of a text and a clip as they were read together: what stands for the pair, for each word and each frame."""

    pooled: Float[Tensor, "b d"]
    words: Float[Tensor, "b l d"]
    frames: Float[Tensor, "b t d"]


def attend_where(mask: Mask) -> Attend:
    """Return attention to the keys that the mask shows."""

    def attend(q: Heads, k: Heads, v: Heads) -> Heads:
        return find_attention("auto")(q, k, v, mask)

    return attend


class FusedEncoder(Pretrained):
    """A transformer over the tokens of a text and of a clip, which any model of texts and clips makes, with heads for
    whether they match, which byte a masked one was, and where a frame was."""

    config_class = FusedEncoderConfig

    def __init__(self, config: FusedEncoderConfig) -> None:
        super().__init__(config)
        dual = config.stream == "dual"
        block = BlockConfig(
            width=config.width,
            head_dim=config.head_dim,
            mlp_ratio=config.mlp_ratio,
            text_width=config.width if dual else 0,
        )
        self.words_in = nn.Linear(config.token_width, config.width)
        self.frames_in = nn.Linear(config.token_width, config.width)
        self.place = nn.Embedding(config.max_frames, config.width)
        self.first = nn.Parameter(torch.randn(2 if dual else 1, 1, config.width) * 0.02)
        self.blocks = nn.ModuleList([TransformerBlock(block) for _ in range(config.depth)])
        if dual:
            self.frame_blocks = nn.ModuleList([TransformerBlock(block) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.width)
        self.matching = nn.Linear(config.width, 1)
        self.byte_out = nn.Linear(config.width, BYTE_VALUES)
        self.place_out = nn.Linear(config.width, config.max_frames)
        nn.init.normal_(self.place.weight, std=0.02)

    def forward(self, texts: Embedding, videos: Embedding, places: Int[Tensor, "b t"] | None = None) -> FusedPairs:
        """Return the pairs of texts and clips at the same place in both; `places` says where frames are in their clips,
        -1 where that is not told, None that they are in order.

        Raises VidgenError for embeddings without tokens, and for more frames than `max_frames`.
        """
        words, visible = tokens_of(texts, "texts")
        frames, present = tokens_of(videos, "clips")
        if len(words) != len(frames):
            raise VidgenError(f"{len(words)} texts and {len(frames)} clips are no pairs")
        if frames.shape[1] > self.config.max_frames:
            raise VidgenError(f"clips of {frames.shape[1]} frames are too long, {self.config.max_frames} at most")
        if places is None:
            places = torch.arange(frames.shape[1], device=frames.device).expand(len(frames), -1)
        dtype = self.place.weight.dtype
        # Padding may hold anything: it is hidden from attention, and zero here.
        words = self.words_in(words.masked_fill(~visible[..., None], 0.0).to(dtype))
        placed = self.place(places.clamp(min=0)) * (places >= 0)[..., None]
        frames = self.frames_in(frames.masked_fill(~present[..., None], 0.0).to(dtype)) + placed
        if self.config.stream == "single":
            return self.read_together(words, visible, frames, present)
        return self.read_in_turns(words, visible, frames, present)

    def read_together(
        self,
        words: Float[Tensor, "b l d"],
        visible: Bool[Tensor, "b l"],
        frames: Float[Tensor, "b t d"],
        present: Bool[Tensor, "b t"],
    ) -> FusedPairs:
        """Return pairs by one transformer over all tokens."""
        x = torch.cat([self.first.expand(len(words), -1, -1), words, frames], dim=1)
        mask = torch.cat([visible.new_ones(len(words), 1), visible, present], dim=1)
        for block in self.blocks:
            x = block(x, attend_where(mask), None)
        first, words, frames = self.norm(x).split([1, words.shape[1], frames.shape[1]], dim=1)
        return FusedPairs(pooled=first[:, 0], words=words, frames=frames)

    def read_in_turns(
        self,
        words: Float[Tensor, "b l d"],
        visible: Bool[Tensor, "b l"],
        frames: Float[Tensor, "b t d"],
        present: Bool[Tensor, "b t"],
    ) -> FusedPairs:
        """Return pairs by two transformers, whose blocks look up the other's tokens as they were before the block."""
        ones = visible.new_ones(len(words), 1)
        of_words, of_frames = torch.cat([ones, visible], dim=1), torch.cat([ones, present], dim=1)
        first_word, first_frame = self.first.expand(-1, len(words), -1)[:, :, None]
        x, y = torch.cat([first_word, words], dim=1), torch.cat([first_frame, frames], dim=1)
        for word_block, frame_block in zip(self.blocks, self.frame_blocks, strict=True):
            seen_by_words = TextHeads(*word_block.cross.keys_values(y), of_frames)
            seen_by_frames = TextHeads(*frame_block.cross.keys_values(x), of_words)
            x = word_block(x, attend_where(of_words), seen_by_words)
            y = frame_block(y, attend_where(of_frames), seen_by_frames)
        x, y = self.norm(x), self.norm(y)
        return FusedPairs(pooled=x[:, 0] * y[:, 0], words=x[:, 1:], frames=y[:, 1:])

    def match(self, texts: Embedding, videos: Embedding) -> Float[Tensor, " b"]:
        """Return the logit of each pair being a true one. Raises VidgenError as `forward`."""
        return self.matching(self(texts, videos).pooled)[:, 0]


@torch.no_grad()
def rerank(
    fused: FusedEncoder,
    texts: Embedding,
    videos: Embedding,
    scores: Float[Tensor, "n m"],
    k: int,
    *,
    batch_size: int = 256,
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
    """Return the `k` clips of the highest `scores` of each text, the one that matches best first, and the logits by
    which they are sorted (Li et al. 2021, ALBEF, section 4).

    Of more than all clips it is all. Pairs are read `batch_size` at a time. Raises VidgenError for k below one.
    """
    if k < 1:
        raise VidgenError(f"k={k} leaves nothing to sort; give 1 or more")
    nearest = scores.topk(min(k, scores.shape[1]), dim=1).indices
    rows = torch.arange(len(texts), device=nearest.device).repeat_interleave(nearest.shape[1])
    parts = zip(rows.split(batch_size), nearest.flatten().split(batch_size), strict=True)
    logits = torch.cat([fused.match(texts[row], videos[column]) for row, column in parts]).reshape(nearest.shape)
    order = logits.argsort(dim=1, descending=True, stable=True)
    return nearest.gather(1, order), logits.gather(1, order)
