"""Whole vectors move pixels exactly, fractions as straight lines do, and gradients are those of the formula."""

import torch

from vidgen.models.warping import spread, warp


def constant(vector: tuple[float, float], shape: tuple[int, ...], dtype=torch.float64) -> torch.Tensor:
    return torch.tensor(vector, dtype=dtype)[None, :, None, None, None].expand(shape[0], 2, 1, *shape[-2:])


def test_no_motion_is_the_picture_to_the_bit():
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        picture = torch.rand(2, 3, 17, 23).to(dtype)
        assert torch.equal(warp(picture, constant((0, 0), picture.shape, torch.float32))[:, :, 0], picture)


def test_whole_vectors_take_other_pixels_to_the_bit_and_repeat_the_border():
    picture = torch.rand(2, 3, 20, 30)
    moved = warp(picture, constant((-3, 5), picture.shape, torch.float32))[:, :, 0]
    assert torch.equal(moved[:, :, :15, 3:], picture[:, :, 5:, :27])
    assert torch.equal(moved[:, :, :15, :3], picture[:, :, 5:, :1].expand(-1, -1, -1, 3))
    assert torch.equal(moved[:, :, 15:, 3:], picture[:, :, 19:, :27].expand(-1, -1, 5, -1))


def test_fractions_are_exact_on_planes_and_within_the_bilinear_error_on_curves():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(50.0), indexing="ij")
    y, x, (dx, dy) = y.double(), x.double(), (1.3, -2.6)
    inner = (slice(None), slice(None), 0, slice(4, -4), slice(4, -4))

    def moved(of):
        return warp(of(x, y)[None, None], constant((dx, dy), (1, 1, 40, 50)))[inner] - of(x + dx, y + dy)[4:-4, 4:-4]

    assert moved(lambda x, y: 0.3 * x - 0.7 * y + 2).abs().max() < 1e-12
    a, b = 0.4, 0.3  # |f_xx| <= a^2, |f_yy| <= b^2, and linear interpolation errs by an eighth of each
    assert 1e-4 < moved(lambda x, y: torch.sin(a * x) * torch.cos(b * y)).abs().max() < (a**2 + b**2) / 8


def test_every_frame_and_clip_has_its_own_flow():
    picture, flow = torch.rand(2, 3, 12, 16), torch.randint(-3, 4, (2, 2, 3, 12, 16)).float()
    together = warp(picture, flow)
    for n in range(2):
        for k in range(3):
            assert torch.equal(
                together[n : n + 1, :, k : k + 1], warp(picture[n : n + 1], flow[n : n + 1, :, k : k + 1])
            )


def test_gradients_reach_pixels_and_vectors():
    torch.manual_seed(0)
    picture = torch.rand(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    flow = (torch.rand(1, 2, 2, 6, 7, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()  # between pixels: no kinks
    assert torch.autograd.gradcheck(warp, (picture, flow))


def test_blocks_are_of_one_vector():
    field = torch.randn(1, 2, 3, 2, 4)
    dense = spread(field, 4)
    assert dense.shape == (1, 2, 3, 8, 16)
    assert torch.equal(dense[..., 2::4, 1::4], field) and torch.equal(dense[..., 3::4, 3::4], field)
