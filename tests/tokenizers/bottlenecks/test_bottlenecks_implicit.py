"""Implicit codebooks: indices there and back at every size, gradients in closed form, entropy as a table has it."""

from math import prod

import pytest
import torch
from einops import rearrange
from torch.utils._python_dispatch import TorchDispatchMode

from vidgen.tokenizers.bottlenecks import build_bottleneck
from vidgen.tokenizers.bottlenecks.factored_entropy import entropy_loss, factored_entropies, soft_digits


def split_bits(bits: int) -> tuple[int, ...]:
    """Levels of 8 and 4 whose product is 2^bits."""
    fours = -bits % 3
    return (8,) * ((bits - 2 * fours) // 3) + (4,) * fours


def some_indices(size: int) -> torch.Tensor:
    """All of them up to 2^12, else 4,096 with the first and the last, as (1, 1, 1, n)."""
    if size <= 2**12:
        return rearrange(torch.arange(size), "n -> 1 1 1 n")
    drawn = 1 + torch.randperm(size - 2, generator=torch.Generator().manual_seed(size))[:4094]
    return rearrange(torch.cat([torch.tensor([0, size - 1]), drawn]), "n -> 1 1 1 n")


def quantizers(bits: int):
    levels = split_bits(bits)
    yield "fsq", build_bottleneck("fsq", len(levels), levels=levels)
    yield "lfq", build_bottleneck("lfq", bits)
    yield "bsq", build_bottleneck("bsq", bits)
    yield "residual", build_bottleneck("residual", len(levels), levels=levels, quantizers=2)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "autocast"])
@pytest.mark.parametrize("bits", range(4, 19))
def test_integer_indices_round_trip(bits, autocast):
    for name, quantizer in quantizers(bits):
        assert quantizer.codebook_size == 2**bits
        indices = some_indices(2**bits)
        if name == "residual":
            indices = torch.stack([indices, indices.flip(-1)], dim=-1)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            latents = quantizer.from_indices(indices)
            again = quantizer.to_indices(latents)
        assert again.dtype == torch.int64 and torch.equal(again, indices)
        if name != "residual":  # three significant digits are enough for codes of one codebook
            assert torch.equal(quantizer.to_indices(latents.bfloat16()), indices)
        vectors = rearrange(latents, "1 c 1 1 n -> n c")
        assert len(vectors.unique(dim=0)) == len(vectors)


@pytest.mark.parametrize("levels", [(8, 8, 8, 5, 5, 5), (7, 2, 9), (3, 2, 2), (2000, 3), (33, 33)])
def test_levels_of_any_number_are_reached_and_come_back(levels):
    quantizer = build_bottleneck("fsq", len(levels), levels=levels)
    indices = some_indices(prod(levels))
    assert torch.equal(quantizer.to_indices(quantizer.from_indices(indices)), indices)
    ends = torch.tensor([9.0])
    sweep = torch.cat([-ends, torch.atanh(torch.linspace(-0.9999, 0.9999, 8001)), ends]).expand(
        1, len(levels), 1, 1, -1
    )
    latents = quantizer(sweep).latents
    for channel, size in enumerate(levels):
        found = latents[0, channel, 0, 0]
        assert len(found.unique()) == size and (found.diff() >= 0).all()
        assert found[0] == -1 and found[-1] == (size - 1 - size // 2) / (size // 2)


def test_signs_are_the_bits_of_the_index():
    h = torch.tensor([-0.3, 2.0, 0.1, -5.0, 1e-9])
    for name, size in (("lfq", 1.0), ("bsq", 5**0.5)):
        out = build_bottleneck(name, 5)(rearrange(h, "c -> 1 c 1 1 1"))
        assert out.indices.item() == 2 + 4 + 16
        torch.testing.assert_close(out.latents.flatten() * size, h.sign())


def test_residual_fsq_is_tanh_in_a_positional_system():
    quantizer = build_bottleneck("residual", 2, levels=(10, 4), quantizers=3)
    x = torch.tensor([0.123, -0.9])
    out = quantizer(rearrange(torch.atanh(x), "c -> 1 c 1 1 1"))
    assert [i % 10 for i in out.indices.flatten().tolist()] == [5, 6, 1]  # (0.123 + 1) / 2 = 0.5615
    assert [i // 10 for i in out.indices.flatten().tolist()] == [0, 0, 3]  # 0.05 = 0.003... in base 4
    assert ((out.latents.flatten() - x).abs() <= torch.tensor([10.0, 4.0]) ** -3).all()


def test_gradients_go_straight_through():
    h = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn_like(h)

    def through(quantizer):
        (out := quantizer(h)).latents.mul(weight).sum().backward()
        grad, h.grad = h.grad.clone(), None
        assert torch.equal(quantizer.from_indices(out.indices, dtype=torch.float64), out.latents)
        return grad

    torch.testing.assert_close(through(build_bottleneck("lfq", 4)), weight)
    unit = torch.nn.functional.normalize(h, dim=1)
    expected = torch.autograd.grad(unit.mul(weight).sum(), h)[0]
    torch.testing.assert_close(through(build_bottleneck("bsq", 4)), expected)
    slope = 1 - torch.tanh(h.detach()) ** 2
    torch.testing.assert_close(through(build_bottleneck("residual", 4, levels=(4,) * 4, quantizers=2)), weight * slope)
    # Odd levels have no shift: five of them are tanh times 2.002, over 2.
    torch.testing.assert_close(through(build_bottleneck("fsq", 4, levels=(5,) * 4)), weight * slope * 1.001)


def full_table(y: torch.Tensor, levels: tuple[int, ...]) -> torch.Tensor:
    """The probability of every code at every position (n, codes)."""
    joint = y.new_ones(len(y), 1)
    for log in soft_digits(y, levels):
        joint = rearrange(joint[:, :, None] * log.exp()[:, None], "n a l -> n (a l)")
    return joint


def entropy(p: torch.Tensor) -> torch.Tensor:
    return torch.special.entr(p).sum(dim=-1)


@pytest.mark.parametrize("levels", [(2,) * 8, (3, 4, 5), (8, 5, 5), (2, 40), (7,)])
def test_entropies_are_those_of_the_whole_table_where_it_is_one_group(levels):
    y = torch.rand(50, len(levels), dtype=torch.float64) * torch.tensor(levels, dtype=torch.float64) - 0.5
    table = full_table(y, levels)
    torch.testing.assert_close(table.sum(dim=1), torch.ones(50, dtype=torch.float64))
    each, together = factored_entropies(y, levels)
    torch.testing.assert_close(each, entropy(table).mean())
    torch.testing.assert_close(together, entropy(table.mean(dim=0)))


def test_entropy_of_groups_bounds_that_of_the_table_from_above():
    levels, y = (8, 8, 8, 8), torch.rand(200, 4, dtype=torch.float64) * 8 - 0.5
    _, together = factored_entropies(y, levels)
    truth = entropy(full_table(y, levels).mean(dim=0))
    single = sum(entropy(log.exp().mean(dim=0)) for log in soft_digits(y, levels))
    assert truth < together < single


def test_entropy_loss_wants_sure_codes_and_all_of_them():
    codes = rearrange(((torch.arange(256)[:, None] >> torch.arange(8)) & 1).double(), "n d -> n d")
    sure = codes * 8 - 3.5  # far out on both sides
    best = entropy_loss(sure, (2,) * 8)
    torch.testing.assert_close(best, -torch.tensor(256.0, dtype=torch.float64).log())
    assert entropy_loss(torch.full_like(codes, 0.5), (2,) * 8).abs() < 1e-9  # unsure, and so is the mean
    assert entropy_loss(sure[:1].expand(256, -1), (2,) * 8).abs() < 1e-9  # sure, and always of the same


class Largest(TorchDispatchMode):
    """The most elements that any tensor has in between."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return out


def test_no_table_of_the_whole_codebook_is_built():
    for _, quantizer in quantizers(18):
        h = torch.randn(1, quantizer.channels_in, 1, 8, 8, requires_grad=True)
        with Largest() as seen:
            out = quantizer(h)
            sum(out.losses.values()).backward()
            quantizer.from_indices(out.indices)
        assert 64 < seen.elements < 2**14 and torch.isfinite(h.grad).all()


def test_losses_have_finite_gradients_where_everything_is_saturated():
    for _, quantizer in quantizers(12):
        h = (torch.randn(1, quantizer.channels_in, 1, 4, 4) * 1e4).requires_grad_()
        sum(quantizer(h).losses.values()).backward()
        assert torch.isfinite(h.grad).all()
