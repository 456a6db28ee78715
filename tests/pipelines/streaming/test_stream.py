"""Streams of a causal model: the same clip as the whole call, chunk by chunk, and a memory that does not grow."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.pipelines.streaming.chunk_sampler import CausalNetwork, ContextConfig
from vidgen.pipelines.video import VideoPipeline

FAST = dict(height=16, width=16, num_inference_steps=2)


@pytest.fixture(scope="module")
def pipe(tiny_pipelines) -> VideoPipeline:
    pipe = tiny_pipelines["make_random"]()
    torch.manual_seed(0)
    network = VideoDiT(replace(pipe.transformer.config, causal_chunks=(1, 2)))
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    pipe.transformer = network.eval().requires_grad_(False)
    return pipe


def together(chunks) -> tuple[torch.Tensor, np.ndarray, list]:
    chunks = list(chunks)
    return torch.cat([c.latents for c in chunks], dim=2), np.concatenate([c.frames for c in chunks]), chunks


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("num_frames", [1, 17, 26])
def test_a_stream_is_the_whole_call(pipe, num_frames, guidance_scale):
    latents, frames, chunks = together(pipe.stream("a star", num_frames, seed=3, guidance_scale=guidance_scale, **FAST))
    whole = pipe("a star", num_frames=num_frames, seed=3, guidance_scale=guidance_scale, **FAST)
    torch.testing.assert_close(latents, whole.latents, atol=1e-5, rtol=0)
    assert frames.shape == (num_frames, 16, 16, 3)
    assert np.abs(frames.astype(int) - whole.frames[0]).max() <= 1
    assert [c.start for c in chunks] == [0, 1, 9, 17, 25][: len(chunks)]


def test_a_longer_clip_begins_with_the_shorter_one_and_clips_do_not_depend_on_their_batch(pipe):
    short = together(pipe.stream("a star", 17, sampler="euler_ancestral", **FAST))[1]
    endless = pipe.stream("a star", sampler="euler_ancestral", **FAST)
    long = np.concatenate([next(endless).frames for _ in range(6)])
    assert np.array_equal(long[:17], short) and len(long) == 1 + 5 * 8
    several = pipe(["a ring", "a star"], num_frames=17, sampler="euler_ancestral", **FAST)
    assert np.abs(several.frames[1].astype(int) - short).max() <= 1


@pytest.mark.parametrize("passes", ["batched", "sequential"])
def test_both_ways_of_guidance_have_their_caches(pipe, passes):
    settings = dict(num_frames=17, guidance_scale=3.0, **FAST)
    one = pipe("a star", guidance_passes=passes, **settings).latents
    torch.testing.assert_close(one, pipe("a star", **settings).latents, atol=1e-5, rtol=0)


def test_a_new_prompt_holds_from_the_next_chunk_on(pipe):
    plain = together(pipe.stream("a star", 33, **FAST))[0]
    with pytest.warns(UserWarning, match="prompt of frame 12 holds from frame 17 on"):
        latents, _, chunks = together(pipe.stream([(0, "a star"), (12, "a red ring")], 33, **FAST))
    assert [c.prompt for c in chunks] == ["a star"] * 3 + ["a red ring"] * 2
    assert torch.equal(latents[:, :, :5], plain[:, :, :5]) and not torch.allclose(latents[:, :, 5:], plain[:, :, 5:])
    sent = pipe.stream("a star", 33, **FAST)
    parts = [next(sent), next(sent), next(sent), sent.send("a red ring"), next(sent)]
    assert torch.equal(torch.cat([part.latents for part in parts], dim=2), latents)


def test_after_a_switch_nothing_is_left_of_the_text_before(pipe):
    """The cache of a new text is that of a clip which had that text from its beginning."""
    past = torch.randn(1, 4, 5, 2, 2, generator=torch.Generator().manual_seed(0))
    x, t = past[:, :, :2] * 0.5, torch.tensor([0.7])
    text = {prompt: pipe.text_encoder([prompt]) for prompt in ("a star", "a red ring")}

    def predict(*prompts: str) -> torch.Tensor:
        network = CausalNetwork(pipe.transformer, pipe.path, window=8)
        cached = network.prepare_text(text[prompts[0]])
        for start, stop in [(0, 1), (1, 3), (3, 5)]:
            network.extend(past[:, :, start:stop])
        if len(prompts) > 1:
            network.texts.clear()
            cached = network.prepare_text(text[prompts[1]])
        return network(x, t, cached)

    assert torch.allclose(predict("a star", "a red ring"), predict("a red ring"), atol=1e-6)
    assert not torch.allclose(predict("a star"), predict("a red ring"), atol=1e-4)


def test_memory_does_not_grow(pipe):
    network = CausalNetwork(pipe.transformer, pipe.path, window=6, sinks=1)
    cached = network.prepare_text(pipe.text_encoder(["a star"]))
    sizes = set()
    for chunk in range(20):
        network.extend(torch.full((1, 4, 2, 2, 2), float(chunk)))
        tensors = [*cached.cache.layers[0], *cached.cache.layers[1], network.frames]
        sizes.add(tuple(x.untyped_storage().nbytes() for x in tensors))
    assert cached.cache.frames == 6 and network.frames.shape[2] == 6
    assert len(sizes) == 3  # two, four and then six frames, without anything behind a view
    assert network.frames[0, 0, :, 0, 0].tolist() == [0, 17, 18, 18, 19, 19]


def test_known_frames_are_kept(pipe):
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    known = pipe.vae.encode(image[None, :, None]).latents
    latents, _, _ = together(pipe.stream("a star", 17, image=image, **FAST))
    torch.testing.assert_close(latents[:, :, :1], known)
    assert not torch.allclose(latents[:, :, 1:], together(pipe.stream("a star", 17, **FAST))[0][:, :, 1:])


def test_noise_on_what_is_done(pipe):
    plain, noisy = (
        together(pipe.stream("a star", 17, context=ContextConfig(context_noise=level), **FAST))[0]
        for level in (0.0, 0.3)
    )
    assert torch.equal(plain[:, :, :1], noisy[:, :, :1])  # the first chunk has no past
    assert not torch.allclose(plain[:, :, 1:], noisy[:, :, 1:])


def test_what_cannot_be(pipe, tiny_pipelines):
    with pytest.raises(VidgenError, match="use rollout"):
        next(tiny_pipelines["make_random"]().stream("a star", 17))
    with pytest.raises(VidgenError, match="no room for 1 sinks and a chunk of 2"):
        next(pipe.stream("a star", 17, context=ContextConfig(window=2)))
    with pytest.raises(VidgenError, match="num_frames"):
        next(pipe.stream("a star", 0))
