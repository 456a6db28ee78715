"""Noise that moves stays standard normal noise: its covariance is the identity in closed form, whatever the motion."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.samplers.control.motion_fields import box_field, translation_field
from vidgen.samplers.control.noise_warp import find_sources, join_cells, move_parts, split_cells, warp_noise

PARTS = 4
NONE = torch.zeros(1, 2, 3, 4, 4)


def random_field(seed=0, size=(3, 4, 4)):
    return 3.0 * torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(seed))


def transform(field, parts):
    """The matrix of a frame: its cells, linear in the first frame's cells, their parts' noise, and its own noise."""
    h, w = field.shape[-2:]
    cells, fine = h * w, h * w * parts**2
    basis = torch.eye(cells + 2 * fine, dtype=torch.float64)
    first, white, own = basis.split([cells, fine, fine])
    rows = len(basis)
    noise = basis[:, :cells].reshape(rows, 1, h, w)
    white, own = (basis[:, a : a + fine].reshape(rows, 1, h * parts, w * parts) for a in (cells, cells + fine))
    moved = move_parts(split_cells(noise, white, parts), own[:, :, None], find_sources(field, parts))
    return join_cells(moved, parts).reshape(rows, cells).T


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_covariance_is_the_identity(parts, seed):
    # Vectors at random lead several parts to the same place, and others nowhere: all cases at once.
    matrix = transform(random_field(seed)[:, :, 1:2], parts)
    assert torch.allclose(matrix @ matrix.T, torch.eye(16, dtype=torch.float64), atol=1e-12)


def test_no_motion_is_the_first_frame():
    matrix = transform(NONE[:, :, :1], PARTS)
    assert torch.allclose(matrix[:, :16], torch.eye(16, dtype=torch.float64), atol=1e-12)
    warped = warp_noise(torch.randn(2, 3, 3, 4, 4), NONE, torch.Generator().manual_seed(0), parts=PARTS)
    assert torch.allclose(warped, warped[:, :, :1].expand_as(warped), atol=1e-5)


def test_whole_cells_move_exactly_and_fractions_by_area():
    shifts = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.25, 0.5]])
    matrices = [transform(translation_field(shifts[i : i + 1], 4, 4), PARTS)[:, :16] for i in range(3)]
    image = torch.randn(4, 4, dtype=torch.float64)
    assert torch.allclose((matrices[1] @ image.flatten()).reshape(4, 4)[:, 1:], image[:, :-1], atol=1e-12)
    # right by a quarter and down by half: in the middle, the shares of the area of four cells
    weights = matrices[2].reshape(4, 4, 4, 4)[2, 2]
    assert weights[2, 2] == pytest.approx(0.375) and weights[2, 1] == pytest.approx(0.125)
    assert weights[1, 2] == pytest.approx(0.375) and weights[1, 1] == pytest.approx(0.125)


def test_what_moves_passes_before_what_rests_and_leaves_new_noise():
    shifts = torch.tensor([[1.0, 0.0]])
    source = find_sources(box_field(shifts, (0, 0, 1, 1), 2, 3), 1)[0, 0]
    assert source.tolist() == [-1, 0, 2, 3, 4, 5]  # cell 1 shows cell 0, whose own place is new


def test_a_share_is_the_correlation_and_keeps_the_variance():
    noise = torch.randn(1, 2000, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    field = torch.zeros(1, 2, 2, 2, 2)
    warped = warp_noise(noise, field, torch.Generator().manual_seed(1), share=0.5)
    first, second = warped[:, :, 0].flatten(), warped[:, :, 1].flatten()
    assert (first * second).mean() == pytest.approx(0.5, abs=0.05) and first.var() == pytest.approx(1.0, abs=0.05)
    assert torch.equal(warp_noise(noise, field, torch.Generator().manual_seed(1), share=0.0), noise)


def test_a_clip_does_not_depend_on_its_batch():
    noise, field = torch.randn(2, 3, 3, 4, 4), random_field()
    both = warp_noise(noise, field, [torch.Generator().manual_seed(i) for i in range(2)])
    one = warp_noise(noise[1:], field, [torch.Generator().manual_seed(1)])
    assert torch.equal(both[1:], one)


def test_shares_and_sizes_that_are_none_are_refused():
    with pytest.raises(VidgenError, match="share 1.5"):
        warp_noise(torch.randn(1, 1, 3, 4, 4), NONE, share=1.5)
    with pytest.raises(VidgenError, match="is not for noise"):
        warp_noise(torch.randn(1, 1, 2, 4, 4), NONE)
