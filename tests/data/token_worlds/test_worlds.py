"""Worlds of known law: probabilities of all clips add up to 1, splits share no sprite, and floors are not undercut."""

import gzip
import math
from itertools import pairwise

import numpy as np
import pytest

from vidgen.data.token_worlds.pictures import LEVELS, PictureWorld, intensity_nats
from vidgen.data.token_worlds.procedures import ProcedureWorld
from vidgen.data.token_worlds.registry import TOKEN_WORLDS
from vidgen.data.token_worlds.sprites import CoinWorld, TorusWorld
from vidgen.errors import VidgenError


@pytest.mark.parametrize(
    "world",
    [
        TorusWorld(frames=2, side=5, sprite=2),
        CoinWorld(frames=5, side=5, sprite=2),
        CoinWorld(frames=3, side=5, sprite=2),
    ],
)
def test_the_probabilities_of_all_clips_add_up_to_one(world):
    """Those of training clips by the law of training, those of held-out ones to their share of the law of all."""
    for split, total in (("train", 1.0), ("held_out", len(world.members("held_out")) / len(world.sprites))):
        clips = {}
        for number in range(9000):
            clip = world.draw(number, split)
            clips[clip.tokens.tobytes()] = math.exp(-clip.nats)
        assert sum(clips.values()) == pytest.approx(total, abs=2e-3)


def test_procedures_follow_their_graph_and_are_all_there():
    world = ProcedureWorld(steps=4, labels=5, branches=2)
    every = {tuple(world.procedure(number)) for number in range(world.count)}
    assert len(every) == world.count == 40
    assert all(after in world.followers[before] for steps in every for before, after in pairwise(steps))
    assert all(label not in world.followers[label] for label in range(5))
    splits = {name: {tuple(world.draw(i, name).tokens.flat) for i in range(400)} for name in ("train", "held_out")}
    assert splits["train"] | splits["held_out"] == every and not splits["train"] & splits["held_out"]
    assert world.draw(0, "train").nats == pytest.approx(math.log(30))
    assert world.draw(0, "held_out").nats == pytest.approx(math.log(40))
    for split in ("train", "held_out"):  # what is held out are ways through the graph, no part of it
        steps = np.stack([ProcedureWorld().draw(number, split).tokens.ravel() for number in range(1000)])
        edges = {pair for row in steps.tolist() for pair in pairwise(row)}
        assert set(steps[:, 0]) == set(range(8)) and len(edges) == 16
    with pytest.raises(VidgenError, match="give 2 steps or more, fewer branches than labels"):
        ProcedureWorld(branches=8)


@pytest.mark.parametrize("name", sorted(TOKEN_WORLDS))
def test_a_clip_is_a_function_of_its_number_and_split(name):
    world = TOKEN_WORLDS[name]()
    one, same, other = world.draw(3, "train"), TOKEN_WORLDS[name]().draw(3, "train"), world.draw(3, "held_out")
    assert np.array_equal(one.tokens, same.tokens) and one.nats == same.nats
    assert not np.array_equal(one.tokens, other.tokens)
    assert one.tokens.shape == world.grid and 0 <= one.tokens.min() and one.tokens.max() < world.codebook_size


def test_splits_have_no_sprite_in_common():
    world = TorusWorld(side=8, sprite=2)
    sprites = {
        split: {world.draw_sprite(np.random.default_rng(i), split).tobytes() for i in range(99)}
        for split in ("train", "held_out")
    }
    assert sprites["train"] and sprites["held_out"] and not sprites["train"] & sprites["held_out"]


def test_the_torus_has_the_bits_of_its_choices():
    world = TorusWorld()
    assert world.draw(0, "held_out").nats == pytest.approx(math.log(len(world.sprites) * 64 * 4))
    assert world.draw(0, "train").nats == pytest.approx(math.log(0.75 * len(world.sprites) * 64 * 4))
    assert len(world.sprites) == 2**9 - 2 * 2**6 + 2**4  # without those whose first row or first column is empty


def test_a_law_that_knows_all_reaches_the_floor_of_pictures_and_none_is_below():
    world = PictureWorld()
    clip = world.draw(0, "held_out")
    certain = np.log(np.eye(LEVELS)[clip.tokens].clip(1e-300))
    assert world.nats(certain, clip.tokens) == pytest.approx(clip.nats)
    rng = np.random.default_rng(0)
    for _ in range(5):
        law = rng.dirichlet(np.ones(LEVELS), size=world.grid)
        assert world.nats(np.log(law), clip.tokens) > clip.nats
    halves = np.full(world.grid, 0.5)
    assert intensity_nats(halves, clip.tokens / 16, 3) == pytest.approx(3 * 144 * math.log(2))


def test_pictures_are_read_from_a_file_of_mnists_format(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (10, 28, 28), dtype=np.uint8)
    images[0], images[1] = 255, 0
    whole = np.array([0x803, 10, 28, 28], ">u4").tobytes() + images.tobytes()
    (tmp_path / "a.idx3-ubyte").write_bytes(whole)
    (tmp_path / "b.gz").write_bytes(gzip.compress(whole))
    for name in ("a.idx3-ubyte", "b.gz"):
        world = PictureWorld(pictures=str(tmp_path / name))
        assert world.images.shape == (10, 8, 8) and (world.images[0] == 16).all() and (world.images[1] == 0).all()
    (tmp_path / "cut").write_bytes(whole[:-1])
    (tmp_path / "cut.gz").write_bytes(gzip.compress(whole)[:-20])
    for name in ("cut", "cut.gz", "none"):
        with pytest.raises(VidgenError, match="MNIST's format"):
            _ = PictureWorld(pictures=str(tmp_path / name)).images


def test_sprites_that_are_too_large_are_refused():
    with pytest.raises(VidgenError, match="give 2 to 4 cells"):
        TorusWorld(sprite=3, side=6)


@pytest.mark.parametrize("settings", [{"side": 10}, {"context": 1}, {"frames": 3, "context": 3}])
def test_pictures_without_room_or_without_a_past_are_one_line(settings):
    with pytest.raises(VidgenError, match="give a side of 11 or more, for steps of two cells, and a context of 2"):
        PictureWorld(**settings)


def test_pictures_in_the_least_room_stay_inside_and_keep_their_speed():
    world = PictureWorld(side=11, frames=8, context=2)
    for number in range(40):
        clip = world.draw(number, "train").tokens
        assert len({frame.sum() for frame in clip}) == 1  # nothing of the picture leaves


def test_no_two_cells_tell_that_a_sprite_is_held_out():
    world = TorusWorld(sprite=4, side=9)
    cells = world.sprites.reshape(len(world.sprites), -1)
    held_out = world.sprites[world.members("held_out")].reshape(-1, 16)
    both, both_held_out = (x.T.astype(float) @ x / len(x) for x in (cells, held_out))
    assert np.abs(both - both_held_out).max() < 0.02  # of 14,464 sprites four standard deviations
