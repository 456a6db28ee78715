"""A foreground before a background: what the mask says is what is seen, and no clip depends on its batch."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.gan.config import SplitGeneratorConfig
from vidgen.models.gan.split_generator import SplitGenerator


def make_generator(**settings) -> SplitGenerator:
    torch.manual_seed(0)
    shape = {"num_frames": 8, "height": 16, "width": 24, "channels": 8, "noise_channels": 5}
    return SplitGenerator(SplitGeneratorConfig(**{**shape, **settings})).eval()


def draw_noise(b: int = 3) -> torch.Tensor:
    return torch.randn(b, 5, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_the_mask_says_what_is_seen():
    generator = make_generator()
    generator.mask_out.weight.zero_()
    clips = {}
    for bias in (-200.0, 0.0, 200.0):  # the sigmoid is 0, a half and 1 exactly
        generator.mask_out.bias.fill_(bias)
        clips[bias] = generator(draw_noise())
    background, foreground = clips[0.0].background, clips[0.0].foreground
    assert torch.equal(clips[-200.0].video, background[:, :, None].expand(-1, -1, 8, -1, -1))
    assert torch.equal(clips[200.0].video, foreground)
    assert torch.allclose(clips[0.0].video, 0.5 * (foreground + background[:, :, None]))
    assert foreground.diff(dim=2).abs().amax() > 0 and foreground.shape == (3, 3, 8, 16, 24)


@torch.no_grad()
def test_no_clip_depends_on_its_batch_and_each_on_its_noise_and_text():
    generator = make_generator(text_width=4).double()
    noise, text = draw_noise().double(), torch.randn(3, 4, generator=torch.Generator().manual_seed(2)).double()
    clips = generator(noise, text).video
    for row in range(3):
        one = slice(row, row + 1)
        assert torch.allclose(generator(noise[one], text[one]).video, clips[one], atol=1e-12)
    assert not torch.allclose(generator(noise, text.roll(1, 0)).video, clips)
    assert not torch.allclose(generator(noise.roll(1, 0), text).video, clips)
    assert clips.abs().max() <= 1.0


def test_a_generator_is_saved_and_loaded(tmp_path):
    generator = make_generator()
    generator.save_pretrained(tmp_path)
    loaded = SplitGenerator.from_pretrained(tmp_path)
    assert loaded.config == generator.config
    assert torch.equal(loaded(draw_noise()).video, generator(draw_noise()).video)


@pytest.mark.parametrize("size", [{"num_frames": 17}, {"height": 18}, {"height": 4, "width": 4}])
def test_sizes_that_doubling_does_not_reach(size):
    with pytest.raises(VidgenError, match="must be multiples of"):
        make_generator(**size)


def test_a_text_is_there_where_the_generator_reads_one():
    with pytest.raises(ValueError, match="needs a text"):
        make_generator(text_width=4)(draw_noise())
    with pytest.raises(ValueError, match="takes no text"):
        make_generator()(draw_noise(), torch.zeros(3, 4))


@torch.no_grad()
@pytest.mark.parametrize("channels", [4, 12, 13, 26])
def test_any_number_of_channels_goes(channels):
    assert make_generator(channels=channels)(draw_noise()).video.shape == (3, 3, 8, 16, 24)
