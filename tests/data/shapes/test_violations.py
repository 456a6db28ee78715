"""Violations: what is seen is the same on both sides, frame by frame; the impossible differs in its order only."""

import numpy as np
import pytest

from vidgen.data.shapes import ShapeWorldConfig
from vidgen.data.shapes.scenes import VIOLATIONS, draw_quartet

CROSSED = [name for name in VIOLATIONS if name != "passes through"]
CONFIG = ShapeWorldConfig(height=48, width=80, num_frames=13)


def pictures(clips):
    """The set of pictures at each frame."""
    return [sorted(clip[t].tobytes() for clip in clips) for t in range(len(clips[0]))]


@pytest.mark.parametrize("in_view", [False, True])
@pytest.mark.parametrize("name", CROSSED)
def test_both_sides_show_the_same_pictures_in_every_frame(name, in_view):
    for index in range(3):
        quartet = draw_quartet(name, index, CONFIG, in_view=in_view)
        (a, b), (ab, ba), cut = quartet.possible, quartet.impossible, quartet.cut
        assert a.shape == (13, 48, 80, 3) and a.dtype == np.uint8
        assert pictures(quartet.possible) == pictures(quartet.impossible)
        assert np.array_equal(ab[:cut], a[:cut]) and np.array_equal(ab[cut:], b[cut:])
        assert np.array_equal(ba[:cut], b[:cut]) and np.array_equal(ba[cut:], a[cut:])
        if name == "nothing":
            assert np.array_equal(a, b) and np.array_equal(a, ab)
        else:
            assert not np.array_equal(a[0], b[0]) and not np.array_equal(a[-1], b[-1])
        # behind the screen nothing is seen to happen; in view it is
        hidden = all(np.array_equal(a[t], b[t]) for t in (cut - 1, cut))
        assert hidden == (not in_view or name == "nothing")
        if hidden:  # so the steps from frame to frame are the same too, and cannot tell the sides apart
            steps = [[np.diff(clip.astype(int), axis=0) for clip in pair] for pair in (quartet.possible, (ab, ba))]
            assert pictures(steps[0]) == pictures(steps[1])


def test_what_passes_through_a_block_and_what_turns_back_at_nothing():
    for index in range(4):
        quartet = draw_quartet("passes through", index, CONFIG)
        (blocked, free), (through, turned) = quartet.possible, quartet.impossible
        cut = quartet.cut
        for a, b in ((blocked, through), (free, turned)):  # up to the cut they are the same
            assert np.array_equal(a[:cut], b[:cut]) and not np.array_equal(a[cut + 1 :], b[cut + 1 :])
        assert np.array_equal(blocked[-1][:2], through[-1][:2])
        still = np.abs(turned.astype(int) - turned[0]).sum(axis=(1, 2, 3))
        assert still[-1] == 0 and still.argmax() in range(2, 8)  # it comes back to where it began
        # with and without the block: all of it is to be seen where the object turns back, and not where it goes on
        seen = [(np.abs(x.astype(int) - y) > 8).any(-1).sum((1, 2)) for x, y in ((blocked, turned), (through, free))]
        assert np.ptp(seen[0]) == 0 and seen[1][0] == seen[0][0] > seen[1].min()


def test_quartets_are_functions_of_name_index_and_seed():
    one = draw_quartet("vanishes", 3, CONFIG)
    assert all(map(np.array_equal, one.possible, draw_quartet("vanishes", 3, CONFIG).possible))
    assert not np.array_equal(one.possible[0], draw_quartet("vanishes", 4, CONFIG).possible[0])
    other = ShapeWorldConfig(height=48, width=80, num_frames=13, seed=1)
    assert not np.array_equal(one.possible[0], draw_quartet("vanishes", 3, other).possible[0])
    # nothing but the screen
    bare = one.possible[1]
    assert all(np.array_equal(bare[0], frame) for frame in bare)
    with pytest.raises(ValueError, match="violation 'melts' is unknown; choose one of vanishes"):
        draw_quartet("melts", 0)
    with pytest.raises(ValueError, match="needs 9 frames, got 5"):
        draw_quartet("vanishes", 0, ShapeWorldConfig(num_frames=5))
