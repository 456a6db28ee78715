"""Causal denoisers in training: chunks have levels of their own, and teacher forcing is what generation sees."""

import pytest
import torch

from vidgen.diffusion.noise import TimeDistribution, draw_normal
from vidgen.diffusion.paths import add_noise
from vidgen.errors import VidgenError
from vidgen.models.causal_attention import KVCache, chunk_ends
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.denoising_draws import draw_own_levels
from vidgen.train.tasks.diffusion import DiffusionTask

SMALL = [
    "cached_clips=4", "steps=2", "batch_size=2", "log_every=1", "validate_every=2", "checkpoint_every=2",
    "data.validation_clips=2", "data.num_frames=17", "data.size=[16,16]", "autocast=float32", "validation_levels=2",
    "optimizer={kind: adamw, lr: 0.01, warmup: 0}", "drop_text=0",
]  # fmt: skip


@pytest.fixture
def make(tiny_base):
    """Return a recipe on a tiny pipeline whose denoiser becomes causal."""
    base = tiny_base(SchedulerConfig())
    return lambda *more: load_recipe("diffusion_default", [*SMALL, *base, *more])


CAUSAL = ("model.causal_chunks=[1,2]", "teacher_forcing=1")


def test_a_trained_denoiser_becomes_causal_with_its_weights(make, tmp_path):
    task = DiffusionTask(make(*CAUSAL))
    base = load_pipeline(str(tmp_path / "base")).transformer
    assert task.transformer.config.causal_chunks == (1, 2) and base.config.causal_chunks == (0, 0)
    own = task.transformer.state_dict()
    assert all(torch.equal(own[name], value) for name, value in base.state_dict().items())


def test_levels_are_those_of_chunks():
    levels = draw_own_levels(TimeDistribution(), 64, 6, (1, 2), torch.Generator().manual_seed(0))
    assert torch.equal(levels[:, 1], levels[:, 2]) and torch.equal(levels[:, 3], levels[:, 4])
    assert len({round(value, 6) for value in levels[0].tolist()}) == 4
    plain = draw_own_levels(TimeDistribution(), 64, 6, (0, 0), torch.Generator().manual_seed(0))
    assert torch.equal(plain, TimeDistribution().sample((64, 6), torch.Generator().manual_seed(0)))


def test_teacher_forcing_is_the_loss_of_generation_after_the_true_past(make):
    task = DiffusionTask(make(*CAUSAL))
    x0 = torch.stack([task.dataset[(0, slot)].latents for slot in range(2)])
    frames = x0.shape[2]
    generator = torch.Generator().manual_seed(1)
    eps, t = draw_normal(x0.shape, generator), torch.tensor([0.3, 0.8])
    text = task.encode(["a star", "a ring"])
    model = task.transformer.eval()
    cache, errors, start = KVCache(), [], 0
    with torch.no_grad():
        loss = task.denoising_loss(x0, text, t, eps, after_clean=True)
        for end in chunk_ends(frames, (1, 2)):
            part = x0[:, :, start:end]
            x = add_noise(part, eps[:, :, start:end], t, task.path)
            levels = t[:, None].expand(-1, end - start)
            prediction = model(x, levels, text, layout=cache.layout(end - start))
            errors.append((prediction - (eps[:, :, start:end] - part)).square())
            model(part, torch.zeros_like(levels), text, layout=cache.layout(end - start, extend=True))
            start = end
    torch.testing.assert_close(loss, torch.cat(errors, dim=2).flatten(1).mean(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [CAUSAL, ("model.causal_chunks=[1,2]", "per_frame_noise=1")])
def test_a_run_ends_with_a_model_that_streams(make, settings):
    recipe = make(*settings)
    pipe = load_pipeline(str(Trainer(DiffusionTask(recipe), recipe).fit()))
    frames = [len(chunk.frames) for chunk in pipe.stream("a star", 17, height=16, width=16, num_inference_steps=2)]
    assert frames == [1, 8, 8]


def test_what_does_not_go_together(make):
    with pytest.raises(VidgenError, match="for causal denoisers"):
        DiffusionTask(make("teacher_forcing=0.5"))
    with pytest.raises(VidgenError, match="one with causal_chunks has no tasks"):
        DiffusionTask(make(*CAUSAL, "tasks={text_to_video: 1, image_to_video: 1}"))
