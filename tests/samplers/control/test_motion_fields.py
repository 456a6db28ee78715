"""Fields move what they say: whole cells exactly, a box and nothing else, and pixels as cells of latents."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.warping import warp
from vidgen.samplers.control.motion_fields import box_field, box_masks, resize_field, translation_field

SHIFTS = torch.tensor([[0.0, 0.0], [2.0, 0.0], [3.0, -1.0]])


def test_a_translation_moves_by_whole_cells_exactly():
    image = torch.rand(1, 3, 8, 10)
    moved = warp(image, translation_field(SHIFTS, 8, 10))[0]
    assert torch.equal(moved[:, 0], image[0])
    assert torch.equal(moved[:, 1, :, 2:], image[0, :, :, :-2])
    assert torch.equal(moved[:, 2, :-1, 3:], image[0, :, 1:, :-3])


def test_a_box_moves_and_all_else_rests():
    field = box_field(SHIFTS, (1, 2, 4, 5), 8, 10)
    masks = box_masks(SHIFTS, (1, 2, 4, 5), 8, 10)
    assert masks.sum((1, 2)).tolist() == [9, 9, 9]
    assert torch.equal(masks[2].nonzero().amin(0), torch.tensor([1, 4]))
    assert torch.equal(field[0, :, 2][:, masks[2]].unique(dim=1)[:, 0], torch.tensor([-3.0, 1.0]))
    assert not field[0].movedim(0, -1)[~masks].any()


def test_latents_have_the_mean_motion_of_their_pixels():
    # 1 + 4 frames of 16 pixels a side, in latents of 4 frames and 8 pixels: 8 pixels are one cell.
    steps = torch.stack([torch.arange(5.0) * 8.0, torch.zeros(5)], dim=1)
    field = resize_field(translation_field(steps, 16, 16), 4, 8)
    assert field.shape == (1, 2, 2, 2, 2)
    assert not field[:, :, 0].any() and torch.equal(field[0, 0, 1], torch.full((2, 2), -2.5))
    with pytest.raises(VidgenError, match="multiples of 8"):
        resize_field(translation_field(steps, 12, 16), 4, 8)


def test_a_last_latent_frame_that_is_not_full_counts_its_last_frame_again():
    steps = torch.stack([torch.arange(3.0) * 8.0, torch.zeros(3)], dim=1)
    assert resize_field(translation_field(steps, 8, 8), 4, 8)[0, 0, 1].item() == -(1 + 2 + 2 + 2) / 4
