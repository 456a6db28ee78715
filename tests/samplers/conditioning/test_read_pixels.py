"""Pixels as conditions: they come out as the tokenizer codes them, and where they do not fit they are named."""

import numpy as np
import pytest
import torch

from vidgen.data.frames import to_tensor
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.read_pixels import latent_mask, read_frame_conditioning, spread_frames

SIZE = (9, 32, 16)  # 3 latent frames of 4x2 cells
FAST = dict(num_frames=9, height=32, width=16, num_inference_steps=2, guidance_scale=3.0, output_type="latent")


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """Frames of smooth noise."""
    coarse = np.random.default_rng(0).integers(0, 256, (9, 4, 2, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def encode(pipe, frames) -> torch.Tensor:
    with torch.inference_mode():
        return pipe.vae.encode(to_tensor(frames)[None]).latents


def test_an_image_is_the_first_latent_frame(pipe, video):
    out = pipe(["a star", "a red circle"], image=video[0], **FAST).latents
    torch.testing.assert_close(out[:, :, :1], encode(pipe, video[:1]).expand(2, -1, -1, -1, -1))
    free = pipe(["a star", "a red circle"], **FAST).latents
    assert not torch.allclose(out[:, :, 1:], free[:, :, 1:], atol=1e-3)  # the others notice


def test_a_last_image_is_the_end_of_a_still(pipe, video):
    out = pipe("a star", image=video[0], last_image=video[8], **FAST).latents
    still = encode(pipe, np.concatenate([video[:1], video[8:].repeat(8, axis=0)]))
    assert torch.equal(out[:, :, 0], still[:, :, 0]) and torch.equal(out[:, :, 2], still[:, :, 2])


def test_frames_anywhere_and_all_of_a_latent_frame(pipe, video):
    # Frames 5 to 8 are latent frame 2 whole: given after a still of frame 5, they are coded as they are.
    given = {k: video[k] for k in range(5, 9)}
    out = pipe("a star", frames=given, **FAST).latents
    want = encode(pipe, np.concatenate([video[5:6].repeat(5, axis=0), video[5:]]))
    torch.testing.assert_close(out[:, :, 2], want[:, :, 2])


def test_a_clip_does_not_depend_on_its_batch(pipe, video):
    settings = FAST | {"image": video[0], "sampler": "euler_ancestral"}
    both = pipe(["a red circle", "a star"], num_videos_per_prompt=2, **settings).latents
    alone = pipe("a star", generator=[sample_generator(0, 1)], **settings).latents
    torch.testing.assert_close(both[3:], alone, atol=1e-4, rtol=0)


def test_a_video_is_continued_from_its_last_frames(pipe, video):
    out = pipe("a star", video=video[:7], **FAST).latents  # of 7 frames the last 1 + 4
    torch.testing.assert_close(out[:, :, :2], encode(pipe, video[2:7]))
    ending = pipe("a star", video=video[:5], last_image=video[8], **FAST).latents
    torch.testing.assert_close(ending[:, :, :2], encode(pipe, video[:5]))


def test_strength_goes_from_the_video_to_the_prompt_alone(pipe, video):
    little = pipe("a star", video=video, strength=1e-4, **FAST).latents
    torch.testing.assert_close(little, encode(pipe, video), atol=5e-3, rtol=0)
    assert torch.equal(pipe("a star", video=video, strength=1.0, **FAST).latents, pipe("a star", **FAST).latents)


def test_a_mask_of_zeros_is_the_video_and_of_ones_the_prompt_alone(pipe, video):
    ones, zeros = np.ones(SIZE, np.uint8), np.zeros(SIZE[1:], bool)
    assert torch.equal(pipe("a star", video=video, mask=zeros, **FAST).latents, encode(pipe, video))
    out = pipe("a star", video=video, mask=ones, **FAST).latents
    assert torch.equal(out, pipe("a star", **FAST).latents)


def test_a_mask_keeps_its_cells(pipe, video):
    mask = torch.ones(SIZE[1:])
    mask[:17] = 0.0  # two rows of cells, and a pixel of the third
    out, want = pipe("a star", video=video, mask=mask, **FAST).latents, encode(pipe, video)
    assert torch.equal(out[..., :2, :], want[..., :2, :])
    assert not torch.isclose(out[..., 2:, :], want[..., 2:, :]).all()


def test_cells_are_known_where_all_their_pixels_are():
    kept = torch.ones(7, 16, 24, dtype=torch.bool)
    assert latent_mask(kept, 4, 8).shape == (3, 2, 3) and latent_mask(kept, 4, 8).all()
    kept[4, 3, 20] = False  # of latent frame 1, frames 1 to 4
    unknown = (~latent_mask(kept, 4, 8)).nonzero().tolist()
    assert unknown == [[1, 0, 2]]


def test_gaps_hold_what_is_near_in_the_latent_frame_and_then_what_comes():
    given = {place: torch.full((3, 1, 1), float(place)) for place in (0, 6, 8)}
    assert spread_frames(given, 13, 4)[0, :, 0, 0].tolist() == [0, 6, 6, 6, 6, 6, 6, 8, 8, 8, 8, 8, 8]


def test_latents_may_be_given_instead(pipe, video):
    latents = encode(pipe, video)
    given = FrameConditioning(latents=latents, known=torch.tensor([True, False, False])[:, None, None].expand(3, 4, 2))
    want = pipe("a star", image=video[0], **FAST).latents
    torch.testing.assert_close(pipe("a star", conditioning=given, **FAST).latents, want)
    with pytest.raises(VidgenError, match="stands in place of images"):
        pipe("a star", conditioning=given, image=video[0], **FAST)


BAD = {
    "outside": (lambda v: {"frames": {9: v[0]}}, "frame 9 lies outside the clip, whose 9 frames are 0 to 8"),
    "no number": (lambda v: {"frames": {"x": v[0]}}, "frame x lies outside the clip"),
    "twice": (lambda v: {"image": v[0], "frames": {0: v[1]}}, "frame 0 is given twice"),
    "image size": (lambda v: {"image": v[0, :16]}, r"frame 0 is of shape \(16, 16, 3\); uint8 \(32, 16, 3\) is wanted"),
    "no image": (lambda v: {"last_image": "dog.png"}, "frame 8 is str"),
    "video size": (lambda v: {"video": v[:5, :16]}, r"the video is of shape \(5, 16, 16, 3\)"),
    "video layout": (lambda v: {"video": v[0]}, r"the video is of shape \(32, 16, 3\)"),
    "nothing left": (lambda v: {"video": v}, "9 frames and the clip 9, so nothing is left to continue"),
    "length": (lambda v: {"video": v[:5], "strength": 0.5}, "5 frames and the clip 9; make num_frames"),
    "mask size": (lambda v: {"video": v, "mask": np.ones((4, 4))}, r"the mask is \(4, 4\); \(32, 16\) is wanted"),
    "mask alone": (lambda v: {"mask": np.ones((32, 16))}, "a mask says what becomes of a video"),
    "strength alone": (lambda v: {"image": v[0], "strength": 0.5}, "strength says what becomes of a video"),
    "strength 0": (lambda v: {"video": v, "strength": 0.0}, r"strength is 0.0; it must lie in \(0, 1\]"),
    "strength 2": (lambda v: {"video": v, "strength": 2.0}, r"strength is 2.0; it must lie in \(0, 1\]"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named(pipe, video, case):
    change, says = BAD[case]
    with pytest.raises(VidgenError, match=says):
        read_frame_conditioning(pipe.vae, SIZE, **change(video))
