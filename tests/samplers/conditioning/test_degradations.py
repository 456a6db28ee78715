"""Degradations: linear, with a pseudo-inverse that keeps its four equations; projections fit, and are the nearest."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.samplers.conditioning.degradations import FAINT, Blur, Downsample, Grayscale, Mask, project

MASK = torch.zeros(8, 12, dtype=torch.bool)
MASK[2:5, 3:9] = True
ALL = {
    "reduction": Downsample(4),
    "greying": Grayscale(),
    "blur": Blur(0.4),
    "strong blur": Blur(1.5),
    "gaps": Mask(MASK),
}


def clips(*seeds):
    return torch.stack([torch.rand(3, 2, 8, 12, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in seeds])


@pytest.mark.parametrize("name", ALL)
def test_the_pseudo_inverse_is_moore_and_penroses(name):
    # As matrices, on a small clip: A G A = A, G A G = G, and A G and G A symmetric. Of a strong blur G inverts what
    # counts as left only, so that the first holds for G's own A.
    d = ALL[name]
    basis = torch.eye(3 * 8 * 12, dtype=torch.float64).reshape(-1, 3, 1, 8, 12)
    a = d.apply(basis).flatten(1).T
    g = d.invert(torch.eye(len(a), dtype=torch.float64).reshape(-1, *d.apply(basis).shape[1:])).flatten(1).T
    if name == "strong blur":
        assert ((a @ g @ a - a).abs().max() < FAINT) and (a @ g @ a - a).abs().max() > 1e-6
        a = a @ g @ a
    for one, two in ((a @ g @ a, a), (g @ a @ g, g), (a @ g, (a @ g).T), (g @ a, (g @ a).T)):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ALL)
def test_a_projection_fits_moves_nothing_twice_and_is_the_nearest(name):
    d, (x, truth) = ALL[name], clips(0, 1).double().split(1)
    y = d.apply(truth)
    out = project(x, y, d)
    torch.testing.assert_close(d.invert(d.apply(out)), d.invert(y))
    torch.testing.assert_close(project(out, y, d), out)
    torch.testing.assert_close(project(truth, y, d), truth)
    # Nearer than the truth, which fits as well, by Pythagoras.
    squares = [(v**2).sum() for v in (x - out, out - truth, x - truth)]
    torch.testing.assert_close(squares[0] + squares[1], squares[2])


def test_what_is_left_of_a_clip():
    x = torch.zeros(1, 3, 1, 8, 8)
    x[:, 0, :, :4] = 0.9
    assert Downsample(4).apply(x)[0, 0, 0].tolist() == [[pytest.approx(0.9)] * 2, [0.0] * 2]
    assert Grayscale().apply(x)[0, 0, 0, 0, 0] == pytest.approx(0.3)
    blurred = Blur(1.5).apply(x)
    assert blurred.mean() == pytest.approx(x.mean().item()) and blurred.std() < 0.9 * x.std()
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 0, 0] = True
    assert Mask(mask).apply(x)[0, 0, 0, 0, :2].tolist() == [0.0, pytest.approx(0.9)]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Downsample(0), "the scale of super-resolution is 0"),
        (lambda: Downsample(5).apply(clips(0)), "clips of 8x12 are no multiple of the scale 5"),
        (lambda: Blur(0.0), "the sigma of a blur is 0.0"),
        (lambda: Mask(MASK[1:]).apply(clips(0)), r"the mask is \(7, 12\), and the clip's frames \(2, 8, 12\)"),
    ],
)
def test_what_is_no_degradation_is_named(make, says):
    with pytest.raises(VidgenError, match=says):
        make()
