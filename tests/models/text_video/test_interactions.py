"""Interactions of texts and clips: papers' formulas by loops over pairs, limits, and padding that changes nothing."""

import math

import pytest
import torch
import torch.nn.functional as F

from vidgen.errors import VidgenError
from vidgen.models.text_video import token_interactions
from vidgen.models.text_video.embedding import Embedding
from vidgen.models.text_video.interactions import INTERACTIONS, find_events

D = 8


def embed(count: int, lengths: list[int], seed: int = 0, padding: float = 0.0) -> Embedding:
    """Texts or clips with tokens of these lengths; `padding` is what is behind them."""
    generator = torch.Generator().manual_seed(seed)
    tokens = F.normalize(torch.randn(count, max(lengths), D, generator=generator), dim=-1)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    vectors = F.normalize(torch.randn(count, D, generator=generator), dim=-1)
    return Embedding(vectors=vectors, tokens=torch.where(mask[..., None], tokens, padding), mask=mask)


TEXTS = embed(3, [4, 2, 3])
VIDEOS = embed(4, [5, 3, 4, 1], seed=1)


def build(name: str, seed: int = 0) -> torch.nn.Module:
    """An interaction of drawn parameters."""
    module = INTERACTIONS[name](D)
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator)
    return module


def pairs(texts: Embedding, videos: Embedding):
    """Each pair's vectors and tokens without padding."""
    for i in range(len(texts)):
        for j in range(len(videos)):
            yield i, j, texts.tokens[i][texts.mask[i]], videos.tokens[j][videos.mask[j]]


@pytest.mark.parametrize("name", INTERACTIONS)
def test_padding_and_parts_and_order_change_nothing(name, monkeypatch):
    module = build(name)
    scores = module(TEXTS, VIDEOS)
    assert scores.shape == (3, 4)
    padded = module(embed(3, [4, 2, 3], padding=9.0), embed(4, [5, 3, 4, 1], seed=1, padding=9.0))
    assert torch.allclose(padded, scores, atol=1e-6)
    order = torch.tensor([2, 0, 1])
    assert torch.allclose(module(TEXTS[order], VIDEOS[[3, 1]]), scores[order][:, [3, 1]], atol=1e-6)
    monkeypatch.setattr(token_interactions, "PART", 1)
    assert torch.allclose(module(TEXTS, VIDEOS), scores, atol=1e-6)


@pytest.mark.parametrize("name", INTERACTIONS)
def test_scores_are_in_the_range_of_a_cosine_and_learn(name):
    module = INTERACTIONS[name](D)
    leaves = [x.clone().requires_grad_() for x in (TEXTS.vectors, TEXTS.tokens, VIDEOS.vectors, VIDEOS.tokens)]
    texts = Embedding(vectors=leaves[0], tokens=leaves[1], mask=TEXTS.mask)
    scores = module(texts, Embedding(vectors=leaves[2], tokens=leaves[3], mask=VIDEOS.mask))
    assert scores.abs().max() <= 1 + 1e-5
    scores.square().sum().backward()
    gradients = [x.grad for x in leaves if x.grad is not None]
    assert len(gradients) >= 2
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_cosine_of_vectors():
    assert torch.allclose(INTERACTIONS["cosine"](D)(TEXTS, VIDEOS), F.cosine_similarity(
        TEXTS.vectors[:, None], VIDEOS.vectors[None], dim=-1), atol=1e-6)  # fmt: skip


def test_tokenwise_by_loops_and_equal_weights_are_means():
    scores = INTERACTIONS["tokenwise"](D)(TEXTS, VIDEOS)
    for i, j, words, frames in pairs(TEXTS, VIDEOS):
        cosines = words @ frames.T
        assert scores[i, j].item() == pytest.approx(
            ((cosines.amax(1).mean() + cosines.amax(0).mean()) / 2).item(), abs=1e-6
        )
    assert torch.allclose(INTERACTIONS["weighted_tokenwise"](D)(TEXTS, VIDEOS), scores, atol=1e-6)


def test_weighted_tokenwise_by_loops():
    module = build("weighted_tokenwise")
    scores = module(TEXTS, VIDEOS)
    for i, j, words, frames in pairs(TEXTS, VIDEOS):
        weights = [
            net.out(F.relu(net.hidden(tokens)))[:, 0].softmax(0)
            for net, tokens in ((module.weigh_words, words), (module.weigh_frames, frames))
        ]
        best = (words @ frames.T).amax(1) @ weights[0] + (words @ frames.T).amax(0) @ weights[1]
        assert scores[i, j].item() == pytest.approx((best / 2).item(), abs=1e-5)


def test_xpool_by_torchs_attention():
    module = build("xpool")
    scores = module(TEXTS, VIDEOS)
    for i, j, _, frames in pairs(TEXTS, VIDEOS):
        text = TEXTS.vectors[i]
        frames = module.norm_frames(frames)
        q, k, v = module.query(module.norm_text(text))[None], module.key(frames), module.value(frames)
        pooled = module.norm_pooled(module.out(F.scaled_dot_product_attention(q[None], k[None], v[None])[0, 0]))
        pooled = module.norm_out(pooled + module.dense(pooled))
        assert scores[i, j].item() == pytest.approx(F.cosine_similarity(text, pooled, dim=0).item(), abs=1e-5)


def test_query_scores_by_loops_and_between_the_mean_frame_and_the_best():
    scores = INTERACTIONS["query_scored"](D)(TEXTS, VIDEOS)
    mean = INTERACTIONS["query_scored"](D, temperature=1e6)(TEXTS, VIDEOS)
    best = INTERACTIONS["query_scored"](D, temperature=1e-4)(TEXTS, VIDEOS)
    for i, j, _, frames in pairs(TEXTS, VIDEOS):
        cosines = frames @ TEXTS.vectors[i]
        pooled = (cosines / 0.1).softmax(0) @ frames
        expected = F.cosine_similarity(TEXTS.vectors[i], pooled, dim=0)
        assert scores[i, j].item() == pytest.approx(expected.item(), abs=1e-5)
        average = F.cosine_similarity(TEXTS.vectors[i], frames.mean(0), dim=0)
        assert mean[i, j].item() == pytest.approx(average.item(), abs=1e-4)
        assert best[i, j].item() == pytest.approx(cosines.max().item(), abs=1e-4)


def test_events_of_a_clip_are_its_groups_of_frames():
    axes = torch.eye(D)
    frames = torch.stack([axes[0], axes[0], axes[3], axes[5], axes[3], axes[1]])[None]
    mask = torch.tensor([[True] * 5 + [False]])
    events, there = find_events(frames, mask, 4)
    assert there.sum() == 3  # the fourth group has nothing left, and padding is in none
    assert {int(event.argmax()) for event in events[0][there[0]]} == {0, 3, 5}
    assert torch.allclose(events[0][there[0]].amax(1), torch.ones(3))
    texts = Embedding(vectors=axes)
    scores = INTERACTIONS["multi_event"](D)(texts, Embedding(vectors=axes[:1], tokens=frames, mask=mask))
    assert scores[:, 0].tolist() == [1, 0, 0, 1, 0, 1, 0, 0]


def test_one_event_is_the_mean_frame():
    scores = INTERACTIONS["multi_event"](D, events=1)(TEXTS, VIDEOS)
    for i, j, _, frames in pairs(TEXTS, VIDEOS):
        wanted = F.cosine_similarity(TEXTS.vectors[i], frames.mean(0), dim=0)
        assert scores[i, j].item() == pytest.approx(wanted.item(), abs=1e-5)


def test_expected_distance_is_that_of_draws():
    module = build("probabilistic")
    scores = module(TEXTS, VIDEOS)
    of_texts, of_videos = module.variances(TEXTS, VIDEOS)
    generator = torch.Generator().manual_seed(3)
    shape = (200_000, D)
    x = TEXTS.vectors[1] + of_texts[1].sqrt() * torch.randn(shape, generator=generator)
    y = VIDEOS.vectors[2] + of_videos[2].sqrt() * torch.randn(shape, generator=generator)
    distances = 1 - (x - y).square().sum(1) / 2
    assert scores[1, 2].item() == pytest.approx(
        distances.mean().item(), abs=5 * distances.std().item() / math.sqrt(2e5)
    )
    sure = INTERACTIONS["probabilistic"](D)
    for spread in (sure.text_spread, sure.video_spread):
        torch.nn.init.constant_(spread.bias, -40.0)
    assert torch.allclose(sure(TEXTS, VIDEOS), TEXTS.vectors @ VIDEOS.vectors.T, atol=1e-6)


def test_tokens_that_are_not_there_are_named():
    with pytest.raises(VidgenError, match="keeps none of clips; use cosine"):
        INTERACTIONS["query_scored"](D)(TEXTS, Embedding(vectors=VIDEOS.vectors))
    with pytest.raises(VidgenError, match="keeps none of texts"):
        INTERACTIONS["tokenwise"](D)(Embedding(vectors=TEXTS.vectors), VIDEOS)
    whole = Embedding(vectors=VIDEOS.vectors, tokens=VIDEOS.tokens)  # no mask: every token counts
    assert INTERACTIONS["query_scored"](D)(TEXTS, whole).shape == (3, 4)


def test_no_texts_or_no_clips():
    for name, kind in INTERACTIONS.items():
        assert kind(D)(TEXTS[:0], VIDEOS).shape == (0, 4), name
