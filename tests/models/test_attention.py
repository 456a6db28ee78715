"""Attention by name: every backend that runs here gives what the formula says, with masks and without."""

from importlib.util import find_spec

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.attention import ATTENTION, find_attention, plain_attention

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without:UserWarning")
MASKS = ("none", "keys", "keys of all", "keys of queries", "bias")


def make(
    mask: str, dtype: torch.dtype = torch.float64, device: str = "cpu"
) -> tuple[list[torch.Tensor], torch.Tensor | None]:
    """Queries, keys and values, and a mask of the kind."""
    g = torch.Generator().manual_seed(2)
    qkv = [torch.randn(2, 3, n, 16, generator=g, dtype=torch.float64).to(device, dtype) for n in (7, 9, 9)]
    shape = {"keys of all": (1, 9), "keys of queries": (2, 7, 9)}.get(mask, (2, 9))
    seen = torch.rand(shape, generator=g) > 0.3
    seen[..., 0] = True
    if mask == "bias":
        return qkv, torch.randn(2, 9, generator=g).masked_fill(~seen, float("-inf")).to(device, dtype)
    return qkv, None if mask == "none" else seen.to(device)


def available(name: str, device: str) -> None:
    """Skips, with the reason, what cannot run here."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU here")
    if name == "xformers" and (not find_spec("xformers") or device == "cpu"):
        pytest.skip("xformers is not installed, or there is no GPU for it")


@pytest.mark.slow
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", [name for name in ATTENTION if name != "plain"])
def test_backends_agree(name, mask):
    available(name, "cpu")
    qkv, seen = make(mask)
    assert torch.allclose(ATTENTION[name](*qkv, seen), plain_attention(*qkv, seen), atol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("mask", ("none", "keys", "bias"))
@pytest.mark.parametrize("name", [name for name in ATTENTION if name != "plain"])
def test_backends_agree_on_a_gpu(name, mask):
    available(name, "cuda")
    qkv, seen = make(mask, torch.bfloat16, "cuda")
    exact = plain_attention(*(x.double() for x in qkv), seen if seen is None or mask == "keys" else seen.double())
    assert (ATTENTION[name](*qkv, seen).double() - exact).abs().max() < 0.02


def test_a_bias_is_a_mask_where_it_is_infinite():
    qkv, seen = make("keys")
    bias = torch.zeros(2, 9, dtype=torch.float64).masked_fill(~seen, float("-inf"))
    assert torch.allclose(plain_attention(*qkv, bias), plain_attention(*qkv, seen))


@pytest.mark.parametrize("name", ["sdpa", "flash", "auto"])
def test_gradients_agree(name):
    qkv, seen = make("keys")
    grads = []
    for attend in (ATTENTION[name], plain_attention):
        inputs = [x.clone().requires_grad_() for x in qkv]
        grads.append(torch.autograd.grad(attend(*inputs, seen).square().sum(), inputs))
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(*grads, strict=True))


@pytest.mark.parametrize("name", ["sdpa", "flash", "flex"])
def test_shapes_are_enough_on_meta(name):
    q, k, v = (torch.empty(1, 2, n, 8, device="meta") for n in (5, 6, 6))
    assert ATTENTION[name](q, k, v).shape == q.shape


def test_what_a_backend_cannot_do_is_one_line():
    (q, k, v), _ = make("none")
    with pytest.raises(VidgenError, match="^attention 'flex' has no backward pass on a CPU; choose 'auto'"):
        ATTENTION["flex"](q.requires_grad_(), k, v)
    with pytest.raises(VidgenError, match="attention 'telepathy' is unknown; choose one of auto, plain, sdpa, flash"):
        find_attention("telepathy")


def test_xformers_is_asked_for_by_name_and_missed_in_one_line():
    if find_spec("xformers"):
        pytest.skip("xformers is installed; the error for its absence cannot be seen")
    q = torch.zeros(1, 1, 2, 8)
    with pytest.raises(VidgenError, match=r"vidgen\[gpu\]"):
        ATTENTION["xformers"](q, q, q)
