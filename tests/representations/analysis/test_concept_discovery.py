"""Concepts: groups that were put there are found, and what the result is read from matters alone."""

import numpy as np
import pytest
import torch
from torch import nn

from vidgen.errors import VidgenError
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.representations.analysis.concept_discovery import (
    Concepts,
    discover_concepts,
    hiding,
    rank_concepts,
)

GROUPS, SHAPE = 3, (2, 3, 4)


def planted(clips=5, seed=0):
    """Tokens of three far centers with little noise, and which is whose."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(GROUPS, size=(clips, *SHAPE))
    centers = 10 * rng.normal(size=(GROUPS, 6))
    return truth, centers[truth] + 0.1 * rng.normal(size=(*truth.shape, 6))


def test_planted_groups_are_found():
    truth, features = planted()
    found = discover_concepts(features, tubelets=GROUPS, concepts=GROUPS)
    pairs = {(int(a), int(b)) for a, b in zip(truth.ravel(), found.assignments.ravel(), strict=True)}
    assert len(pairs) == GROUPS and len({b for _, b in pairs}) == GROUPS
    assert found.shares().sum() == pytest.approx(1.0)
    names = dict(pairs)
    on_first = found.share_of((truth == 0).astype(float))
    assert on_first[names[0]] == 1.0 and on_first[names[1]] == 0.0
    assert np.allclose(found.mean, features.mean(axis=(0, 1, 2, 3)))


def test_more_tubelets_than_groups_still_make_the_same_concepts():
    truth, features = planted(seed=1)
    found = discover_concepts(features, tubelets=6, concepts=GROUPS)
    assert len({(int(a), int(b)) for a, b in zip(truth.ravel(), found.assignments.ravel(), strict=True)}) == GROUPS


class Reader(nn.Module):
    """Two layers that change nothing; the result is the sum of the tokens at some places."""

    def __init__(self, tokens, read):
        super().__init__()
        self.layers = nn.ModuleDict({"first": nn.Identity(), "second": nn.Identity()})
        self.tokens, self.read = tokens, read

    def forward(self, video):
        rows = video[:, 0, 0, 0, 0].long()  # clips are called by their number
        x = self.layers["second"](self.layers["first"](self.tokens[rows]))
        return (x * self.read[rows][..., None]).sum(dim=1)


def test_what_is_read_matters_and_nothing_else_does():
    truth, features = planted(clips=6, seed=2)
    tokens = torch.from_numpy(features).flatten(1, 3)
    read = torch.from_numpy(truth == 1).flatten(1).double()
    model = Reader(tokens, read)
    video = torch.arange(6.0)[:, None, None, None, None].expand(6, 3, 2, 2, 2)
    concepts = {
        "first": Concepts(assignments=truth, mean=features.mean(axis=(0, 1, 2, 3)), count=GROUPS),
        "second": Concepts(assignments=truth, mean=np.zeros(6), count=GROUPS),
    }
    ranked = rank_concepts(model, model.layers, video, {"first": concepts["first"]}, draws=40, batch_size=4)
    assert [one.concept for one in ranked][0] == 1 and ranked[0].importance > 0.05
    assert all(abs(one.importance) < 1e-9 for one in ranked[1:])
    both = rank_concepts(model, model.layers, video, concepts, draws=80)
    assert {(one.layer, one.concept) for one in both[:2]} == {("first", 1), ("second", 1)}
    again = rank_concepts(model, model.layers, video, concepts, draws=80)
    assert [one.importance for one in both] == [one.importance for one in again]
    assert not model.layers["first"]._forward_hooks  # nothing is left behind


def test_tokens_of_an_encoder_of_clips_are_hidden():
    torch.manual_seed(0)
    encoder = VideoViT(VideoViTConfig(patch=(2, 8, 8), width=32, depth=2, head_dim=16, clip=(4, 16, 16))).eval()
    video = torch.randn(2, 3, 4, 16, 16)
    maps = dict(encoder.iter_features(video))
    layer = "blocks.1"
    hidden = torch.zeros(2, 8, dtype=torch.bool)
    hidden[0, 3] = True
    with torch.no_grad(), hiding(encoder.block_modules, {layer: hidden}, {layer: torch.full((32,), 7.0)}):
        changed = dict(encoder.iter_features(video))[layer].flatten(2).transpose(1, 2)
    plain = maps[layer].flatten(2).transpose(1, 2)
    assert torch.allclose(changed[~hidden], plain[~hidden], atol=1e-5) and torch.all(changed[hidden] == 7.0)
    with pytest.raises(VidgenError, match="not all tokens of clips"), torch.no_grad():
        with hiding(encoder.block_modules, {layer: hidden[:, :5]}, {layer: torch.zeros(32)}):
            list(encoder.iter_features(video))


def test_too_many_groups_are_refused():
    _, features = planted(clips=1)
    with pytest.raises(ValueError, match="ask for fewer"):
        discover_concepts(features, tubelets=25)
    with pytest.raises(ValueError, match="ask for fewer"):
        discover_concepts(features, tubelets=2, concepts=3)
    with pytest.raises(ValueError, match="2 draws do not tell 2 concepts"):
        rank_concepts(None, {}, torch.zeros(1), {"x": Concepts(assignments=features, mean=features, count=2)}, draws=2)
