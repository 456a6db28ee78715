"""Restoration by a trained task, by projection and by both: a network whose answer under each task is known in pixels
comes out as that answer, as the clip that fits nearest to it, or as an error of one line."""

from types import SimpleNamespace

import pytest
import torch

from vidgen.data.frames import to_tensor
from vidgen.errors import VidgenError
from vidgen.pipelines.restoration import choose_guidance, choose_method, restore, sampled_frames
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.degradations import Blur, Downsample, Grayscale, Mask

FAST = dict(num_inference_steps=2, guidance_scale=1.0)
TASKS = ("text_to_video", "colorization", "super_resolution", "inpainting")
TINT = torch.tensor([0.25, -0.125, 0.0625])[:, None, None, None]  # of what is shown, and alone where nothing is


class Answers(torch.nn.Module):
    """A network that predicts x0: behind frames that are shown the same with a tint, and else the tint alone."""

    config = SimpleNamespace(patch=(1, 1, 1), task_names=TASKS)

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[str] = []

    def forward(self, x, t, text, labels):
        self.seen += [TASKS[i] for i in labels.task_id.tolist()]
        tint = 8 * TINT  # latents are eight times the pixels
        if self.seen[-1] in ("colorization", "super_resolution"):
            shown = x[:, :, : x.shape[2] // 2]
            return torch.cat([shown, shown + tint], dim=2)
        return tint.expand_as(x)


@pytest.fixture
def trained(chain_pipe) -> VideoPipeline:
    """A pipeline of pixels whose network is told four tasks."""
    plain = chain_pipe(16)
    return VideoPipeline(plain.vae, Answers(), plain.text_encoder, plain.scheduler)


def draw_clip() -> torch.Tensor:
    return 0.1 * torch.randn(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("degradation", [Grayscale(), Downsample(4)])
def test_each_method_gives_the_answer_that_it_stands_for(trained, degradation):
    y = degradation.apply(draw_clip())
    start = degradation.invert(y)
    tint = TINT.expand_as(start[0])[None]
    lost = tint - degradation.invert(degradation.apply(tint))  # of the tint, what y leaves open
    name = "colorization" if degradation == Grayscale() else "super_resolution"
    want = {
        "task": (start + tint, name),
        "both": (start + lost, name),
        "projection": (start + lost, "text_to_video"),
    }
    for by, (clip, task) in want.items():
        trained.transformer.seen.clear()
        latents = restore(trained, "", y, degradation, by=by, output_type="latent", **FAST).latents / 8
        torch.testing.assert_close(latents, clip, atol=1e-4, rtol=1e-4)
        assert set(trained.transformer.seen) == {task}
        frames = to_tensor(restore(trained, "", y, degradation, by=by, **FAST).frames[0])[None]
        torch.testing.assert_close(frames, clip, atol=1 / 127, rtol=0)
    chosen = restore(trained, "", y, degradation, output_type="latent", **FAST).latents / 8
    torch.testing.assert_close(chosen, start + lost, atol=1e-4, rtol=1e-4)
    assert trained.transformer.seen[-1] == name


def test_kept_cells_of_a_filled_clip_are_the_clips_own(trained):
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[:, 8:] = True
    clip = draw_clip()
    for by in ("task", "both"):
        latents = restore(trained, "", Mask(mask).apply(clip), Mask(mask), by=by, output_type="latent", **FAST).latents
        torch.testing.assert_close(latents[..., :8] / 8, clip[..., :8])
        torch.testing.assert_close(latents[..., 8:] / 8, TINT.expand_as(clip[0])[None, ..., 8:])
        assert set(trained.transformer.seen) == {"inpainting"}


def test_the_degraded_clip_takes_frames_only_where_it_is_shown(trained, pipe):
    mask = Mask(torch.ones(16, 16, dtype=torch.bool))
    assert [sampled_frames(trained, Grayscale(), 3, by) for by in (None, "task", "both", "projection")] == [6, 6, 6, 3]
    assert sampled_frames(trained, mask, 3) == sampled_frames(trained, Blur(), 3) == 3
    assert sampled_frames(pipe, Grayscale(), 5) == 5


def test_a_model_that_is_shown_the_clip_has_no_guidance_unless_it_is_asked_for(trained):
    assert [choose_guidance(by, "colorization") for by in ("projection", "task", "both")] == [None, 1.0, 1.0]
    assert choose_guidance("task", "colorization", 3.0) == 3.0 and choose_guidance("both", "inpainting") is None
    y = Grayscale().apply(draw_clip())
    asked = {"chosen": {}, "none": {"guidance_scale": 1.0}, "some": {"guidance_scale": 3.0}}
    passes = {}
    for name, guidance in asked.items():
        trained.transformer.seen.clear()
        restore(trained, "", y, Grayscale(), by="task", output_type="latent", num_inference_steps=2, **guidance)
        passes[name] = len(trained.transformer.seen)
    assert passes["chosen"] == passes["none"] == passes["some"] // 2  # heun: two passes a step, one in the last


def test_methods_that_a_model_lacks_are_one_line(trained, pipe):
    chosen = [choose_method(trained, Grayscale()), choose_method(trained, Blur()), choose_method(pipe, Grayscale())]
    assert chosen == ["both", "projection", "projection"]
    with pytest.raises(VidgenError, match="by task needs a model that was trained for deblurring, and this one was tr"):
        restore(trained, "", draw_clip(), Blur(), by="task")
    with pytest.raises(VidgenError, match=r"for colorization, .* for no generation tasks: restore by projection, or "):
        choose_method(pipe, Grayscale(), "both")
    with pytest.raises(VidgenError, match="restoration by 'magic' is unknown; choose of projection, task, both"):
        choose_method(pipe, Grayscale(), "magic")
