"""Codes of changes: integers and vectors are the same codes, a roll-out is step by step, at first nothing changes."""

import pytest
import torch

from vidgen.tokenizers.change_codes import ChangeCodes, ChangeCodesConfig


@pytest.fixture
def model() -> ChangeCodes:
    torch.manual_seed(0)
    model = ChangeCodes(ChangeCodesConfig(latent_channels=4, size=(4, 6), tokens=2, levels=(3, 5), width=16, depth=1))
    torch.nn.init.normal_(model.decode_out.weight, std=0.2)
    return model.eval()


def test_indices_and_vectors_are_the_same_codes(model):
    codes, indices = model.encode(torch.randn(3, 4, 5, 4, 6))
    assert codes.shape == (3, 4, 2, 2) and indices.shape == (3, 4, 2)
    assert 0 <= indices.min() and indices.max() < model.codebook_size == 15
    assert torch.equal(model.embed(indices), codes)


def test_a_change_is_of_its_own_two_frames(model):
    x = torch.randn(1, 4, 5, 4, 6)
    other = x.clone()
    other[:, :, 4] += 1.0
    assert torch.equal(model.encode(x)[1][:, :3], model.encode(other)[1][:, :3])
    assert torch.equal(model(x)[:, :, :3], model(other)[:, :, :3])


def test_a_roll_out_is_step_by_step(model):
    x = torch.randn(2, 4, 4, 4, 6)
    codes, _ = model.encode(x)
    clip = model.roll_out(x[:, :, 0], codes)
    assert clip.shape == x.shape and torch.equal(clip[:, :, 0], x[:, :, 0])
    assert torch.allclose(clip[:, :, 1], model(x)[:, :, 0], atol=1e-6)
    assert torch.allclose(clip[:, :, 2:3], model.apply_changes(clip[:, :, 1:2], codes[:, 1:2]), atol=1e-6)


def test_as_made_it_repeats_the_frame_before():
    x = torch.randn(2, 4, 3, 4, 6)
    fresh = ChangeCodes(ChangeCodesConfig(latent_channels=4, size=(4, 6), width=16, depth=1))
    assert torch.equal(fresh(x), x[:, :, :-1])


def test_codes_carry_what_the_frame_before_does_not_tell():
    """A dot on a torus moves one of four ways: without codes the best guess is their mean, off by 3/4 of a dot each."""
    generator = torch.Generator().manual_seed(0)
    ways = torch.tensor([(0, 1), (1, 0), (0, -1), (-1, 0)])
    dot, side = 3.0, 4

    def draw(n: int) -> torch.Tensor:
        start, way = torch.randint(side, (n, 2), generator=generator), torch.randint(4, (n,), generator=generator)
        clip = torch.zeros(n, 1, 2, side, side)
        for t in range(2):
            rows, columns = ((start + t * ways[way]) % side).T
            clip[torch.arange(n), 0, t, rows, columns] = dot
        return clip

    torch.manual_seed(0)
    shape = ChangeCodesConfig(latent_channels=1, size=(side, side), tokens=1, levels=(4, 4), width=32, depth=1)
    model = ChangeCodes(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(120):
        clip = draw(64)
        loss = (model(clip) - clip[:, :, 1:]).square().mean()
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    floor = dot**2 * 4 * (1 / 4) * (3 / 4) / side**2
    clip = draw(256)
    assert (model(clip) - clip[:, :, 1:]).square().mean().item() < 0.6 * floor
