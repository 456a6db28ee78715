"""Control with a tokenizer that keeps pixels: what is asked for is in the clip exactly where the model has no say."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import vidgen
from vidgen.diffusion.noise import TimeDistribution, sample_generator
from vidgen.diffusion.paths import FlowPath
from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.control import animation
from vidgen.pipelines.control.animation import animate
from vidgen.pipelines.control.clip_motion import clip_noise, match_motion
from vidgen.pipelines.control.editing import SOURCE_SCALE, edit_video
from vidgen.pipelines.control.paths import follow_path, led_cells
from vidgen.pipelines.control.pictures import encode_pixels, find_subject
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.control.trajectories import Trajectory, drag_box

FAST = dict(num_inference_steps=2, guidance_scale=1.0)
RIGHT = Trajectory(((0.0, 0.0), (4.0, 0.0)))
STILL = Trajectory(((0.0, 0.0), (0.0, 0.0)))


@pytest.fixture(scope="module")
def pixel_pipe(tiny_pipelines):
    """A pipeline with random weights whose latents are eight times the pixels."""
    torch.manual_seed(0)
    transformer = VideoDiT(VideoDiTConfig(latent_channels=3, width=32, depth=2, head_dim=16, text_width=16))
    for value in transformer.parameters():
        value.data += 0.1 * torch.randn(value.shape)
    text_encoder = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16))
    schedule = SchedulerConfig(num_frames=5, height=16, width=16, time_distribution=TimeDistribution(shift=1.5))
    parts = [part.eval().requires_grad_(False) for part in (tiny_pipelines["Pixels"](), transformer, text_encoder)]
    return VideoPipeline(*parts, schedule)


def picture():
    return torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) - 0.5


@pytest.mark.parametrize("warp_at", [0.0, 0.5])
def test_pictures_that_do_not_move_are_all_the_same(pixel_pipe, warp_at):
    settings = {"subject": False, "warp_at": warp_at, "start": 0.7, "output_type": "latent", **FAST}
    latents = animate(pixel_pipe, "a star", STILL, **settings).latents
    assert latents.shape == (1, 3, 5, 16, 16)
    torch.testing.assert_close(latents, latents[:, :, :1].expand_as(latents), atol=1e-4, rtol=0)
    others = animate(pixel_pipe, "a star", STILL, shared_noise=False, **settings).latents
    assert (others - others[:, :, :1]).abs().max() > 1e-2


def test_with_hardly_any_noise_pictures_move_by_whole_pixels(pixel_pipe):
    settings = {"subject": False, "start": 1e-4, "output_type": "latent", **FAST}
    latents = animate(pixel_pipe, "a star", RIGHT, image=picture(), **settings).latents[0] / 8
    for k in range(5):
        torch.testing.assert_close(latents[:, k, :, k:], picture()[:, :, : 16 - k], atol=5e-3, rtol=0)


@pytest.mark.slow
def test_wan_makes_pictures_that_are_all_the_same_where_none_moves(published, monkeypatch):
    pipe, pictures = vidgen.load_pipeline(str(published("wan-native")[0])), []

    def watch(pipe, video):
        pictures.append(video)
        return encode_pixels(pipe, video)

    monkeypatch.setattr(animation, "encode_pixels", watch)
    size = {"num_frames": 5, "height": 32, "width": 32}
    clip = animate(pipe, "a star", STILL, subject=False, blocks=None, **size, **FAST)
    assert clip.frames[0].shape == (5, 32, 32, 3)
    torch.testing.assert_close(pictures[-1], pictures[-1][:, :, :1].expand_as(pictures[-1]), atol=1e-4, rtol=0)


def test_a_clip_of_pictures_does_not_depend_on_others(pixel_pipe):
    settings = {"subject": False, "output_type": "latent", **FAST}
    streams = [sample_generator(0, k) for k in range(2)]
    both = animate(pixel_pipe, ["a star", "a ring"], RIGHT, generator=streams, **settings).latents
    one = animate(pixel_pipe, "a ring", RIGHT, generator=[sample_generator(0, 1)], **settings).latents
    assert torch.equal(both[1:], one)


def test_levels_that_do_not_rise_are_refused(pixel_pipe):
    with pytest.raises(VidgenError, match="levels must rise"):
        animate(pixel_pipe, "a star", RIGHT, warp_at=0.7, start=0.6)
    with pytest.raises(VidgenError, match="an image is given: leave it at 0"):
        animate(pixel_pipe, "a star", RIGHT, warp_at=0.3, image=picture())
    with pytest.raises(VidgenError, match="release 0.9 and strength 0.8"):
        follow_path(pixel_pipe, "a star", RIGHT, release=0.9)
    with pytest.raises(VidgenError, match="box 4,4,40,8 is none of a picture of 16x16"):
        follow_path(pixel_pipe, "a star", RIGHT, image=picture(), box=(4, 4, 40, 8), **FAST)


def test_with_hardly_any_noise_a_path_is_the_dragged_cut_out(pixel_pipe):
    path, box = Trajectory(((6.0, 6.0), (10.0, 6.0))), (4.0, 4.0, 8.0, 8.0)
    settings = {"image": picture(), "box": box, "strength": 1e-4, "release": 0.0, "output_type": "latent", **FAST}
    latents = follow_path(pixel_pipe, "a star", path, **settings).latents[0] / 8
    crude, pasted = drag_box(picture(), box, path.positions(5) - 6.0)
    torch.testing.assert_close(latents[:, pasted], crude[:, pasted].float())  # led to the end
    torch.testing.assert_close(latents, crude.float(), atol=5e-3, rtol=0)


def test_cells_are_led_by_the_share_of_their_pixels():
    pasted = torch.zeros(5, 8, 8, dtype=torch.bool)
    pasted[0, :4, :4] = True  # all of the first cell in the first latent frame
    pasted[1:3, 4:, :2] = True  # a quarter of the one below in the second
    assert led_cells(pasted, 4, 4).nonzero().tolist() == [[0, 0, 0]]
    pasted[3, 4:, :2] = True  # three eighths
    assert led_cells(pasted, 4, 4).nonzero().tolist() == [[0, 0, 0], [1, 1, 0]]


def test_the_subject_is_where_the_prompt_makes_a_difference():
    patch = torch.zeros(8, 8)
    patch[2:4, 4:6] = 1.0
    vae = SimpleNamespace(config=SimpleNamespace(spatial_compression_ratio=8))

    def unguided(prompts):
        return lambda x, t: x + patch if prompts[0] else x

    pipe = SimpleNamespace(vae=vae, path=FlowPath(), unguided=unguided)
    left, top, right, bottom = find_subject(pipe, "a star", torch.zeros(1, 3, 1, 8, 8))
    assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((40.0, 24.0)) and right - left == pytest.approx(16)
    with pytest.raises(VidgenError, match="sees nothing of ''"):
        find_subject(pipe, "", torch.zeros(1, 3, 1, 8, 8))


def test_noise_of_a_clip_at_rest_rests_and_follows_one_that_moves(pixel_pipe, waves):
    rest = np.repeat(waves(1, 16, 16), 5, axis=0)
    noise = clip_noise(pixel_pipe, rest, [sample_generator(0)])
    torch.testing.assert_close(noise, noise[:, :, :1].expand_as(noise), atol=1e-4, rtol=0)
    moving = np.stack([np.roll(waves(1, 32, 48)[0], 2 * k, axis=1) for k in range(5)])
    field = match_motion(moving)
    assert torch.equal(field[0, :, 2, 8:24, 16:40], torch.tensor([-4.0, 0.0])[:, None, None].expand(2, 16, 24))


@pytest.mark.parametrize("method", ["flow_edit", "inversion"])
def test_the_same_prompt_gives_the_clip_back(chain_pipe, waves, method):
    # the model of a chain reads no prompt, so every prompt is the same
    pipe = chain_pipe(16)
    video = torch.from_numpy(0.1 * np.random.default_rng(0).standard_normal((3, 3, 16, 16))).float()
    settings = {"num_inference_steps": 40, "guidance_scale": SOURCE_SCALE, "output_type": "latent"}
    out = edit_video(pipe, "a star", video, "a ring", method=method, **settings).latents[0] / 8
    torch.testing.assert_close(out, video, atol=1e-4 if method == "flow_edit" else 0.05, rtol=0)


def test_methods_that_are_none_are_refused(chain_pipe):
    with pytest.raises(VidgenError, match="method 'magic' is unknown; choose one of flow_edit, inversion"):
        edit_video(chain_pipe(16), "a star", torch.zeros(3, 3, 16, 16), "a ring", method="magic")
