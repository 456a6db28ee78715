"""Views: the same over time, in the order they say, of a clip alone, and without loss where nothing is to change."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.train.views.clips import ORDERS, ViewConfig, change_colours, crop_frames, draw_view, luma, scramble_cells

PLAIN = {"crop": 1.0, "colour": 0.0, "gray": 0.0}


def clips(count: int = 3, frames: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, frames, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def draw(video: torch.Tensor, seed: int = 0, **settings) -> torch.Tensor:
    return draw_view(ViewConfig(**settings), video, torch.Generator().manual_seed(seed))


def times_of(view: torch.Tensor, video: torch.Tensor) -> list[int]:
    """Return which frames of a clip a plain view of it has."""
    return [int((video - frame[:, None]).abs().amax((0, 2, 3)).argmin()) for frame in view.unbind(1)]


def test_a_plain_view_is_the_clip():
    assert torch.equal(draw(clips(), **PLAIN), clips())


def test_all_frames_are_changed_alike():
    still = clips(frames=1).expand(-1, -1, 6, -1, -1)
    view = draw(still, flip=0.5, scramble=0.5)
    assert torch.equal(view, view[:, :, :1].expand_as(view)) and not torch.equal(view, still)


def test_crops_of_one_image_are_runs_of_frames():
    video = clips()
    view = draw(video, **PLAIN | {"crop": 0.3}, frames=4, order="repeated", crops=2)
    first, second = view[:, :, :2], view[:, :, 2:]
    assert torch.equal(first[:, :, 0], first[:, :, 1]) and torch.equal(second[:, :, 0], second[:, :, 1])
    assert all(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
    ramp = torch.linspace(-1.0, 1.0, 16).expand(3, 3, 8, 16, -1)  # any crop of it is a ramp, less steep
    steps = draw(ramp, **PLAIN | {"crop": 0.3}, frames=4, order="repeated", crops=2)[..., 4:12].diff(dim=-1)
    widths = steps.mean((1, 3, 4)) / (2 / 15)
    assert (
        torch.allclose(steps, steps[..., :1].expand_as(steps), atol=1e-5) and len(set(widths[:, [0, 2]].flatten())) > 4
    )
    assert widths.min() > 0.3**0.5 * 0.75 and widths.max() <= 1.0 + 1e-5
    whole = draw(video, **PLAIN, frames=4, order="repeated", crops=2)
    assert [len(set(times_of(x, y))) for x, y in zip(whole, video, strict=True)] == [1, 1, 1]
    with pytest.raises(VidgenError, match="not to be parted into 3 crops"):
        draw(video, frames=4, crops=3)


def test_a_clip_has_its_own_draws_whatever_is_beside_it():
    video = clips()
    views = draw(video)
    assert torch.equal(draw(video[:2]), views[:2])
    same = draw(video[:1].expand(2, -1, -1, -1, -1))
    assert not torch.equal(same[0], same[1])


@pytest.mark.parametrize("order", ORDERS)
def test_orders_are_what_they_are_called(order):
    video = clips(8)
    views = draw(video, order=order, **PLAIN)
    times = [times_of(view, clip) for view, clip in zip(views, video, strict=True)]
    rising = list(range(8))
    if order == "repeated":
        assert all(len(set(row)) == 1 for row in times) and len({row[0] for row in times}) > 1
        return
    assert all(sorted(row) == rising for row in times)
    assert [row == rising for row in times] == [order == "kept"] * 8
    if order == "reversed":
        assert all(row == rising[::-1] for row in times)
    if order == "broken":  # pairs stay together
        assert all(row[i + 1] == row[i] + 1 for row in times for i in range(0, 8, 2))


def test_segments_and_tempos():
    video = clips(40)
    views = draw(video, frames=3, stride=1, max_stride=3, **PLAIN)
    times = [times_of(view, clip) for view, clip in zip(views, video, strict=True)]
    steps = [(row[1] - row[0], row[2] - row[1]) for row in times]
    assert {a for a, _ in steps} == {1, 2, 3} and all(a == b for a, b in steps)
    assert {row[0] for row in times} >= {0, 1, 2} and max(row[2] for row in times) == 7
    assert draw(video[:1], stride=2, **PLAIN).shape[2] == 4
    with pytest.raises(VidgenError, match="is longer than a clip of 8"):
        draw(video, frames=5, stride=2)
    with pytest.raises(VidgenError, match="max_stride 1 is below stride 2"):
        ViewConfig(stride=2, max_stride=1)


def test_a_crop_shows_its_part():
    frames = torch.arange(16.0)[:, None].expand(1, 3, 16, 16) / 16
    top, bottom = (crop_frames(frames, 0.25, 0.0, y, 0.5) for y in (0.0, 1.0))
    assert top.shape == frames.shape
    assert top.mean().item() == pytest.approx(3.5 / 16, abs=0.01) and bottom.mean().item() == pytest.approx(
        11.5 / 16, abs=0.01
    )
    assert crop_frames(frames, 1.0, 0.0, 0.5, 0.5) is frames


def test_colours_change_and_gray_has_none():
    frames = clips(1)[0].transpose(0, 1)
    assert torch.allclose(change_colours(frames, [0.0, 0.0, 0.0]), frames, atol=1e-6)
    assert torch.allclose(change_colours(frames, [0.5, 0.0, 0.0]), 1.5 * (frames + 1) - 1, atol=1e-5)
    assert torch.allclose(change_colours(frames, [0.0, 0.0, -1.0]), luma(frames + 1).expand_as(frames) - 1, atol=1e-5)
    view = draw(clips(), gray=1.0)
    assert torch.allclose(view[:, 0], view[:, 1], atol=1e-6)


def test_scrambled_cells_are_the_same_cells_elsewhere():
    frames = clips(1)[0].transpose(0, 1)
    moved = scramble_cells(frames, 1.0, torch.Generator().manual_seed(0))
    cells = [x.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).flatten(2, 3)[0, 0] for x in (frames, moved)]
    assert not torch.equal(*cells)
    assert torch.equal(*(x[x[:, 0].argsort()] for x in cells))
    assert torch.equal(scramble_cells(frames, 0.0, torch.Generator()), frames)
