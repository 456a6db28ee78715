"""Discriminators and their losses, against values worked out by hand."""

import pytest
import torch
from torch import nn

from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.losses.discriminators import (
    DISCRIMINATORS,
    LeCam,
    TimePaddedConv3d,
    adaptive_weight,
    hinge_discriminator,
    hinge_generator,
    last_layer,
    r1_penalty,
)


@pytest.fixture
def video():
    return torch.rand(2, 3, 5, 16, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_clips_and_images_are_judged_patch_by_patch(kind, video):
    judge = DISCRIMINATORS[kind](width=8, depth=3)
    assert judge(video).shape == (2, 5 if kind == "2d" else 2, 2, 3)
    assert judge(video[:, :, :1]).shape == (2, 1, 2, 3)
    alone = judge(video[1:])
    assert torch.allclose(judge(video)[1:], alone, atol=1e-5)  # a clip's verdict is its own


def test_frames_are_judged_alone_and_clips_in_order(video):
    torch.manual_seed(0)
    frames, clips = (DISCRIMINATORS[kind](width=8, depth=2) for kind in ("2d", "3d"))
    assert torch.allclose(frames(video.flip(2)), frames(video).flip(1), atol=1e-5)
    assert not torch.allclose(clips(video.flip(2)), clips(video).flip(1), atol=1e-3)


def test_hinge_by_hand():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-2.0, -0.5, 1.0])
    # max(0, 1 - real) = 0, 0.5, 2; max(0, 1 + fake) = 0, 0.5, 2
    assert hinge_discriminator(real, fake).item() == pytest.approx(0.5 * (2.5 / 3 + 2.5 / 3))
    assert hinge_discriminator(real + 3, fake - 3).item() == 0.0
    assert hinge_generator(fake).item() == pytest.approx(0.5)


class Linear(nn.Module):
    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weight).flatten(1).sum(1, keepdim=True)


def test_r1_of_a_linear_discriminator_is_its_squared_weight(video):
    judge = Linear(torch.randn(video.shape[1:], generator=torch.Generator().manual_seed(1)))
    penalty = r1_penalty(judge, video)
    assert penalty.item() == pytest.approx(judge.weight.square().sum().item(), rel=1e-5)
    penalty.backward()  # d |w|^2 / dw = 2 w
    assert torch.allclose(judge.weight.grad, 2 * judge.weight, rtol=1e-4)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_r1_has_gradients_through_every_layer(kind, video):
    judge = DISCRIMINATORS[kind](width=8, depth=2)
    with torch.autocast("cpu", torch.bfloat16):
        r1_penalty(judge, video).backward()
    weights = [p for p in judge.parameters() if p.ndim > 1]
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in weights)


def test_lecam_by_hand_and_its_anchors_follow():
    lecam = LeCam(decay=0.75)
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([-2.0, 0.0])
    lecam.follow(real, fake)  # a quarter of the way from 0 to the means, 2 and -1
    assert (lecam.real.item(), lecam.fake.item()) == (0.5, -0.25)
    # (1.25^2 + 3.25^2) / 2 + (2.5^2 + 0.5^2) / 2
    assert lecam(real, fake).item() == pytest.approx((1.5625 + 10.5625) / 2 + (6.25 + 0.25) / 2)
    assert set(lecam.state_dict()) == {"real", "fake"}


def test_the_adaptive_weight_is_the_ratio_of_gradients():
    first, second = nn.Parameter(torch.tensor([[1.0]])), nn.Parameter(torch.tensor([[1.0]]))
    reconstruction = 3.0 * first.sum() + 4.0 * second.sum()  # |gradient| = 5
    adversarial = -0.3 * first.sum() + 0.4 * second.sum()  # |gradient| = 0.5
    balance = adaptive_weight(reconstruction, adversarial, [first, second])
    assert balance.weight == pytest.approx(10.0, rel=1e-4) and balance.ratio == pytest.approx(0.1)
    assert first.grad is None
    assert adaptive_weight(reconstruction, 0.0 * adversarial, [first, second]).weight == 1e4


def test_the_last_layer_is_what_the_pixels_come_out_of():
    decoder = VideoTokenizer(PRESETS["tiny"]).decoder
    found = last_layer(decoder)
    assert {id(p) for p in found} == {id(p) for p in decoder.out.parameters() if p.ndim > 1}
    with pytest.raises(ValueError, match="no trainable weights"):
        last_layer(nn.Sequential(nn.ReLU()))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_padding_time_oneself_changes_nothing_and_reads_nothing_unwritten(frames):
    """In bfloat16 between tensors of NaN that were just freed: the library's own padding shows them on some CPUs."""
    torch.manual_seed(0)
    own, library = (kind(3, 4, (3, 4, 4), stride=(1, 2, 2), padding=1) for kind in (TimePaddedConv3d, nn.Conv3d))
    library.load_state_dict(own.state_dict())
    x = torch.randn(2, 3, frames, 16, 16)
    torch.testing.assert_close(own(x), library(x))
    own.bfloat16()
    for _ in range(4):
        sizes = [2**k for k in range(5, 17) for _ in range(4)]
        waste = [torch.full((size,), float("nan"), dtype=torch.bfloat16) for size in sizes]
        del waste
        assert torch.isfinite(own(x.bfloat16())).all()
