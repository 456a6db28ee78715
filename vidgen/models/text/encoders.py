"""Text encoders behind one interface: a byte-level transformer that is trained along, and transformers' own models."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidgen.bounds import Count, Depth, Width, check_fields
from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.checkpoints.drafts import draft_transformers
from vidgen.checkpoints.finite import check_output
from vidgen.checkpoints.pretrained import Pretrained
from vidgen.errors import VidgenError
from vidgen.models.layers import Attention, FeedForward
from vidgen.models.placement import device_of
from vidgen.models.text.tokenizers import read_text_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PAD, START, STOP, BYTES = 0, 1, 2, 3  # ids; byte b has id b + BYTES
NEIGHBORS = 7  # bytes that the first layer sees at once, the length of a word
# Tensors of transformers' files that hold more than a text encoder: T5's decoder, the rest of CLIP.
OTHER_NETWORKS = (
    r"^decoder\.",
    r"^lm_head\.",
    r"^vision_model\.",
    r"_projection\.",
    r"^logit_scale$",
    r"position_ids$",
)


@dataclass(frozen=True, kw_only=True)
class TextEncoding:
    """Text as tokens (b, l, d) with a mask (b, l) that is True on tokens and False on padding."""

    tokens: Float[Tensor, "b l d"]
    mask: Bool[Tensor, "b l"]

    def pooled(self) -> Float[Tensor, "b d"]:
        """Return the mean over the tokens that are not padding."""
        weight = self.mask.to(self.tokens.dtype)[..., None]
        return (self.tokens * weight).sum(1) / weight.sum(1).clamp(min=1.0)


@dataclass(frozen=True, kw_only=True)
class ByteTextConfig(ConfigMapping):
    """Shape of a ByteTextEncoder; `max_bytes` bounds a prompt's UTF-8 length."""

    width: Width = 192
    depth: Depth = 4
    head_dim: Width = 64
    max_bytes: Count = 254
    lowercase: bool = True

    def __post_init__(self) -> None:
        check_fields(self)


def plain_bytes(text: str, *, lowercase: bool = True) -> bytes:
    """Return the bytes of a text whose blanks are single."""
    text = " ".join(text.split())
    return (text.lower() if lowercase else text).encode("utf-8")


class TextBlock(nn.Module):
    """Pre-norm transformer block over tokens."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, head_dim)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width)

    def forward(self, x: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"] | None) -> Float[Tensor, "b l d"]:
        """Return the block's output; `mask` is True on visible tokens, None where all are."""
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.mlp(self.norm2(x))


class ByteTextEncoder(Pretrained):
    """A bidirectional transformer over UTF-8 bytes (in the manner of Xue et al. 2022, ByT5): no vocabulary to fetch.

    A convolution over neighboring bytes comes first (Clark et al. 2022, CANINE, section 3.2): words are there from the
    start, where attention would have to learn that letters next to each other belong together.
    """

    config_class = ByteTextConfig

    def __init__(self, config: ByteTextConfig) -> None:
        super().__init__(config)
        self.width = config.width
        self.embed = nn.Embedding(256 + BYTES, config.width)
        self.near = nn.Conv1d(config.width, config.width, NEIGHBORS, padding=NEIGHBORS // 2)
        self.place = nn.Embedding(config.max_bytes + 2, config.width)
        self.blocks = nn.ModuleList([TextBlock(config.width, config.head_dim) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.width)
        # Bytes keep torch's unit scale: much smaller, the first block's output would drown which byte it was.
        nn.init.normal_(self.place.weight, std=0.3)

    def to_ids(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids (b, l), padded to the longest prompt, and the mask.

        Raises VidgenError for a prompt of over `max_bytes` bytes.
        """
        rows = []
        for prompt in prompts:
            data = plain_bytes(prompt, lowercase=self.config.lowercase)
            if len(data) > self.config.max_bytes:
                limit = self.config.max_bytes
                raise VidgenError(f"prompt of {len(data)} bytes is too long, {limit} at most: {prompt[:40]!r}...")
            rows.append([START, *(byte + BYTES for byte in data), STOP])
        length = max(map(len, rows))
        ids = torch.tensor([row + [PAD] * (length - len(row)) for row in rows], device=self.embed.weight.device)
        return ids, ids != PAD

    def forward(self, prompts: Sequence[str]) -> TextEncoding:
        """Return the text tokens of prompts. Raises VidgenError as `to_ids`."""
        ids, mask = self.to_ids(prompts)
        x = (
            self.embed(ids) * mask[..., None]
        )  # b l d; padding is zeros: a prompt does not depend on the batch's longest
        near = self.near(rearrange(x, "b l d -> b d l"))
        x = x + rearrange(near, "b d l -> b l d") + self.place.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        return TextEncoding(tokens=self.norm(x), mask=mask)


class TransformersTextEncoder(nn.Module):
    """T5, UMT5 or CLIP from a transformers folder; weights and tokenizer side by side, or in two folders."""

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.width = model.config.hidden_size

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Write weights (in `dtype` if given) and tokenizer to `folder`, in transformers' own layout."""
        copy.deepcopy(self.model).to(dtype=dtype).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        tokenizer: str | Path | None = None,
        dtype: torch.dtype | None = None,
        device: str = "cpu",
    ) -> TransformersTextEncoder:
        """Return the encoder in `folder`, with its tokenizer from there or from `tokenizer`. Nothing is fetched.

        Raises VidgenError where there is none, or one of another kind.
        """
        from transformers import CLIPTextModel, T5EncoderModel, UMT5EncoderModel

        kinds = {
            "t5": T5EncoderModel,
            "umt5": UMT5EncoderModel,
            "clip_text_model": CLIPTextModel,
            "clip": CLIPTextModel,
        }
        dtype = dtype or torch.float32
        draft = draft_transformers(Path(folder), kinds, dtype, prefix="text_model.", left_out=OTHER_NETWORKS)
        draft.checkpoint.check_memory(dtype, device)
        positions = getattr(draft.network.config, "max_position_embeddings", None)
        words = read_text_tokenizer(tokenizer or folder)
        return cls(draft.fill(dtype=dtype, device=device), words, positions or 512)

    def to_ids(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return ids (b, l), padded to the longest prompt, and the mask.

        Raises VidgenError for a prompt of over `max_length` tokens.
        """
        batch = self.tokenizer(list(prompts), padding=True, return_tensors="pt")
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if ids.shape[1] > self.max_length:
            raise VidgenError(f"prompt of {ids.shape[1]} tokens is too long, {self.max_length} at most")
        return ids, mask

    def forward(self, prompts: Sequence[str]) -> TextEncoding:
        """Return the text tokens of prompts. Raises VidgenError as `to_ids`."""
        ids, mask = self.to_ids(prompts)
        device = device_of(self.model)

        def run() -> Tensor:
            return self.model(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state

        what = f"the text encoder {type(self.model).__name__}"
        out = check_output(run(), self.model, run, what=lambda: what, given=ids)
        return TextEncoding(tokens=out, mask=mask.to(device).bool())
