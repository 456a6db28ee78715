"""What takes the tokens of two towers into one space: pooling by attention, projections, how their tokens meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vidgen.bounds import Choice, NoOrCount, Range, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.checkpoints.pretrained import Pretrained
from vidgen.models.dit.config import check_heads
from vidgen.models.layers import Attention, FeedForward
from vidgen.models.text.encoders import TextBlock, TextEncoding
from vidgen.models.text_video.embedding import Embedding
from vidgen.models.text_video.interactions import INTERACTIONS

MOST_SCALE = 100.0  # of scores before a softmax (Radford et al. 2021, section 2.5)


@dataclass(frozen=True, kw_only=True)
class JointHeadsConfig(ConfigMapping):
    """Shape of `JointHeads`: channels of the towers' tokens, and of the space that they are taken to.

    interaction: how a text and a clip are scored, of `INTERACTIONS`.
    text_encoder: name or folder of a text encoder that stays as it is, "" for one of the model's own.
    text_blocks: transformer blocks of `text_block_width` that are learned after its tokens; 0 for none.
    initial_scale, initial_bias: of scores before training; 10 and -10 for the sigmoid loss (Zhai et al. 2023, SigLIP).
    """

    video_width: Width = 144
    text_width: Width = 192
    width: Width = 192
    head_dim: Width = 48
    interaction: Annotated[str, Choice(tuple(INTERACTIONS))] = "cosine"
    text_encoder: str = ""
    text_blocks: NoOrCount = 0
    text_block_width: Width = 192
    initial_scale: Annotated[float, Range(0.0, MOST_SCALE, above=True)] = 1 / 0.07
    initial_bias: Annotated[float, Range(-100.0, 100.0)] = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_heads(self.video_width, self.head_dim)
        check_heads(self.text_tokens, self.head_dim)

    @property
    def text_tokens(self) -> int:
        """Channels of the text tokens that are pooled."""
        return self.text_block_width if self.text_blocks else self.text_width


def to_unit_length(x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
    """Return vectors of unit length, in float32 at least."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


class TowerHead(nn.Module):
    """Tokens of a tower as one vector, by the attention of a learned query (Zhai et al. 2022, the MAP head), and each
    as a token of the shared space; of unit length."""

    def __init__(self, width: int, head_dim: int, out: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, width) * width**-0.5)
        self.attention = Attention(width, head_dim, width)
        self.norm = nn.LayerNorm(width)
        self.mlp = FeedForward(width)
        self.vector_out = nn.Linear(width, out, bias=False)
        self.token_out = nn.Linear(width, out, bias=False)

    def forward(self, tokens: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"] | None = None) -> Float[Tensor, "b e"]:
        """Return the vector."""
        pooled = self.attention(self.query.expand(len(tokens), -1, -1), tokens, mask=mask)[:, 0]
        return to_unit_length(self.vector_out(pooled + self.mlp(self.norm(pooled))))

    def project(self, tokens: Float[Tensor, "b l d"]) -> Float[Tensor, "b l e"]:
        """Return the tokens in the shared space."""
        return to_unit_length(self.token_out(tokens))


def mean_of_frames(
    tokens: Float[Tensor, "b k d"], frames: int, cells: int, places: Int[Tensor, "b k"] | None
) -> tuple[Float[Tensor, "b t d"], Bool[Tensor, "b t"]]:
    """Return the mean token of each frame of `cells` places, of those that are there, and which frames have some."""
    if places is None:
        whole = tokens.unflatten(1, (frames, cells)).mean(2)
        return whole, torch.ones(whole.shape[:2], dtype=torch.bool, device=tokens.device)
    owner = F.one_hot(places // cells, frames).to(tokens.dtype)  # b k t
    count = owner.sum(1)
    return torch.einsum("bkt,bkd->btd", owner, tokens) / count.clamp(min=1)[..., None], count > 0


class JointHeads(Pretrained):
    """From the tokens of a clip and of a text to `Embedding`s, and from two of these to scores."""

    config_class = JointHeadsConfig

    def __init__(self, config: JointHeadsConfig) -> None:
        super().__init__(config)
        if config.text_blocks:
            self.text_in = nn.Linear(config.text_width, config.text_block_width)
            blocks = [TextBlock(config.text_block_width, config.head_dim) for _ in range(config.text_blocks)]
            self.text_blocks = nn.ModuleList(blocks)
        self.video = TowerHead(config.video_width, config.head_dim, config.width)
        self.text = TowerHead(config.text_tokens, config.head_dim, config.width)
        self.interaction = INTERACTIONS[config.interaction](config.width)
        self.log_scale = nn.Parameter(torch.tensor(config.initial_scale).log())
        self.logit_bias = nn.Parameter(torch.tensor(config.initial_bias))

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """What scores are multiplied by."""
        return self.log_scale.exp().clamp(max=MOST_SCALE)

    def embed_video(
        self, tokens: Float[Tensor, "b k d"], frames: int, cells: int, places: Int[Tensor, "b k"] | None = None
    ) -> Embedding:
        """Return clips in the shared space: one token a frame of `cells` places, of those at `places` or of all."""
        means, mask = mean_of_frames(tokens, frames, cells, places)
        return Embedding(vectors=self.video(tokens), tokens=self.video.project(means), mask=mask)

    def embed_text(self, text: TextEncoding) -> Embedding:
        """Return texts in the shared space."""
        tokens = text.tokens.to(self.text.query.dtype)
        if self.config.text_blocks:
            tokens = self.text_in(tokens)
            for block in self.text_blocks:
                tokens = block(tokens, text.mask)
        return Embedding(vectors=self.text(tokens, text.mask), tokens=self.text.project(tokens), mask=text.mask)

    def score(self, texts: Embedding, videos: Embedding) -> Float[Tensor, "n m"]:
        """Return how well each text goes with each clip."""
        return self.interaction(texts, videos)
