"""Embeddings: rows and joins keep every token; the encoder of colours, which other tests rely on, knows colours."""

import torch

from vidgen.data.frames import to_tensor
from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.interfaces import TextVideoEncoder
from vidgen.models.text_video.embedding import Embedding, join_embeddings


def embedding(b: int, length: int, seed: int) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(b, length, 4, generator=generator)
    return Embedding(vectors=tokens.mean(1), tokens=tokens, mask=torch.ones(b, length, dtype=torch.bool))


def test_joined_and_taken_apart():
    parts = [embedding(2, 3, 0), embedding(3, 5, 1)]
    whole = join_embeddings(parts)
    assert len(whole) == 5
    assert torch.equal(whole[:2].vectors, parts[0].vectors)
    assert torch.equal(whole[:2].tokens[whole[:2].mask], parts[0].tokens.flatten(0, 1))
    assert torch.equal(whole[[2, 3, 4]].tokens, parts[1].tokens)
    assert whole.mask.sum() == 2 * 3 + 3 * 5


def test_without_tokens():
    bare = Embedding(vectors=torch.ones(1, 4))
    assert join_embeddings([embedding(2, 3, 0), bare]).tokens is None


def test_the_encoder_of_colours(color_encoder):
    encoder = color_encoder()
    assert isinstance(encoder, TextVideoEncoder)
    world = ShapeWorld(ShapeWorldConfig(num_frames=4, height=32, width=32, backgrounds=("plain",)))
    clips = [world[i] for i in range(16)]
    videos = encoder.embed_videos(torch.stack([to_tensor(clip.video) for clip in clips]))
    texts = encoder.embed_texts([clip.caption for clip in clips])
    best = encoder.score(texts, videos).argmax(dim=1)
    colors = [clip.labels.objects[0].colour for clip in clips]
    assert [colors[i] for i in best] == colors
