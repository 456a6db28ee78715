"""The fused encoder: padding and other pairs change nothing, both sides are read, and re-ranking is an exact sort."""

import pytest
import torch
import torch.nn.functional as F

from vidgen.errors import VidgenError
from vidgen.models.text_video.embedding import Embedding
from vidgen.models.text_video.fused_encoder import STREAMS, FusedEncoder, FusedEncoderConfig, rerank

D = 16


def embed(count: int, lengths: list[int], seed: int = 0, padding: float = 0.0) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    tokens = F.normalize(torch.randn(count, max(lengths), D, generator=generator), dim=-1)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    vectors = F.normalize(torch.randn(count, D, generator=generator), dim=-1)
    return Embedding(vectors=vectors, tokens=torch.where(mask[..., None], tokens, padding), mask=mask)


TEXTS, VIDEOS = embed(3, [4, 2, 3]), embed(3, [5, 3, 4], seed=1)


@pytest.fixture(params=STREAMS)
def fused(request) -> FusedEncoder:
    torch.manual_seed(0)
    config = FusedEncoderConfig(token_width=D, width=16, depth=2, head_dim=8, max_frames=6, stream=request.param)
    return FusedEncoder(config).eval()


def test_padding_and_other_pairs_change_nothing(fused):
    out = fused(TEXTS, VIDEOS)
    assert out.words.shape == (3, 4, 16) and out.frames.shape == (3, 5, 16)
    padded = fused(embed(3, [4, 2, 3], padding=7.0), embed(3, [5, 3, 4], seed=1, padding=float("nan")))
    assert torch.allclose(padded.pooled, out.pooled, atol=1e-6)
    text = Embedding(vectors=TEXTS.vectors[1:2], tokens=TEXTS.tokens[1:2, :2])  # no mask: every token counts
    video = Embedding(vectors=VIDEOS.vectors[1:2], tokens=VIDEOS.tokens[1:2, :3])
    alone = fused(text, video)
    assert torch.allclose(alone.pooled, out.pooled[1:2], atol=1e-6)
    assert torch.allclose(alone.words, out.words[1:2, :2], atol=1e-6)
    assert torch.allclose(alone.frames, out.frames[1:2, :3], atol=1e-6)


def test_each_side_reads_the_other_and_the_order_of_frames(fused):
    out = fused(TEXTS, VIDEOS)
    turned = VIDEOS[[1, 0, 2]]
    other = fused(TEXTS, turned)
    assert not torch.allclose(other.words[0], out.words[0], atol=1e-4)
    texts = fused(TEXTS[[1, 0, 2]], VIDEOS)
    assert not torch.allclose(texts.frames[0], out.frames[0], atol=1e-4)
    video = Embedding(vectors=VIDEOS.vectors[:1], tokens=VIDEOS.tokens[:1])
    back = Embedding(vectors=VIDEOS.vectors[:1], tokens=VIDEOS.tokens[:1].flip(1))
    assert not torch.allclose(fused.match(TEXTS[:1], video), fused.match(TEXTS[:1], back), atol=1e-5)
    nowhere = torch.full((1, 5), -1)  # frames whose places are not told are a set
    one, two = (fused(TEXTS[:1], clip, nowhere) for clip in (video, back))
    assert torch.allclose(one.pooled, two.pooled, atol=1e-5)
    assert torch.allclose(one.frames, two.frames.flip(1), atol=1e-5)


def test_reranking_sorts_the_nearest_by_their_matches(fused):
    texts, videos = embed(4, [3] * 4, seed=2), embed(7, [4] * 7, seed=3)
    scores = texts.vectors @ videos.vectors.T
    matches = torch.stack([fused.match(texts[[i] * 7], videos) for i in range(4)])
    clips, logits = rerank(fused, texts, videos, scores, 3, batch_size=5)
    for i in range(4):
        nearest = scores[i].argsort(descending=True)[:3].tolist()
        assert clips[i].tolist() == sorted(nearest, key=lambda j: -matches[i, j].item())
        assert torch.allclose(logits[i], matches[i, clips[i]], atol=1e-5)
    everything, _ = rerank(fused, texts, videos, scores, 100)
    assert torch.equal(everything, matches.argsort(dim=1, descending=True))


def test_a_folder_holds_it(fused, tmp_path):
    fused.save_pretrained(tmp_path / "fused")
    again = FusedEncoder.from_pretrained(tmp_path / "fused")
    assert torch.equal(again.match(TEXTS, VIDEOS), fused.match(TEXTS, VIDEOS))


def test_what_cannot_be_read_is_named(fused):
    with pytest.raises(VidgenError, match="keeps none of clips"):
        fused(TEXTS, Embedding(vectors=VIDEOS.vectors))
    with pytest.raises(VidgenError, match="3 texts and 2 clips are no pairs"):
        fused(TEXTS, VIDEOS[:2])
    with pytest.raises(VidgenError, match="clips of 7 frames are too long, 6 at most"):
        fused(TEXTS, embed(3, [7, 7, 7]))
    with pytest.raises(VidgenError, match="k=0"):
        rerank(fused, TEXTS, VIDEOS, torch.zeros(3, 3), 0)
    with pytest.raises(VidgenError, match="stream"):
        FusedEncoderConfig(stream="triple")
