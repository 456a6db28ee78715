"""Masks: every ratio exactly, each kind where it says, and by the law it says."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.train.views.masks import MASKS, MaskConfig, MaskDraw, draw_mask, find_regions

GRID, PATCH = (4, 6, 6), (2, 4, 4)


def request(seed: int = 0, batch: int = 3, video: torch.Tensor | None = None) -> MaskDraw:
    if video is None:
        video = torch.rand(batch, 3, 8, 24, 24, generator=torch.Generator().manual_seed(9))
    return MaskDraw(len(video), GRID, torch.Generator().manual_seed(seed), video, PATCH)


def hidden_of(kind: str, ratio: float, draw: MaskDraw, **settings) -> torch.Tensor:
    """Return which tokens (b, t, h, w) a mask hides."""
    mask = draw_mask(MaskConfig(kind=kind, ratio=ratio, settings=settings), draw)
    gone = torch.ones(draw.batch, 144, dtype=torch.bool)
    return gone.scatter(1, mask.keep, False).reshape(-1, *GRID)


@pytest.mark.parametrize("ratio", [0.5, 0.75, 0.985])
@pytest.mark.parametrize("kind", MASKS)
def test_every_clip_has_the_ratio_and_every_token_is_seen_or_asked(kind, ratio):
    mask = draw_mask(MaskConfig(kind=kind, ratio=ratio), request())
    assert mask.asked.shape == (3, round(ratio * 144)) and mask.keep.shape == (3, 144 - round(ratio * 144))
    both = torch.cat([mask.keep, mask.asked], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(144).expand(3, -1))
    again = draw_mask(MaskConfig(kind=kind, ratio=ratio), request())
    assert torch.equal(mask.keep, again.keep)


@pytest.mark.parametrize("kind", sorted(set(MASKS) - {"future"}))
def test_clips_and_seeds_have_masks_of_their_own(kind):
    one, two = (draw_mask(MaskConfig(kind=kind, ratio=0.5), request(seed)).keep for seed in (0, 1))
    assert not torch.equal(one, two) and not torch.equal(one[0], one[1])


def test_tubes_frames_and_the_future():
    tube = hidden_of("tube", 0.5, request())
    assert (tube == tube[:, :1]).all() and tube[:, 0].sum((1, 2)).tolist() == [18] * 3
    frame = hidden_of("frame", 0.5, request())
    assert (frame.flatten(2).float().mean(2) % 1 == 0).all()
    future = hidden_of("future", 0.25, request())
    assert future[:, 3].all() and not future[:, :3].any()


def test_a_random_mask_hides_every_token_equally_often():
    gone = hidden_of("random", 0.75, request(batch=2000, video=torch.zeros(2000, 1, 8, 24, 24)))
    rates = gone.float().mean(0)
    assert (rates - 0.75).abs().max() < 4.5 * (0.75 * 0.25 / 2000) ** 0.5


def test_blocks_are_rectangles_through_all_frames():
    gone = hidden_of("block", 0.25, request(), blocks=1, scale=0.25, aspect=1.0)
    for clip in gone:
        rows, columns = clip[0].any(1).sum(), clip[0].any(0).sum()
        assert rows == columns == 3 and (clip == clip[0]).all() and clip[0].sum() == 9


def moving_clip() -> torch.Tensor:
    """A still ground with one bright patch that goes one cell to the right every latent frame, on row 2."""
    video = torch.full((1, 1, 8, 24, 24), -0.5)
    for t in range(4):
        video[:, :, 2 * t : 2 * t + 2, 8:12, 4 * t : 4 * t + 4] = 1.0
    return video.expand(500, -1, -1, -1, -1)


def test_motion_is_hidden_and_redundancy_is_not_seen():
    draw = request(video=moving_clip())
    motion, redundancy = (hidden_of(kind, 0.05, draw, floor=0.001) for kind in ("motion", "redundancy"))
    changed = torch.zeros(GRID, dtype=torch.bool)
    for t in range(1, 4):
        changed[t, 2, t - 1 : t + 1] = True
    changed[0] = changed[1]
    assert motion[:, changed].float().mean() > 0.8 and motion[:, ~changed].float().mean() < 0.01
    assert redundancy[:, changed].float().mean() < 0.001


def test_a_flow_mask_goes_where_its_patch_goes():
    gone = hidden_of("flow", 0.5, request(video=moving_clip()))
    path = torch.stack([gone[:, t, 2, t] for t in range(3)])  # at the last one it is further than is searched
    assert (path == path[0]).float().mean() > 0.98 and 0.3 < path[0].float().mean() < 0.7  # the last tube may be cut
    still = gone[:, :, 5]  # below the path nothing moves, and tubes stay
    assert (still == still[:, :1]).float().mean() > 0.95


def test_an_asymmetric_mask_shows_the_first_frame():
    gone = hidden_of("asymmetric", 0.7, request())
    assert not gone[:, 0].any() and gone[:, 1:].float().mean() > 0.9


def two_colours(columns: int, clips: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of a flat ground and a flat bar, so many patches wide, that goes a patch to the right every latent frame;
    and which tokens (t, h, w) the bar has."""
    bar = torch.stack([torch.arange(6).sub(t) % 6 < columns for t in range(4)])[:, None].expand(GRID)
    pixels = bar.repeat_interleave(2, 0).repeat_interleave(4, 1).repeat_interleave(4, 2)
    colours = torch.tensor([[-0.6, 0.2, 0.1], [0.5, -0.1, 0.3]])
    return colours[pixels.long()].permute(3, 0, 1, 2).expand(clips, -1, -1, -1, -1), bar


def test_a_region_mask_hides_one_of_two_colours_wherever_it_goes():
    video, bar = two_colours(3)
    gone = hidden_of("region", 0.5, request(video=video), regions=2, place=0.0)
    hides_bar = (gone == bar).flatten(1).all(1)
    assert (hides_bar | (gone == ~bar).flatten(1).all(1)).all()
    assert 8 < hides_bar.sum() < 32  # which one is drawn: 20 of 40 are expected, and these are 3.8 deviations off


def test_a_region_mask_hides_at_most_one_region_in_part():
    video, bar = two_colours(2)
    third = hidden_of("region", 1 / 3, request(video=video), regions=2, place=0.0)
    assert {(int(clip[bar].sum()), int(clip[~bar].sum())) for clip in third} == {(48, 0), (0, 48)}
    for ratio in (0.3, 0.7, 0.9):
        draw = request()
        regions = torch.nn.functional.one_hot(find_regions(draw, 8, 0.5), 8)
        gone = hidden_of("region", ratio, draw).flatten(1)
        hidden, sizes = (gone[..., None] * regions).sum(1), regions.sum(1)
        assert (((hidden > 0) & (hidden < sizes)).sum(1) <= 1).all() and (sizes > 0).all()
        assert (hidden.sum(1) == round(ratio * 144)).all()


def test_regions_are_places_where_colours_weigh_little():
    video, bar = two_colours(3, clips=1)
    regions = find_regions(request(video=video), 4, 100.0).reshape(GRID)
    assert (regions == regions[0]).all()  # whatever moves
    quarters = regions[0].reshape(2, 3, 2, 3).transpose(1, 2).reshape(4, 9)
    assert (quarters == quarters[:, :1]).all() and len(set(quarters[:, 0].tolist())) == 4


def test_dual_masking_asks_for_some_of_what_is_hidden():
    mask = draw_mask(MaskConfig(ratio=0.75, asked=0.5), request())
    assert mask.asked.shape == (3, 54) and mask.keep.shape == (3, 36)
    assert not set(mask.asked[0].tolist()) & set(mask.keep[0].tolist())


@pytest.mark.parametrize("ratio", [0.0, 0.001, 1.0])
def test_hiding_all_or_nothing_is_refused(ratio):
    with pytest.raises(VidgenError, match="some must be hidden and some seen"):
        draw_mask(MaskConfig(ratio=ratio), request())


def test_what_a_mask_does_not_know_is_refused():
    with pytest.raises(VidgenError, match="mask tube: settings"):
        draw_mask(MaskConfig(settings={"reach": 2}), request())
    with pytest.raises(VidgenError, match="looks at the clip, and there is none"):
        draw_mask(MaskConfig(kind="motion"), MaskDraw(1, GRID, torch.Generator()))
    with pytest.raises(VidgenError, match="kind"):
        MaskConfig(kind="stars")


@pytest.mark.parametrize("settings", [{"regions": 1}, {"regions": 145}, {"place": -1.0}, {"place": float("nan")}])
def test_regions_that_cannot_be_are_refused(settings):
    with pytest.raises(VidgenError, match="mask region: regions=.* and place=.*; give from 2 to 144 regions"):
        draw_mask(MaskConfig(kind="region", settings=settings), request())
    with pytest.raises(VidgenError, match="mask region: settings .* are not its own"):
        draw_mask(MaskConfig(kind="region", settings={"regions": "many"}), request())
