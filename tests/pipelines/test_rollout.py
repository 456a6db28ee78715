"""Long clips: windows that follow each other as the data do, pieces that are one clip, memory for one window."""

import gc

import numpy as np
import pytest
import torch

from vidgen.data.frames import fit_frame, to_tensor
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.pipelines.image_first import sample_image_first
from vidgen.pipelines.rollout import Draft, WindowConfig, reencode_context, rollout

FAST = dict(height=16, width=16, num_inference_steps=2, guidance_scale=1.0)
WINDOWS = WindowConfig(num_frames=13, overlap=2)  # 4 latent frames, 2 of them new


def together(pieces):
    pieces = list(pieces)
    return torch.cat([p.latents for p in pieces], dim=2), np.concatenate([p.frames for p in pieces]), pieces


@pytest.mark.parametrize("overlap", [1, 2])
def test_a_rollout_of_a_chain_is_the_chain(overlap, chain, chain_pipe):
    # The future of a chain depends on its last frame alone, so windows lose nothing.
    pipe = chain_pipe(32)
    latents, _, _ = together(
        rollout(pipe, "", 9, windows=WindowConfig(overlap=overlap), num_inference_steps=16, guidance_scale=1.0)
    )
    covariance = torch.cov(latents[0].transpose(0, 1).flatten(1))  # over 3 x 32 x 32 chains
    torch.testing.assert_close(covariance.double(), chain.covariance(9), atol=0.08, rtol=0)


def test_pieces_are_one_clip(pipe):
    latents, frames, pieces = together(rollout(pipe, "a star", 27, windows=WINDOWS, **FAST))
    assert [p.start for p in pieces] == [0, 13, 21] and frames.shape == (27, 16, 16, 3)
    assert latents.shape[2] == 8  # ceil(26 / 4) + 1
    assert np.array_equal(pipe.decode(latents, 27, 16, 16)[0], frames)


def test_windows_are_calls_of_the_pipeline(pipe):
    latents, frames, _ = together(rollout(pipe, "a star", 21, windows=WINDOWS, seed=3, **FAST))
    stream = sample_generator(3, 0)
    first = pipe("a star", num_frames=13, generator=[stream], **FAST)
    assert torch.equal(latents[:, :, :4], first.latents) and np.array_equal(frames[:13], first.frames[0])
    given = reencode_context(pipe, first.frames[0], first.latents[:, :, 2:], 4, 0.0)
    assert torch.equal(given.latents[:, :, 1], first.latents[:, :, 3])  # sampled, and kept as it is
    second = pipe("a star", num_frames=13, generator=[stream], conditioning=given, **FAST).latents
    torch.testing.assert_close(latents[:, :, 4:], second[:, :, 2:])


@pytest.mark.parametrize("overlap", [1, 3])
def test_a_longer_clip_begins_with_the_shorter_one(pipe, overlap):
    windows = WindowConfig(num_frames=13, overlap=overlap, context_noise=0.05)
    short = together(rollout(pipe, "a star", 18, windows=windows, **FAST))[1]
    long = together(rollout(pipe, "a star", 25, windows=windows, **FAST))[1]
    assert np.array_equal(long[:18], short) and len(long) == 25


def test_a_story_changes_its_prompt(pipe):
    story = [(0, "a star"), (13, "a red circle"), (20, "a blue square")]
    pieces = list(rollout(pipe, story, 29, windows=WINDOWS, **FAST))
    assert [(p.start, p.prompt) for p in pieces] == [(0, "a star"), (13, "a red circle"), (21, "a blue square")]
    plain = list(rollout(pipe, "a star", 21, windows=WINDOWS, **FAST))
    assert torch.equal(plain[0].latents, pieces[0].latents) and not torch.equal(plain[1].latents, pieces[1].latents)


def test_a_rollout_starts_from_an_image_or_goes_on_from_a_video(pipe):
    start = np.full((5, 16, 16, 3), 90, np.uint8)
    for given in ({"image": start[0]}, {"video": start}):
        first = next(rollout(pipe, "a star", 21, windows=WINDOWS, **given, **FAST))
        want = pipe("a star", num_frames=13, **given, **FAST)
        assert torch.equal(first.latents, want.latents)


def test_memory_does_not_grow(pipe):
    held = []
    pieces = rollout(pipe, "a star", 61, windows=WINDOWS, **FAST)
    gc.collect()
    gc.freeze()  # what is there already is not looked through again
    try:
        for piece in pieces:
            del piece
            held.append(sum(x.numel() for x in gc.get_objects() if type(x) is torch.Tensor))
    finally:
        gc.unfreeze()
    assert len(held) == 7 and max(held[1:]) == min(held[1:]) > 0


BAD = {
    "overlap": (
        {"windows": WindowConfig(num_frames=13, overlap=4)},
        "4 latent frames cannot overlap by 4; choose 1 to 3",
    ),
    "one latent": ({"windows": WindowConfig(num_frames=1)}, "1 latent frames cannot overlap by 1; make them longer"),
    "frames": ({"num_frames": 0}, "num_frames is 0"),
    "story": ({"prompt": [(3, "a star")]}, r"hold from frames \[3\]: the first must hold from 0"),
    "order": ({"prompt": [(0, "a"), (9, "b"), (9, "c")]}, r"\[0, 9, 9\].*each next from a later one"),
}


def test_windows_of_pure_noise_are_refused() -> None:
    with pytest.raises(VidgenError, match="context_noise=2.0 is not a number from 0 and below 1"):
        WindowConfig(num_frames=13, context_noise=2.0)


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_go_on_is_named(pipe, case):
    change, says = BAD[case]
    with pytest.raises(VidgenError, match=says):
        list(rollout(pipe, **{"prompt": "a star", "num_frames": 21, **FAST, **change}))


def test_image_first_gives_the_clip_its_own_first_frame(pipe):
    both = sample_image_first(pipe, ["a red circle", "a star"], num_frames=9, output_type="latent", **FAST).latents
    still = pipe("a star", num_frames=1, output_type="latent", **FAST).latents
    torch.testing.assert_close(both[1:, :, :1], still, atol=1e-5, rtol=0)
    alone = sample_image_first(pipe, "a star", num_frames=9, output_type="latent", **FAST).latents
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=0)


def test_a_draft_of_a_chain_is_refined_to_the_chain(chain, chain_pipe):
    # What a true clip becomes at noise level s, denoised, is a true clip again, and the nearer to the draft the less s.
    # Exactly so in the first window; later ones begin with frames that were refined, which the draft knows nothing of,
    # so that neighbours across a seam are less alike than they should be, the more so the less the draft was changed.
    pipe = chain_pipe(32)
    settings = {"windows": WindowConfig(overlap=1), "num_inference_steps": 16, "guidance_scale": 1.0}
    _, frames, _ = together(rollout(pipe, "", 5, **settings))
    coded, near = to_tensor(frames) * 8, []
    for strength in (0.3, 0.8):
        draft = Draft(frames=frames, strength=strength)
        out, _, _ = together(rollout(pipe, "", 5, draft=draft, seed=1, **settings))
        covariance = torch.cov(out[0].transpose(0, 1).flatten(1)).double()
        torch.testing.assert_close(covariance[:3, :3], chain.covariance(3), atol=0.08, rtol=0)
        assert 0.5 < covariance[2, 3] < 0.82 and (covariance.diag() - 1.0).abs().max() < 0.12
        near.append(torch.corrcoef(torch.stack([out[0].flatten(), coded.flatten()]))[0, 1].item())
    assert near[0] > 0.9 > near[1] > 0.1


def test_strength_one_is_a_plain_rollout_and_a_little_is_the_draft(pipe, waves):
    frames = waves(27, 8, 8)  # half of the clip's size each way
    plain, _, _ = together(rollout(pipe, "a star", 27, windows=WINDOWS, **FAST))
    whole = Draft(frames=frames, strength=1.0)
    assert torch.equal(together(rollout(pipe, "a star", 27, windows=WINDOWS, draft=whole, **FAST))[0], plain)
    little, made, pieces = together(
        rollout(pipe, "a star", 27, windows=WINDOWS, draft=Draft(frames=frames, strength=1e-4), **FAST)
    )
    upscaled = np.stack([fit_frame(frame, (16, 16)) for frame in frames])
    coded = pipe.vae.encode(to_tensor(upscaled[:13])[None]).latents
    torch.testing.assert_close(little[:, :, :4], coded, atol=5e-3, rtol=0)
    # The second window sees the draft from frame 8 on, the last one of its first latent.
    coded = pipe.vae.encode(to_tensor(upscaled[8:21])[None]).latents
    torch.testing.assert_close(pieces[1].latents, coded[:, :, 2:], atol=5e-3, rtol=0)
    assert made.shape == (27, 16, 16, 3)


def test_drafts_that_do_not_fit_are_named(pipe, waves):
    with pytest.raises(VidgenError, match="the draft has 9 frames, and the clip 13; ask for no more"):
        list(rollout(pipe, "a star", 13, draft=Draft(frames=waves(9, 16, 16), strength=0.5), **FAST))
    with pytest.raises(VidgenError, match="strength is 0; it must lie in"):
        Draft(frames=waves(9, 16, 16), strength=0)
