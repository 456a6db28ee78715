"""Terms of a fused encoder: hard negatives follow their law, masks hide what they say, and what can be learned is."""

import pytest
import torch
import torch.nn.functional as F

from vidgen.errors import VidgenError
from vidgen.models.text_video.embedding import Embedding
from vidgen.models.text_video.fused_encoder import FusedEncoder, FusedEncoderConfig
from vidgen.train.objectives.text_video import PairLabels, own_pairs
from vidgen.train.tasks.text_video.fused_terms import (
    FUSED_TERMS,
    MASKED,
    FusedBatch,
    draw_hard_negatives,
    fused_loss,
    mask_words,
)

WORDS = ("red", "blue", "gray", "pink")


class ByteModel:
    """A model whose text tokens are the bytes themselves and their places, between a start and a stop, and whose clip
    tokens are the mean colours of pairs of frames."""

    width = 259 + 16

    def embed_texts(self, texts: list[str]) -> Embedding:
        rows = [torch.tensor([256, *text.encode(), 257]) for text in texts]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=258)
        places = F.one_hot(torch.arange(ids.shape[1]), 16).expand(len(ids), -1, -1)
        tokens = torch.cat([F.one_hot(ids, 259), places], dim=-1).float()
        return Embedding(vectors=F.normalize(tokens.sum(1), dim=-1), tokens=tokens, mask=ids != 258)

    def embed_videos(self, video: torch.Tensor) -> Embedding:
        tokens = F.pad(video.unflatten(2, (-1, 2)).mean((3, 4, 5)).transpose(1, 2), (0, self.width - 3))
        return Embedding(
            vectors=F.normalize(tokens.sum(1), dim=-1), tokens=tokens, mask=torch.ones(tokens.shape[:2]) > 0
        )


def batch_of(generator: torch.Generator, count: int = 8) -> FusedBatch:
    """Clips of 8 frames, brighter with time, whose hue the caption names."""
    kinds = torch.arange(count) % len(WORDS)
    hues = torch.tensor([[1.0, 0, 0], [0, 0, 1], [1, 1, 1], [1, 0, 1]])[kinds]
    light = torch.linspace(0.2, 1.6, 8)
    video = (hues[:, :, None] * light)[..., None, None].expand(-1, -1, -1, 2, 2).clone()
    captions = [f"a {WORDS[kind]} dot" for kind in kinds.tolist()]
    model = ByteModel()
    same = kinds[:, None] == kinds
    own = torch.eye(count, dtype=torch.bool)
    return FusedBatch(
        video=video, captions=captions, texts=model.embed_texts(captions), videos=model.embed_videos(video),
        logits=torch.randn(count, count, generator=generator), pairs=PairLabels(own, ~same),
    )  # fmt: skip


def build() -> FusedEncoder:
    torch.manual_seed(0)
    config = FusedEncoderConfig(token_width=ByteModel.width, width=32, depth=2, head_dim=8, max_frames=4)
    return FusedEncoder(config)


def test_hard_negatives_are_drawn_by_the_softmax_over_negatives():
    logits = torch.tensor([[9.0, 1.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]]).repeat(4000, 1)
    negatives = torch.tensor([[False, True, True, True], [False] * 4]).repeat(4000, 1)
    rows, columns = draw_hard_negatives(logits, negatives, torch.Generator().manual_seed(0))
    assert torch.equal(rows, torch.arange(0, 8000, 2))
    shares = torch.bincount(columns, minlength=4) / 4000
    wanted = torch.tensor([0.0, *torch.tensor([1.0, 0.0, 2.0]).softmax(0)])
    assert torch.allclose(shares, wanted, atol=4 * 0.5 / 4000**0.5)


def test_masked_words_keep_places_and_say_what_was_there():
    generator = torch.Generator().manual_seed(0)
    hidden = 0
    for _ in range(200):
        shown, targets = mask_words("A  röd   circle moves right", 0.3, generator)
        plain = "a röd circle moves right".encode()
        assert len(shown.encode()) == len(targets) == len(plain)
        for byte, target, original in zip(shown.encode(), targets, plain, strict=True):
            assert (byte == ord(MASKED) and target == original) if target >= 0 else byte == original
        words = shown.split(" ")
        assert all(set(word) == {MASKED} or MASKED not in word for word in words)
        assert (count := sum(MASKED in word for word in words)) >= 1
        hidden += count
    assert 200 * 1.4 < hidden < 200 * 1.85  # 5 x 0.3, and one where none is drawn: 1.5 + 0.7^5
    assert mask_words("", 0.3, generator) == ("", [])


@pytest.mark.parametrize("name", FUSED_TERMS)
def test_what_can_be_learned_is(name):
    fused, generator = build(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(fused.parameters(), lr=3e-3)
    for _ in range(150):
        loss, parts = fused_loss(fused, ByteModel(), batch_of(generator), {name: 1.0}, generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracies = [
        fused_loss(fused, ByteModel(), batch_of(generator), {name: 1.0}, generator)[1][f"{name}_accuracy"]
        for _ in range(10)
    ]
    assert torch.stack(accuracies).mean() > 0.9


def test_words_cannot_be_told_without_the_clip():
    fused, generator = build(), torch.Generator().manual_seed(0)
    batch = batch_of(generator)
    seen = {}

    class Spy(ByteModel):
        def embed_texts(self, texts):
            seen["texts"] = texts
            return super().embed_texts(texts)

    fused_loss(fused, Spy(), batch, {"masked_words": 1.0}, generator)
    assert all(MASKED in text for text in seen["texts"])
    assert not any(text in batch.captions for text in seen["texts"])


def test_weights_sum_terms_and_both_kinds_of_pairs_weigh_alike():
    fused, batch = build().eval(), batch_of(torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(fused.matching.weight)
    torch.nn.init.constant_(fused.matching.bias, 1.0)
    weights = {"matching": 2.0, "frame_order": 0.5}
    loss, parts = fused_loss(fused, ByteModel(), batch, weights, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(2 * parts["matching"].item() + 0.5 * parts["frame_order"].item(), rel=1e-5)
    one = torch.tensor(1.0)
    assert parts["matching"].item() == pytest.approx((F.softplus(-one) + F.softplus(one)).item() / 2, rel=1e-5)


def test_what_a_term_cannot_be_of_is_named():
    fused, batch = build(), batch_of(torch.Generator().manual_seed(0))

    class WordModel(ByteModel):
        def embed_texts(self, texts):
            return super().embed_texts([text.replace(" ", "") for text in texts])

    generator = torch.Generator().manual_seed(0)
    with pytest.raises(VidgenError, match="no token a byte"):
        fused_loss(fused, WordModel(), batch, {"masked_words": 1.0}, generator)
    with pytest.raises(VidgenError, match="choose from matching, masked_words, frame_order"):
        fused_loss(fused, ByteModel(), batch, {"captions": 1.0}, generator)
    with pytest.raises(VidgenError, match="learns by terms"):
        fused_loss(fused, ByteModel(), batch, {}, generator)
    alone = FusedBatch(
        video=batch.video, captions=batch.captions, texts=batch.texts, videos=batch.videos, logits=batch.logits,
        pairs=PairLabels(own_pairs(8).positives, torch.zeros(8, 8, dtype=torch.bool)),
    )  # fmt: skip
    with pytest.raises(VidgenError, match="no negative pair"):
        fused_loss(fused, ByteModel(), alone, {"matching": 1.0}, generator)
