"""Learned codebooks: nearest neighbours, running means in closed form, k-means start, dead codes, kill and resume."""

import copy

import pytest
import torch
from einops import rearrange

from vidgen.tokenizers.bottlenecks import build_bottleneck
from vidgen.tokenizers.bottlenecks.vector_quantizer import DECAY, VQ, nearest


def lay_out(x: torch.Tensor) -> torch.Tensor:
    """Vectors (n, d) as an encoder's output (1, d, 1, 1, n) that gradients go back to."""
    return rearrange(x, "n d -> 1 d 1 1 n").clone().requires_grad_()


def draw(n: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_vq(vectors: torch.Tensor) -> VQ:
    """In training, with these codes, as if each had been chosen once a step so far."""
    quantizer = build_bottleneck("vq", vectors.shape[1], codebook_size=len(vectors))
    book = quantizer.codebook
    book.vectors.copy_(vectors), book.sums.copy_(vectors), book.counts.fill_(1.0), book.initialised.fill_(True)
    return quantizer.train()


def test_nearest_is_the_least_distance(monkeypatch):
    x, codes = draw(300, 6, 0).double(), draw(40, 6, 1).double()
    truth = (x[:, None] - codes[None]).square().sum(dim=-1).argmin(dim=1)
    assert torch.equal(nearest(x, codes), truth)
    monkeypatch.setattr("vidgen.tokenizers.bottlenecks.vector_quantizer.TABLE", 100)  # two vectors at a time
    assert torch.equal(nearest(x, codes), truth)
    assert torch.equal(nearest(codes, codes), torch.arange(40))


def test_one_step_of_the_running_means():
    old = torch.tensor([[0.0, 0.0], [10.0, 10.0]])
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [9.0, 9.0]])
    quantizer = make_vq(old)
    h = lay_out(x)
    out = quantizer(h, generator=seeded(0))
    assert out.indices.flatten().tolist() == [0, 0, 1]
    assert torch.equal(out.latents, rearrange(old[[0, 0, 1]], "n d -> 1 d 1 1 n"))  # of the codebook before the step
    book, new = quantizer.codebook, 1 - DECAY
    counts = torch.tensor([DECAY + 2 * new, 1.0])
    torch.testing.assert_close(book.counts, counts)
    sums = torch.stack([new * torch.tensor([1.0, 2.0]), DECAY * old[1] + new * x[2]])
    torch.testing.assert_close(book.vectors, sums / counts[:, None])
    torch.testing.assert_close(out.losses["commitment"], torch.tensor((1 + 4 + 2) / 6))
    (out.losses["commitment"] + out.latents.sum()).backward()
    torch.testing.assert_close(h.grad, rearrange(2 * (x - old[[0, 0, 1]]) / 6 + 1, "n d -> 1 d 1 1 n"))


def test_k_means_start_ends_where_every_code_is_the_mean_of_its_vectors():
    centres = torch.tensor([[8.0, 0.0], [-8.0, 0.0], [0.0, 8.0]])
    x = (centres[:, None] + 0.1 * draw(60, 2, 0).reshape(3, 20, 2)).reshape(60, 2)
    quantizer = build_bottleneck("vq", 2, codebook_size=3).train()
    assert not quantizer.codebook.initialised
    out = quantizer(lay_out(x), generator=seeded(3))
    book = quantizer.codebook
    assert book.initialised and book.counts.sum() == 60
    for code in range(3):
        chosen = x[out.indices.flatten() == code]
        torch.testing.assert_close(book.vectors[code], chosen.mean(dim=0))


def test_later_batches_fill_what_the_first_could_not():
    quantizer = build_bottleneck("vq", 3, codebook_size=60).train()
    for step in range(5):
        quantizer(lay_out(draw(15, 3, step)), generator=seeded(step))
        assert (quantizer.codebook.counts > 0).sum() >= min(60, 15 * (step + 1))
    assert len(quantizer.codebook.vectors.unique(dim=0)) == 60


def test_a_dead_code_comes_back_on_a_vector_of_the_batch():
    vectors = torch.cat([draw(4, 2, 0), torch.tensor([[1e3, 1e3]])])
    quantizer, x = make_vq(vectors), draw(50, 2, 1)
    quantizer.codebook.counts.mul_(10), quantizer.codebook.sums.mul_(10)  # an even share of 50
    for step in range(500):
        quantizer(lay_out(x), generator=seeded(step))
        if quantizer.codebook.vectors[4].abs().max() < 100:
            break
    assert 250 < step < 450  # 0.99^350 is 3 % of what it was chosen before
    assert (x == quantizer.codebook.vectors[4]).all(dim=1).any()
    out = quantizer.eval()(lay_out(x))
    assert out.indices.unique().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("watched", ["evaluation", "no gradient", "kept encoder"])
def test_only_training_moves_the_codebook(watched):
    quantizer = make_vq(draw(8, 4, 0)).train(watched != "evaluation")
    before = copy.deepcopy(quantizer.state_dict())
    h = lay_out(draw(100, 4, 1))
    with torch.set_grad_enabled(watched != "no gradient"):
        quantizer(h.detach() if watched == "kept encoder" else h * 1.0)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


SETTINGS = [("vq", dict(codebook_size=32)), ("residual", dict(codebook_size=16, quantizers=3))]


@pytest.mark.parametrize("given", [True, False], ids=["generator", "none given"])
@pytest.mark.parametrize(("name", "settings"), SETTINGS)
def test_killed_and_resumed_is_never_stopped_bit_for_bit(name, settings, given):
    def run(quantizer, steps):
        for step in steps:
            torch.manual_seed(1000 + len(steps))  # what is in the global generator is nothing to it
            quantizer(lay_out(draw(20, 4, step)), generator=seeded(step) if given else None)
        return quantizer

    def fresh():
        torch.manual_seed(5)
        return build_bottleneck(name, 4, **settings).train()

    whole = run(fresh(), range(8))
    for stop in (1, 2, 5):  # right after k-means, while codes are filled, later
        half = run(fresh(), range(stop))
        torch.manual_seed(99)
        again = build_bottleneck(name, 4, **settings).train()
        again.load_state_dict({key: value.clone() for key, value in half.state_dict().items()})
        run(again, range(stop, 8))
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in whole.state_dict().items())


def test_residual_codes_add_up_and_come_closer():
    torch.manual_seed(0)
    quantizer, x = build_bottleneck("residual", 4, codebook_size=32, quantizers=4).train(), draw(400, 4, 0)
    for step in range(30):
        out = quantizer(lay_out(x), generator=seeded(step))
    out = quantizer.eval()(lay_out(x))
    errors = []
    for q in range(1, 5):
        total = sum(quantizer.codebooks[i].vectors[out.indices[0, 0, 0, :, i]] for i in range(q))
        errors.append((x - total).square().mean().item())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.05 * errors[0]
    torch.testing.assert_close(out.losses["commitment"].item(), sum(errors) / 4)
    torch.testing.assert_close(quantizer.from_indices(out.indices), out.latents.detach())


def test_indices_of_codes_are_their_own():
    quantizer = make_vq(draw(1000, 5, 0)).eval()
    indices = rearrange(torch.arange(1000), "(t h w) -> 1 t h w", t=10, h=10)
    assert torch.equal(quantizer.to_indices(quantizer.from_indices(indices)), indices)
