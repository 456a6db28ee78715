"""Retrieval where several answers are right, and classes by prompts, against enumeration and what encoders know."""

from itertools import product

import numpy as np
import pytest
import torch

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.data.shapes.synonyms import ATTRIBUTES, SYNONYMS, TRAINED, word_prompt
from vidgen.data.shapes.truth import truth_matrix
from vidgen.errors import VidgenError
from vidgen.models.text_video.embedding import Embedding
from vidgen.representations.language.alignment import (
    classify_attributes,
    score_attributes,
    score_both_ways,
    score_retrieval,
    score_synonyms,
)
from vidgen.representations.language.world_clips import embed_clips, embed_world, score_blocks, world_config


@pytest.fixture(scope="module")
def prompts():
    world = ShapeWorld(ShapeWorldConfig(split="held_out"))
    return [world.sample_prompt(i) for i in range(300)]


def test_who_scores_by_truth_alone_is_at_the_ceiling(prompts):
    truth = truth_matrix(*map(list, zip(*prompts, strict=True)))
    assert truth.sum() > 1.1 * len(truth)  # some captions are true of several clips
    for matrix in (truth, truth.T):
        result = score_retrieval(matrix.astype(float), matrix, np.eye(len(matrix), dtype=bool))
        assert all(share.mean == 1.0 for share in result.recall.values())
        assert 1 <= result.median_rank < 1.01
        for k, ceiling in result.ceiling.items():
            assert result.own[k].mean == pytest.approx(ceiling, abs=1e-12)
        assert result.ceiling[1] < result.ceiling[5] <= result.ceiling[10] <= 1.0


def test_who_knows_nothing_is_at_chance(prompts):
    truth = truth_matrix(*map(list, zip(*prompts, strict=True)))
    n, own = len(truth), np.eye(len(truth), dtype=bool)
    blind = score_retrieval(np.zeros((n, n)), truth, own)
    for k, share in blind.own.items():
        assert share.mean == pytest.approx(k / n)
    right = truth.sum(axis=1)
    assert blind.recall[1].mean == pytest.approx((right / n).mean())
    assert blind.median_rank == pytest.approx((n + 1) / (np.median(right) + 1))
    informed = score_retrieval(truth.astype(float), truth, own)
    assert informed.chance[1] < 0.03 and informed.chance[10] < 0.1


def test_hand_worked_ranks():
    scores = np.array([[0.9, 0.5, 0.1], [0.2, 0.2, 0.9], [0.3, 0.2, 0.1]])
    truth = np.array([[True, False, False], [True, True, False], [False, False, True]])
    result = score_retrieval(scores, truth, np.eye(3, dtype=bool), ks=(1, 2))
    # query 1 has two right items in the second and third places: its own is in the second with chance 1/2
    assert [result.recall[k].mean for k in (1, 2)] == pytest.approx([1 / 3, 2 / 3])
    assert [result.own[k].mean for k in (1, 2)] == pytest.approx([1 / 3, 1.5 / 3])
    assert [result.ceiling[k] for k in (1, 2)] == pytest.approx([2.5 / 3, 1])
    assert result.median_rank == 2


class Table:
    """Scores of prompts by a table of logits, whatever the clips."""

    logit_scale = torch.tensor(2.0)

    def __init__(self, logits):
        self.logits = logits

    def embed_texts(self, texts):
        return Embedding(vectors=torch.tensor([self.logits[text] for text in texts]))

    def score(self, texts, videos):
        return texts.vectors[:, : len(videos)]


def test_other_words_are_marginalized_out():
    rng = np.random.default_rng(0)
    words = {
        "colour": {"red": "red", "blue": "blue"},
        "shape": {"star": "star", "ring": "ring", "cross": "cross"},
        "motion": {"up": "rises", "down": "falls"},
    }
    prompts = [word_prompt(*row) for row in product(*(words[a].values() for a in ATTRIBUTES))]
    logits = {prompt: rng.normal(size=4).tolist() for prompt in prompts}
    classes = classify_attributes(Table(logits), Embedding(vectors=torch.zeros(4, 1)), words)
    for clip in range(4):
        for attribute in ATTRIBUTES:
            mass = {
                name: sum(np.exp(2 * logits[prompt][clip]) for prompt in prompts if word in prompt.split())
                for name, word in words[attribute].items()
            }
            assert classes[attribute][clip] == max(mass, key=mass.get)


def test_who_knows_colours_finds_them_in_trained_words_alone(color_encoder):
    encoder = color_encoder()
    clips = embed_world(encoder, world_config(encoder), 40, batch_size=16)
    scores = score_synonyms(encoder, clips.embedding, clips.labels, SYNONYMS)
    assert scores["words of captions"]["colour"].mean == 1.0
    assert scores["synonyms of it"]["shape"].mean == scores["words of captions"]["shape"].mean  # colours are no help
    assert scores["synonyms of it"]["colour"].mean < 0.35
    assert scores["synonyms of all"]["motion"].mean < 0.35
    both = score_both_ways(
        encoder, encoder.embed_texts(clips.captions), clips.embedding, truth_matrix(clips.captions, clips.labels)
    )
    colours = [labels.objects[0].colour for labels in clips.labels]
    rivals = np.array([colours.count(colour) for colour in colours])
    assert both["text to video"].own[1].mean == pytest.approx((1 / rivals).mean(), abs=0.02)
    assert both["video to text"].recall[10].mean > both["video to text"].chance[10]


def test_variants_take_turns(color_encoder):
    encoder = color_encoder()
    clips = embed_world(encoder, world_config(encoder), 12)
    half = {**TRAINED, "colour": {name: (name, f"un{name}") for name in TRAINED["colour"]}}
    known = score_attributes(encoder, clips.embedding, clips.labels)["colour"].mean
    unknown = {**TRAINED, "colour": {name: (f"un{name}",) for name in TRAINED["colour"]}}
    unknown = score_attributes(encoder, clips.embedding, clips.labels, unknown)["colour"].mean
    mixed = score_attributes(encoder, clips.embedding, clips.labels, half)["colour"].mean
    assert mixed == pytest.approx((known + unknown) / 2)


def test_clips_are_as_the_model_takes_them(color_encoder):
    encoder = color_encoder(num_frames=4, side=32)
    config = world_config(encoder)
    assert (config.num_frames, config.height, config.fps, config.split) == (17, 32, 8, "held_out")
    assert world_config(color_encoder(num_frames=13)).num_frames == 13
    video = ShapeWorld(config)[0].video
    tokens = embed_clips(encoder, [video, video[::-1]]).tokens
    assert tokens.shape[1] == 4 and torch.equal(tokens[0], tokens[1].flip(0))
    with pytest.raises(VidgenError, match="no clips of the size"):
        world_config(color_encoder(side=8))


def test_blocks_of_scores_are_the_whole(color_encoder):
    encoder = color_encoder()
    clips = embed_world(encoder, world_config(encoder), 7)
    texts = encoder.embed_texts(clips.captions[:5])
    torch.testing.assert_close(score_blocks(encoder, texts, clips.embedding, 3), encoder.score(texts, clips.embedding))


def test_pairs_have_no_one_class(color_encoder):
    encoder = color_encoder()
    clips = embed_world(encoder, world_config(encoder, max_objects=2), 8)
    with pytest.raises(ValueError, match="two objects"):
        score_attributes(encoder, clips.embedding, clips.labels)
