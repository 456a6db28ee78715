"""Work in half precision block by block: what one rounding of the exact result gives, whatever the size of a block."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vidgen.models import blockwise
from vidgen.models.blockwise import add_gated, normed_heads, scale_and_shift, worth_blocks
from vidgen.models.layers import Attention, gated_sum, modulate
from vidgen.models.rope import apply_rotary_emb, rotary_table

SHAPE = (2, 3, 5, 24)  # b t s d


@pytest.fixture(autouse=True, params=[50, 24 * 7, 1 << 20])
def block(request, monkeypatch) -> int:
    """Numbers in a block: fewer than two rows, some rows, all of them."""
    monkeypatch.setattr(blockwise, "BLOCK", request.param)
    return request.param


@pytest.fixture(params=[torch.bfloat16, torch.float16])
def x(request) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(request.param)


def modulations(frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, frames, 1, 24, generator=g) for _ in range(2))


def rounded_once(found: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether it is `exact` but for float32 inside and one rounding to its dtype at the end."""
    half_a_step = 0.5 * torch.finfo(found.dtype).eps * exact.abs()
    return bool(((found.double() - exact).abs() <= half_a_step + 1e-5).all())


@pytest.mark.parametrize("frames", [1, 3])
def test_norm_with_a_modulation(x, frames):
    shift, scale = modulations(frames)
    exact = F.layer_norm(x.double(), (24,), eps=1e-6) * (1 + scale.double()) + shift.double()
    assert rounded_once(scale_and_shift(x, shift, scale, 1e-6), exact)


@pytest.mark.parametrize("frames", [1, 3])
def test_sum_with_a_gate(x, frames):
    gate, _ = modulations(frames)
    y = x.flip(0)
    assert rounded_once(add_gated(x, y, gate), x.double() + gate.double() * y.double())


@pytest.mark.parametrize("turned", [False, True])
def test_heads_normalised_together_and_turned(x, turned):
    y, weight = x.flatten(1, 2), 1 + 0.1 * torch.randn(24, generator=torch.Generator().manual_seed(2))
    exact = F.rms_norm(y.double(), (24,), weight.double(), 1e-6).unflatten(-1, (3, 8)).transpose(1, 2)
    tables = [rotary_table((3, 1, 5), 4, 100.0, torch.device("cpu"), kind) for kind in (torch.float32, torch.float64)]
    exact = apply_rotary_emb(exact, tables[1]) if turned else exact
    found = normed_heads(y, weight, 1e-6, 8, tables[0] if turned else None)
    assert found.shape == (2, 3, 15, 8) and found.is_contiguous() and rounded_once(found, exact)


def test_it_is_for_large_tensors_of_half_precision_without_gradients(x, block):
    with torch.no_grad():
        assert worth_blocks(x) == (block < x.numel()) and not worth_blocks(x.float())
        with torch.autocast("cpu", torch.bfloat16):
            assert not worth_blocks(x)
    assert not worth_blocks(x)


def test_layers_give_the_same_both_ways(x):
    norm, (shift, scale) = nn.LayerNorm(24, elementwise_affine=False), modulations(3)
    torch.manual_seed(0)
    layer = Attention(24, 8, qk_norm="rms_norm_across_heads", eps=1e-6, fused=True).to(x.dtype)
    rotary = rotary_table((3, 1, 5), 4, 100.0, torch.device("cpu"), torch.float32)

    def run() -> list[torch.Tensor]:
        return [modulate(norm, x, shift, scale), gated_sum(x, x, scale), layer(x.flatten(1, 2), rotary=rotary)]

    plain = run()
    with torch.no_grad():
        quick = run()
    for a, b in zip(plain, quick, strict=True):
        assert a.dtype == b.dtype == x.dtype and (a - b).abs().max() < 8 * torch.finfo(x.dtype).eps
