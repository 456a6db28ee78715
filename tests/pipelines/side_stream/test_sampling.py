"""Sampling of clips with a side stream: what is known stays, and of a clip alone it is the pipeline's own sampling."""

import numpy as np
import pytest
import torch

from vidgen.data.shapes import ShapeWorldConfig, WalkWorld
from vidgen.data.shapes.walks import walk_actions
from vidgen.diffusion.noise import draw_per_sample, sample_generator
from vidgen.errors import VidgenError
from vidgen.models.dit.joint_network import with_side_stream
from vidgen.pipelines.side_stream.sampling import decode_clips, encode_clips, sample_side_stream
from vidgen.pipelines.side_stream.scores import score_side_stream
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning

FRAMES = 9  # three latent frames
STEPS = {"num_inference_steps": 3, "num_frames": FRAMES}


@pytest.fixture(scope="module")
def side_pipe(pipe) -> VideoPipeline:
    torch.manual_seed(1)
    transformer = with_side_stream(pipe.transformer, 8)
    torch.nn.init.normal_(transformer.side.values_out.weight, std=0.1)
    s = pipe.scheduler.__class__(height=32, width=32, num_frames=FRAMES)
    return VideoPipeline(pipe.vae, transformer, pipe.text_encoder, s)


@pytest.fixture(scope="module")
def known() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, 3, 4, 4, generator=g), torch.randn(2, FRAMES, 2, generator=g)


def test_what_is_known_stays_and_what_is_asked_for_comes(side_pipe, known):
    latents, side = known
    forward = sample_side_stream(side_pipe, "forward", ["a", "b"], latents=latents, side=side, context=1, **STEPS)
    assert forward.side is None and torch.equal(forward.latents[:, :, :1], latents[:, :, :1])
    assert not torch.allclose(forward.latents[:, :, 1:], latents[:, :, 1:], atol=0.1)
    policy = sample_side_stream(side_pipe, "policy", ["a", "b"], latents=latents, context=2, **STEPS)
    assert policy.latents is None and policy.side.shape == side.shape
    joint = sample_side_stream(side_pipe, "joint", ["a", "b"], **STEPS)
    assert joint.latents.shape == latents.shape and joint.side.shape == side.shape


def test_a_mode_reads_what_it_starts_from_and_nothing_else(side_pipe, known):
    latents, side = known
    later = latents.clone()
    later[:, :, 2:] += 1.0

    def run(mode: str, latents: torch.Tensor, side: torch.Tensor | None = None, context: int = 2):
        out = sample_side_stream(side_pipe, mode, ["a", "b"], latents=latents, side=side, context=context, **STEPS)
        return out.latents if out.side is None else out.side

    assert torch.equal(run("policy", latents), run("policy", later))
    assert not torch.equal(run("inverse", latents), run("inverse", later))
    assert torch.equal(run("video", latents), run("video", later))
    assert not torch.equal(run("forward", latents, side), run("forward", latents, side + 1.0))


def test_a_clip_does_not_depend_on_its_batch(side_pipe, known):
    latents, _ = known
    both = sample_side_stream(side_pipe, "inverse", ["a", "b"], latents=latents, **STEPS).side
    alone = sample_side_stream(side_pipe, "inverse", ["a"], latents=latents[:1], **STEPS).side
    assert torch.allclose(both[:1], alone, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_video_alone_is_the_pipelines_own_sampling(side_pipe, known, scale):
    latents, _ = known
    seeds = [sample_generator(5, i) for i in range(2)]
    noise = draw_per_sample(latents.shape[1:], seeds)
    past = FrameConditioning.of_first(latents[:, :, :1], 3)
    own = side_pipe(
        ["a", "b"], latents=noise, conditioning=past, num_frames=FRAMES, num_inference_steps=3, guidance_scale=scale,
        output_type="latent",
    ).latents  # fmt: skip
    video = sample_side_stream(
        side_pipe, "video", ["a", "b"], latents=latents, context=1, seed=5, guidance_scale=scale, **STEPS
    )
    assert video.side is None
    assert torch.allclose(video.latents, own, atol=1e-5)


def test_what_cannot_be_sampled_says_so(pipe, side_pipe, known):
    latents, side = known
    for mode, settings, line in (
        ("inverse", {}, "mode inverse starts from latents"),
        ("forward", {"latents": latents, "context": 1}, "mode forward starts from side"),
        ("policy", {"latents": latents}, "mode policy: a context of 0"),
        ("forward", {"latents": latents, "side": side[:, :8]}, "8 frames ends within a latent frame"),
        ("forward", {"latents": latents, "side": side[:, :5]}, "give one of each a clip"),
        ("inverse", {"latents": latents[:1]}, "2 prompts, latents"),
    ):
        with pytest.raises(VidgenError, match=line):
            sample_side_stream(side_pipe, mode, ["a", "b"], **settings, **STEPS)
    with pytest.raises(VidgenError, match="has no side stream"):
        sample_side_stream(pipe, "joint", ["a"], **STEPS)


def test_scores_of_clips_that_are_known(side_pipe):
    """Answers without a model have the errors that the labels say, and every clip is measured and shown."""
    world = WalkWorld(ShapeWorldConfig(height=32, width=32, num_frames=FRAMES, split="held_out"))
    videos: dict[str, list[np.ndarray]] = {}

    def look(name: str, clips: list[np.ndarray]) -> None:
        videos.setdefault(name, []).extend(clips)

    report = score_side_stream(side_pipe, world, 3, batch_size=2, num_inference_steps=1, look=look)
    assert report["n"] == 3 and report["actions"]["inverse"]["n"] == 3
    assert {name: len(clips) for name, clips in videos.items()} == dict.fromkeys(videos, 3)
    moved = [world[i].labels.objects[0].position for i in range(3)]
    still = np.mean([np.linalg.norm(path - path[0], axis=1)[1:].mean() for path in moved])
    assert abs(report["position"]["still"]["mean"] - still) < 1e-9
    truth = [walk_actions(path, 32) for path in moved]
    assert abs(report["actions"]["inverse zero"]["mean"] - np.mean([abs(a[1:]).mean() for a in truth])) < 1e-9
    keep = np.mean([abs(a[5:9] - a[4]).mean() for a in truth])  # after two latent frames, five of the clip's
    assert abs(report["actions"]["policy keep"]["mean"] - keep) < 1e-9
    assert np.array_equal(videos["truth redrawn"][0][0], videos["truth"][0][0])
    clip = torch.from_numpy(world[0].video).permute(3, 0, 1, 2)[None] / 127.5 - 1
    assert decode_clips(side_pipe, encode_clips(side_pipe, clip), FRAMES)[0].shape == (FRAMES, 32, 32, 3)
