"""Features in which each object is plain are grounded in text exactly; without text one of two is a coin's toss."""

import dataclasses
from itertools import permutations

import numpy as np
import pytest
import torch

from vidgen.data.shapes import COLOURS, SHAPES, ShapeWorld, ShapeWorldConfig
from vidgen.errors import VidgenError
from vidgen.models.text.encoders import TextEncoding
from vidgen.representations.dense import dense_rows
from vidgen.representations.dense.grids import FeatureMaps, Grid, inside
from vidgen.representations.dense.referring_expressions import (
    PICKED,
    ExpressionBatch,
    are_distinguishable,
    check_text,
    count_iou,
    count_wrong_iou,
    express,
    referring_expression_rows,
)
from vidgen.representations.dense.scenes import Scenes
from vidgen.representations.dense.tracked_labels import masks_to_cells

GRID = Grid(frames=(0, 2, 4), shape=(8, 8), stride=(8, 8), size=(64, 64))
WORLD = ShapeWorld(ShapeWorldConfig(num_frames=5, max_objects=2))
PALETTE = list(permutations(("red", "green", "blue"), 2))
PARTS = {"train": (0, 24), "validation": (24, 32), "test": (32, 48)}
TAP, TWIN = "dit.blocks.0@t=0.10", "random.dit.blocks.0@t=0.10"


def recolour(labels, colours):
    """So that few clips show every pair of colours."""
    things = tuple(dataclasses.replace(thing, colour=c) for thing, c in zip(labels.objects, colours, strict=True))
    return dataclasses.replace(labels, objects=things)


DRAWN = [labels for labels in map(WORLD.sample_labels, range(160)) if are_distinguishable(labels)][:48]
PAIRS = [recolour(labels, PALETTE[i % len(PALETTE)]) for i, labels in enumerate(DRAWN)]


class OneHotText:
    """An encoder that says of a text which colour and which shape it holds, in tokens of which some are padding."""

    width = len(COLOURS) + len(SHAPES)

    def __call__(self, prompts):
        words = [*COLOURS, *SHAPES]
        pooled = torch.tensor([[float(word in prompt.split()) for word in words] for prompt in prompts])
        tokens = torch.stack([pooled, torch.full_like(pooled, 9.0)], dim=1)
        return TextEncoding(tokens=tokens, mask=torch.tensor([[True, False]] * len(prompts)))


def colours_of(labels, role_only=None):
    """(b, t, h, w, c): one-hot colours of cells that are an object's; of the told object only, where one is."""
    masks = inside(masks_to_cells(labels, GRID)[..., 1:].numpy())
    maps = torch.zeros(*masks.shape[:4], len(COLOURS))
    for clip, each in enumerate(labels):
        for role, thing in enumerate(each.objects):
            if role_only in (None, role):
                maps[clip][..., list(COLOURS).index(thing.colour)] += torch.from_numpy(masks[clip, ..., role])
    return maps


def expressions_of(prompt_shows):
    """Batches of clips whose cells show their colours, plus a twin of noise; `prompt_shows`: a prompt makes its own
    object brighter, whatever its colour."""

    def read(part):
        for start in range(*PARTS[part], 8):
            labels = PAIRS[start : start + 8]
            plain = colours_of(labels)
            noise = torch.randn(plain.shape, generator=torch.Generator().manual_seed(start))
            still = {TWIN: FeatureMaps(x=noise, grid=GRID), "raw_pixels/8x8": FeatureMaps(x=plain, grid=GRID)}
            seen = [plain, *(plain + prompt_shows * colours_of(labels, role) for role in range(2))]
            yield ExpressionBatch(maps=tuple({TAP: FeatureMaps(x=x, grid=GRID)} | still for x in seen), labels=labels)

    return read


def rows_of(prompt_shows):
    rows = referring_expression_rows(expressions_of(prompt_shows), {"": OneHotText(), "random.": OneHotText()}, 0)
    return {(row["layer"], row["told"]): row for row in rows}


def test_what_the_text_says_is_found_and_without_it_nothing_can_be():
    rows = rows_of(prompt_shows=0.0)
    for layer in ("dit.blocks.0", "raw_pixels"):
        head, none = rows[layer, "head"], rows[layer, "none"]
        assert head["test"] == pytest.approx(1) and head["picked"] == 1 and head["wrong_iou"] == 0
        assert head["kind"] == "bilinear" and none["kind"] == "linear" and none["baseline"]
        assert none["picked"] == 0.5 and none["test"] == pytest.approx(rows["exact", "none"]["test"], abs=0.06)
        assert head["ci"][0] <= head["test"] <= head["ci"][1] + 1e-9 and head["picked_ci"][0] < 1
    assert rows["dit.blocks.0", "both"]["picked"] == 1 and rows["dit.blocks.0", "prompt"]["picked"] == 0.5
    assert ("raw_pixels", "prompt") not in rows  # pixels hear no prompt
    twin = rows["random.dit.blocks.0", "both"]
    assert twin["baseline"] and twin["test"] < 0.25 and 0.2 < twin["picked"] < 0.8
    assert 0.4 < rows["exact", "none"]["test"] < 0.6 and rows["exact", "none"]["picked"] == 0.5


def test_a_denoiser_that_shows_what_its_prompt_names_needs_no_text_in_the_head():
    rows = rows_of(prompt_shows=1.0)
    assert rows["dit.blocks.0", "prompt"]["picked"] > 0.9
    assert rows["dit.blocks.0", "none"]["picked"] == 0.5


def test_the_measures_of_masks():
    truth = np.zeros((1, 1, 2, 4, 2), bool)
    truth[0, 0, 0, 0:2, 0] = truth[0, 0, 1, 2:4, 1] = True
    masks = truth.copy()
    masks[0, 0, 0, 1, 0] = False  # half of the first, all of the second
    assert count_iou(truth, masks).tolist() == [[0.75, 1]] and count_wrong_iou(truth, masks).tolist() == [[0, 1]]
    assert PICKED(PICKED.count(truth, masks)) == 1 and PICKED(PICKED.count(truth, masks[..., ::-1])) == 0
    both = np.broadcast_to(truth.any(-1, keepdims=True), truth.shape)
    assert PICKED(PICKED.count(truth, both)) == 0.5 and count_iou(truth, both)[0, 0] == 0.5
    shares = np.array([0.1, 0.3, 0.2, 0.0]).reshape(1, 1, 2, 2, 1)
    assert inside(shares)[0, 0, ..., 0].tolist() == [[False, True], [False, False]]  # the most, where none has half


def test_scenes_are_of_two_objects_that_are_distinguishable_and_parts_share_none():
    counts = {"train": 5, "validation": 3, "test": 3}
    scenes = Scenes(num_frames=2, height=16, width=16, fps=8, counts=counts, batch_size=2, keep=are_distinguishable)
    seen = {part: list(scenes.batches(part)) for part in counts}
    ids = {part: {name.split()[1] for _, names, _ in batches for name in names} for part, batches in seen.items()}
    assert {part: len(names) for part, names in ids.items()} == counts and not ids["train"] & ids["validation"]
    for _, _, labels in (batch for batches in seen.values() for batch in batches):
        assert all(len({express(thing) for thing in each.objects}) == 2 for each in labels)
    one, two = PAIRS[0].objects
    same = dataclasses.replace(two, colour=one.colour, shape=one.shape)
    assert are_distinguishable(PAIRS[0]) and not are_distinguishable(dataclasses.replace(PAIRS[0], objects=(one, same)))
    assert not are_distinguishable(dataclasses.replace(PAIRS[0], objects=(one,)))


def test_rows_of_a_model_and_again(pipeline):
    words = {"layers": ["tokenizer.latents", "dit.blocks.1"], "clips": 2, "num_frames": 5, "size": 32}
    rows = dense_rows(pipeline, ["expressions"], **words)
    again = dense_rows(pipeline, ["expressions"], **words | {"layers": ["dit.blocks.1"]})
    assert all(row in rows for row in again if row["layer"].endswith("dit.blocks.1"))
    rows_there = {(row["layer"], row["told"]) for row in rows}
    assert {("dit.blocks.1", name) for name in ("both", "head", "prompt", "none")} <= rows_there
    assert {("random.dit.blocks.1", "both"), ("tokenizer.latents", "head"), ("raw_pixels", "none")} <= rows_there
    assert ("tokenizer.latents", "both") not in rows_there
    assert all(row["clips"] == 2 and row["ci"][0] <= row["test"] <= row["ci"][1] for row in rows)


def test_a_model_without_a_denoiser_is_refused(pipeline):
    with pytest.raises(VidgenError, match="'expressions' needs a text-to-video denoiser, and VideoTokenizer has none"):
        dense_rows(pipeline.vae, ["expressions"], clips=2)
    check_text(pipeline)
