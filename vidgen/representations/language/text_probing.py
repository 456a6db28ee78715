"""What vectors of sentences know: small tasks over captions of the synthetic world, by layer and by pooling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig, describe
from vidgen.data.shapes.changed_captions import change_caption
from vidgen.data.shapes.labels import ClipLabels
from vidgen.data.shapes.scenes.counterfactuals import COUNTERFACTUALS, CounterfactualWorld
from vidgen.interfaces import LayeredTextEncoder
from vidgen.models.text.pooling import POOLINGS
from vidgen.models.text.sentence_encoder import SentenceEncoder
from vidgen.representations.probes.registry import PROBES
from vidgen.representations.probes.selection import ProbeScore, choose_and_score
from vidgen.representations.probes.task import ProbeTask

LAST = "last"  # the layer of encoders that show no others
BATCH = 128
SPLITS = ("train", "held_out")
# Pairs of captions of the same words in another order: which of the two it is, no bag of words tells.
EXCHANGES = tuple(name for name, kind in COUNTERFACTUALS.items() if kind.same_words)


@dataclass(frozen=True, kw_only=True)
class TextTask:
    """Sentences with a word of each, in the world's two splits; `chance` is what one answer for all would reach."""

    name: str
    sentences: tuple[str, ...]
    labels: tuple[str, ...]
    trained: int

    def as_probe_task(self) -> ProbeTask:
        """Return the task that a probe learns; two sentences in a row, which may be a pair, stay on one side of it."""
        rows = np.arange(len(self.sentences))
        return ProbeTask(
            name=self.name, y=np.array(self.labels, dtype=object), ids=self.sentences, groups=rows // 2,
            train=rows[: self.trained], validation=None, test=rows[self.trained :],
        )  # fmt: skip

    @property
    def chance(self) -> float:
        """The share of the most frequent word."""
        held_out = self.labels[self.trained :]
        return max(held_out.count(word) for word in set(held_out)) / len(held_out)


def first_in_alphabet(labels: ClipLabels, kind: str) -> str:
    """Return whether what comes first in the alphabet goes together, so that neither sentence of a pair is the usual
    one: of events the colours in time, else the two objects' colours with their motions or shapes."""
    one, other = labels.objects
    if kind == "order":
        return str(one.colour < other.colour)
    words = [(thing.shape if kind == "binding" else thing.motion) for thing in (one, other)]
    if len(set(words)) == 1:
        words = [thing.shape for thing in (one, other)]
    return str((one.colour < other.colour) == (words[0] < words[1]))


def draw_word_task(kind: str, count: int, split: str) -> Iterator[tuple[str, str]]:
    """Yield captions of one object, in all wordings, with one of its words."""
    world = ShapeWorld(ShapeWorldConfig(split=split))
    for index in range(count):
        caption, labels = world.sample_prompt(index)
        yield caption, getattr(labels.objects[0], kind)


def draw_length_task(count: int, split: str) -> Iterator[tuple[str, str]]:
    """Yield captions of one or two objects with the number of their words, in steps of three."""
    world = ShapeWorld(ShapeWorldConfig(split=split, max_objects=2))
    for index in range(count):
        caption, _ = world.sample_prompt(index)
        yield caption, str(len(caption.split()) // 3)


def draw_exchange_task(kind: str, count: int, split: str) -> Iterator[tuple[str, str]]:
    """Yield both captions of pairs of the same words."""
    world = CounterfactualWorld(kind, ShapeWorldConfig(split=split))
    for index in range(count // 2):
        captions, labels = world.sample_prompts(index)
        for caption, one in zip(captions, labels, strict=True):
            yield caption, first_in_alphabet(one, kind)


def draw_shift_task(count: int, split: str) -> Iterator[tuple[str, str]]:
    """Yield captions of which every second has two neighboring words exchanged (Conneau et al. 2018, BShift)."""
    world = ShapeWorld(ShapeWorldConfig(split=split, max_objects=2))
    rng = np.random.default_rng(SPLITS.index(split))
    for index in range(count):
        words = world.sample_prompt(index)[0].split()
        if index % 2:
            place = int(rng.integers(len(words) - 1))
            words[place : place + 2] = words[place + 1], words[place]
        yield " ".join(words), str(index % 2 == 1)


TEXT_TASKS: dict[str, Callable[[int, str], Iterator[tuple[str, str]]]] = {
    **{kind: partial(draw_word_task, kind) for kind in ("colour", "shape", "motion")},
    "length": draw_length_task,
    "shift": draw_shift_task,
    **{kind: partial(draw_exchange_task, kind) for kind in EXCHANGES},
}


def make_text_task(name: str, train: int, held_out: int) -> TextTask:
    """Return a task of `TEXT_TASKS` with so many sentences of both splits."""
    rows = [list(TEXT_TASKS[name](count, split)) for count, split in zip((train, held_out), SPLITS, strict=True)]
    sentences, labels = zip(*rows[0], *rows[1], strict=True)
    return TextTask(name=name, sentences=sentences, labels=labels, trained=len(rows[0]))


@torch.no_grad()
def embed_layers(
    encoder: SentenceEncoder, sentences: Sequence[str], poolings: Sequence[str], *, last_layer: bool = False
) -> dict[tuple[str, str], np.ndarray]:
    """Return the vectors (n, d) of sentences by layer and pooling, of one pass; the layers are "0" (after the
    embeddings) to the last block's, or "last" alone where no others are asked for or shown."""
    parts: dict[tuple[str, str], list[np.ndarray]] = {}
    body = encoder.encoder
    layered = isinstance(body, LayeredTextEncoder) and not last_layer
    for start in range(0, len(sentences), BATCH):
        texts = [encoder.prompt + sentence for sentence in sentences[start : start + BATCH]]
        states = {str(i): x for i, x in enumerate(body.encode_layers(texts))} if layered else {LAST: body(texts)}
        for (layer, text), pooling in product(states.items(), poolings):
            rows = POOLINGS[pooling](text.tokens, text.mask)
            parts.setdefault((layer, pooling), []).append(rows.float().cpu().numpy())
    return {key: np.concatenate(rows) for key, rows in parts.items()}


def probe_texts(
    encoder: SentenceEncoder,
    task: TextTask,
    poolings: Sequence[str],
    *,
    probe: str = "linear",
    last_layer: bool = False,
    seed: int = 0,
) -> dict[tuple[str, str], ProbeScore]:
    """Return how well a probe tells a task's words from vectors of sentences, by layer and pooling."""
    probe_task = task.as_probe_task()
    vectors = embed_layers(encoder, task.sentences, poolings, last_layer=last_layer)
    return {key: choose_and_score(PROBES[probe], X, probe_task, seed=seed) for key, X in vectors.items()}


@torch.no_grad()
def tell_changes(encoder: SentenceEncoder, count: int, *, seed: int = 0) -> np.ndarray:
    """Return of `count` held-out clips whether another wording of a caption is nearer to it, by the cosine of the
    encoder's own vectors, than a caption with one thing changed. Chance is a half."""
    world, rng = ShapeWorld(ShapeWorldConfig(split="held_out", max_objects=2)), np.random.default_rng(seed)
    rows = []
    for index in range(count):
        labels = world.sample_labels(index)
        caption = describe(labels, rng)
        wordings = [text for text in (describe(labels, rng) for _ in range(20)) if text != caption]
        rows.append((caption, wordings[0], change_caption(labels, rng)))
    own, other, changed = (F.normalize(encoder.embed(texts), dim=-1) for texts in zip(*rows, strict=True))
    return ((own * other).sum(-1) > (own * changed).sum(-1)).cpu().numpy()
