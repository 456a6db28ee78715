"""Small tasks over captions: a bag of words knows words and no order, by construction; layers are the encoder's."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from vidgen.interfaces import LayeredTextEncoder
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder, TextEncoding
from vidgen.models.text.sentence_encoder import SentenceEncoder
from vidgen.representations.language.text_probing import (
    EXCHANGES,
    TEXT_TASKS,
    embed_layers,
    make_text_task,
    probe_texts,
    tell_changes,
)

WIDTH = 127  # channels that words are hashed to


class WordEncoder:
    """One token a word, of a channel for each."""

    width = WIDTH

    def __call__(self, prompts: Sequence[str]) -> TextEncoding:
        rows = [[word.strip(",") for word in prompt.split() if word not in ("a", "an")] for prompt in prompts]
        tokens = torch.zeros(len(rows), max(map(len, rows)), self.width)
        mask = torch.zeros(tokens.shape[:2], dtype=torch.bool)
        for i, words in enumerate(rows):
            for place, word in enumerate(words):
                channel = sum(ord(letter) * 31**k for k, letter in enumerate(word)) % WIDTH
                tokens[i, place, channel] = 1.0
                mask[i, place] = True
        return TextEncoding(tokens=tokens, mask=mask)


def accuracy(encoder, name: str, train: int = 200, held_out: int = 100) -> float:
    task = make_text_task(name, train, held_out)
    scores = probe_texts(SentenceEncoder(encoder), task, ["mean"], probe="ridge")
    (score,) = scores.values()
    return score.test


@pytest.mark.parametrize("name", EXCHANGES)
def test_a_bag_of_words_is_right_of_one_of_two(name):
    task = make_text_task(name, 40, 40)
    for one, other in zip(task.sentences[::2], task.sentences[1::2], strict=True):
        bags = [sorted(w.strip(",") for w in text.split() if w not in ("a", "an")) for text in (one, other)]
        assert one != other and bags[0] == bags[1]
    assert all(a != b for a, b in zip(task.labels[::2], task.labels[1::2], strict=True))
    assert accuracy(WordEncoder(), name, 40, 40) == 0.5


def test_words_and_their_number_are_read_where_they_are():
    assert accuracy(WordEncoder(), "colour") > 0.95
    assert accuracy(WordEncoder(), "length") > make_text_task("length", 200, 100).chance + 0.2  # channels of 1 / n


@pytest.mark.parametrize("name", TEXT_TASKS)
def test_splits_share_no_clip_and_sentences_are_the_same_every_time(name):
    task, again = make_text_task(name, 10, 20), make_text_task(name, 10, 20)
    assert task == again and len(task.sentences) == 30 == len(task.labels)
    assert 0 < task.chance < 1 and len(task.as_probe_task().test) == 20


def test_layers_are_the_encoders():
    torch.manual_seed(0)
    body = ByteTextEncoder(ByteTextConfig(width=16, depth=2, head_dim=8)).eval()
    assert isinstance(body, LayeredTextEncoder)
    texts = ["a red circle", "a star", "the blue square moves left"]
    vectors = embed_layers(SentenceEncoder(body), texts, ["mean", "last"])
    assert list(vectors) == [(str(i), pooling) for i in range(3) for pooling in ("mean", "last")]
    with torch.no_grad():
        states = body.encode_layers(texts)
    np.testing.assert_allclose(vectors["1", "mean"], states[1].pooled().numpy(), atol=1e-6)
    last = embed_layers(SentenceEncoder(body), texts, ["mean"], last_layer=True)
    np.testing.assert_allclose(last["last", "mean"], vectors["2", "mean"], atol=1e-6)


def test_changes_are_told_by_words():
    told = tell_changes(SentenceEncoder(WordEncoder()), 200)
    assert told.shape == (200,) and told.dtype == bool and 0.3 < told.mean() < 1.0
