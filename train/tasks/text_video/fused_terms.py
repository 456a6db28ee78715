"""Terms of the loss of a `FusedEncoder`: whether pairs match, bytes of masked words, and the order of frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.interfaces import TextVideoEncoder
from vidgen.models.text.encoders import plain_bytes
from vidgen.models.text_video.embedding import Embedding
from vidgen.models.text_video.fused_encoder import FusedEncoder
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.objectives.text_video import PairLabels

MASKED = "\x1a"  # stands for a masked byte: the character "substitute", one byte of UTF-8 that no caption has
MASKED_SHARE = 0.15  # of words (Devlin et al. 2019, BERT)


@dataclass(frozen=True, kw_only=True)
class FusedBatch:
    """Clips and their captions, as a model of both embeds them, its logits (scores times its scale), and which pairs
    are true or false."""

    video: Float[Tensor, "b 3 T H W"]
    captions: Sequence[str]
    texts: Embedding
    videos: Embedding
    logits: Float[Tensor, "b b"]
    pairs: PairLabels


def draw_hard_negatives(
    logits: Float[Tensor, "n m"], negatives: Bool[Tensor, "n m"], generator: torch.Generator
) -> tuple[Int[Tensor, " k"], Int[Tensor, " k"]]:
    """Draw a negative of every row that has one, by the softmax of its logits over negatives (Li et al. 2021, ALBEF,
    section 3.2); return the rows and the columns."""
    rows = negatives.any(dim=1).nonzero()[:, 0]
    hidden = logits.detach().float().masked_fill(~negatives, float("-inf"))
    chances = hidden[rows].softmax(dim=1).cpu()
    columns = torch.multinomial(chances, 1, generator=generator)[:, 0]
    return rows, columns.to(rows.device)


def matching_loss(
    fused: FusedEncoder, model: TextVideoEncoder, batch: FusedBatch, generator: torch.Generator
) -> LossAndParts:
    """Return the cross-entropy of true pairs, and of one hard negative for every text and every clip. Parts:
    "accuracy". Raises VidgenError for a batch without negatives."""
    text_rows, clips = draw_hard_negatives(batch.logits, batch.pairs.negatives, generator)
    clip_rows, texts = draw_hard_negatives(batch.logits.T, batch.pairs.negatives.T, generator)
    if not len(text_rows):
        raise VidgenError(f"a batch of {len(batch.captions)} clips has no negative pair; raise batch_size")
    own = torch.arange(len(batch.captions), device=text_rows.device)
    of_texts, of_clips = torch.cat([own, text_rows, texts]), torch.cat([own, clips, clip_rows])
    logits = fused.match(batch.texts[of_texts], batch.videos[of_clips])
    truth = torch.zeros_like(logits)
    truth[: len(own)] = 1.0
    # True pairs and false ones weigh alike, however many negatives there are.
    losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    loss = (losses[: len(own)].mean() + losses[len(own) :].mean()) / 2
    return loss, {"accuracy": ((logits > 0) == truth.bool()).float().mean()}


def mask_words(caption: str, share: float, generator: torch.Generator) -> tuple[str, list[int]]:
    """Return a caption with some whole words, one at least, as bytes MASKED, and places and count of bytes stay as they
    are; and each byte's value, -1 where it is not masked. Lowercase and single blanks are the byte encoder's rule."""
    words = plain_bytes(caption).split(b" ")
    drawn = torch.rand(len(words), generator=generator)
    hidden = (drawn < share) | (drawn == drawn.min())
    shown, targets = [], []
    for word, is_hidden in zip(words, hidden.tolist(), strict=True):
        shown.append(MASKED * len(word) if is_hidden else word.decode())
        targets += [*(word if is_hidden else [-1] * len(word)), -1]  # the blank after a word
    return " ".join(shown), targets[:-1]


def masked_words_loss(
    fused: FusedEncoder, model: TextVideoEncoder, batch: FusedBatch, generator: torch.Generator
) -> LossAndParts:
    """Return the cross-entropy of the bytes of masked words, read with the clip (Devlin et al. 2019; Lu et al. 2019,
    ViLBERT). Words are masked before the text tower, which must have a token a byte. Parts: "accuracy" of bytes.

    Raises VidgenError for a text tower of other tokens, and for captions without words.
    """
    rows = [mask_words(caption, MASKED_SHARE, generator) for caption in batch.captions]
    texts = model.embed_texts([shown for shown, _ in rows])
    counts = torch.tensor([len(targets) + 2 for _, targets in rows])  # bytes between a start and a stop
    if texts.tokens is None or texts.mask is None or not torch.equal(texts.mask.sum(1).cpu(), counts):
        raise VidgenError("masked words are bytes, and this text encoder has no token a byte; leave the term out")
    targets = torch.full(texts.mask.shape, -1)
    for row, (_, values) in enumerate(rows):
        targets[row, 1 : 1 + len(values)] = torch.tensor(values, dtype=torch.long)
    if not bool((targets >= 0).any()):
        raise VidgenError("no caption of the batch has a word to mask")
    targets = targets.to(texts.tokens.device)
    logits = fused.byte_out(fused(texts, batch.videos).words)
    hidden = targets >= 0
    hits = logits[hidden].argmax(-1) == targets[hidden]
    return F.cross_entropy(logits[hidden], targets[hidden]), {"accuracy": hits.float().mean()}


def frame_order_loss(
    fused: FusedEncoder, model: TextVideoEncoder, batch: FusedBatch, generator: torch.Generator
) -> LossAndParts:
    """Return the cross-entropy of where each frame was, of clips whose frames are shuffled before the tower sees them
    (Li et al. 2020, HERO: frame order modeling). Parts: "accuracy".

    Raises VidgenError where a clip's frames are no multiple of its tokens.
    """
    count, length = batch.videos.tokens.shape[1], batch.video.shape[2]
    if length % count:
        raise VidgenError(f"clips of {length} frames have {count} tokens: frames cannot be shuffled by token")
    order = torch.rand(len(batch.video), count, generator=generator).argsort(dim=1).to(batch.video.device)
    tubes = batch.video.unflatten(2, (count, length // count))
    index = order[:, None, :, None, None, None].expand_as(tubes)
    videos = model.embed_videos(tubes.gather(2, index).flatten(2, 3))
    logits = fused.place_out(fused(batch.texts, videos, torch.full_like(order, -1)).frames)[..., :count]
    hits = logits.argmax(-1) == order
    return F.cross_entropy(logits.flatten(0, 1), order.flatten()), {"accuracy": hits.float().mean()}


FusedTerm = Callable[[FusedEncoder, TextVideoEncoder, FusedBatch, torch.Generator], LossAndParts]

FUSED_TERMS: dict[str, FusedTerm] = {
    "matching": matching_loss,
    "masked_words": masked_words_loss,
    "frame_order": frame_order_loss,
}


def fused_loss(
    fused: FusedEncoder,
    model: TextVideoEncoder,
    batch: FusedBatch,
    weights: Mapping[str, float],
    generator: torch.Generator,
) -> LossAndParts:
    """Return the weighted sum of terms, and each one's loss and parts under its name. Raises VidgenError for a name
    that is no term, and for no term at all."""
    if unknown := sorted(set(weights) - set(FUSED_TERMS)):
        raise VidgenError(f"fused term {unknown[0]!r} is not known; choose from {', '.join(FUSED_TERMS)}")
    if not weights:
        raise VidgenError(f"a fused encoder learns by terms; give some of {', '.join(FUSED_TERMS)}")
    total, parts = 0.0, {}
    for name, weight in weights.items():
        loss, own = FUSED_TERMS[name](fused, model, batch, generator)
        total = total + weight * loss
        parts |= {name: loss.detach()} | {f"{name}_{part}": value for part, value in own.items()}
    return total, parts
