"""Points are passed at even times, and a cut-out is exactly where its path has it, over a ground without it."""

import pytest
import torch

from vidgen.diffusion.paths import FlowPath
from vidgen.errors import VidgenError
from vidgen.samplers.control.edit_masks import box_of, edit_map
from vidgen.samplers.control.trajectories import drag_box, fill_box, read_trajectory


def test_points_are_passed_at_even_times():
    path = read_trajectory("10,32 50,32  50,12")
    assert torch.allclose(
        path.positions(5), torch.tensor([[10, 32], [30, 32], [50, 32], [50, 22], [50, 12.0]]).double()
    )
    assert path.positions(1).tolist() == [[10.0, 32.0]]


@pytest.mark.parametrize("text", ["10,32", "10;32 50,32", "10,32 50", "1,2 3,nan", "", "1,2,3 4,5,6"])
def test_what_is_no_path_is_one_line(text):
    with pytest.raises(VidgenError, match="give two points X,Y or more"):
        read_trajectory(text)


def test_a_square_is_dragged_exactly_over_an_even_ground():
    image = torch.full((3, 12, 12), -0.5)
    image[:, 3:6, 2:5] = torch.rand(3, 3, 3)
    shifts = torch.tensor([[0.0, 0.0], [4.0, 2.0], [20.0, 0.0]])
    video, pasted = drag_box(image, (1.0, 2.0, 6.0, 7.0), shifts)
    assert torch.allclose(video[:, 0], image)
    assert torch.equal(video[:, 1, 5:8, 6:9], image[:, 3:6, 2:5]) and pasted[1].sum() == 25
    assert torch.allclose(video[:, 1, 2:5, 1:4], torch.full((3, 3, 3), -0.5), atol=1e-3)  # where it was
    assert not pasted[2].any() and torch.allclose(video[:, 2], torch.full((3, 12, 12), -0.5), atol=1e-3)


def test_a_hole_in_a_plane_is_filled_with_the_plane():
    # a membrane over a straight rim is straight
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    plane = (0.05 * x - 0.03 * y)[None]
    holed = plane.clone()
    holed[:, 4:8, 3:8] = 1.0
    assert torch.allclose(fill_box(holed, (3, 4, 8, 8)), plane, atol=1e-3)
    assert torch.equal(fill_box(holed, (0, 0, 12, 12)), holed)


def test_the_map_is_where_denoisers_differ_and_its_box_around_it():
    x = torch.randn(2, 3, 1, 6, 8)
    patch = torch.zeros(6, 8)
    patch[2:4, 4:7] = 1.0
    share = edit_map(lambda x, t: x + patch, lambda x, t: x, x, FlowPath(), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(share, (patch / 6.0).expand(2, 1, 6, 8), atol=1e-5)
    left, top, right, bottom = box_of(patch / 6.0, spread=1.0)
    assert (left + right) / 2 == pytest.approx(5.5) and (top + bottom) / 2 == pytest.approx(3.0)
    assert right - left == pytest.approx(2 * (2 / 3) ** 0.5) and bottom - top == pytest.approx(1.0)
