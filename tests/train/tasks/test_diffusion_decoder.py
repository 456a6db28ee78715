"""The denoising loss trains the encoder, learns clips that then come out of noise, and its runs resume bit for bit."""

import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.metrics import psnr
from vidgen.samplers.solvers import SAMPLERS
from vidgen.tokenizers.diffusion_decoder.model import DiffusionTokenizer
from vidgen.train.config.files import load_recipe
from vidgen.train.data.sources import collate
from vidgen.train.runtime.loop import Trainer, train
from vidgen.train.tasks.diffusion_decoder import DiffusionTokenizerTask
from vidgen.train.tasks.tokenizer import TokenizerTask

SMALL = [
    "preset=tiny", "steps=4", "batch_size=2", "log_every=1", "validate_every=2", "checkpoint_every=2",
    "autocast=float32", "validation_levels=2", "data.num_frames=5", "data.size=[16,16]", "data.validation_clips=2",
    "data.sources=[{kind: shapes}]",
    "model={patch_t: 2, patch: 4, width: 64, depth: 2, head_dim: 32, num_inference_steps: 6}",
]  # fmt: skip


@pytest.fixture
def make_task(tmp_path):
    def make(*more: str) -> DiffusionTokenizerTask:
        task = DiffusionTokenizerTask(load_recipe("diffusion_tokenizer", [*SMALL, f"out={tmp_path / 'run'}", *more]))
        task.model.train()
        return task

    return make


def batch_of(task, count: int = 2):
    return collate([task.dataset[(0, slot)] for slot in range(count)])


def test_gradients_reach_the_encoder(make_task):
    task = make_task("bottleneck=0")
    with torch.no_grad():  # out of the zero start, where the output does not depend on anything
        torch.nn.init.normal_(task.model.denoiser.patch_out.weight, std=0.05)
    loss, _ = task.loss(batch_of(task), sample_generator(0))
    loss.backward()
    silent = [n for n, p in task.model.tokenizer.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [name for name in silent if name.startswith("encoder.")], silent


def test_a_fresh_loss_is_the_power_of_the_target(make_task):
    """The zero start predicts x0 = 0: the loss is the mean square of the clip's own pixels, whatever was repeated to
    fill patches, and of all frames but the first where that one is given."""
    task = make_task()
    video = torch.rand(2, 3, 4, 15, 13) * 2 - 1
    latents, t = task.model.encode(video).latents, torch.tensor([0.3, 1.0])
    loss = task.denoising_loss(video, latents, t, torch.tensor([False, True]), sample_generator(0))
    expected = torch.stack([video[0].square().mean(), video[1, :, 1:].square().mean()])
    assert torch.allclose(loss, expected, atol=1e-6)


def test_levels_follow_the_objective(make_task):
    g = sample_generator(0)
    t, held = make_task("model.hold_first=0.4").draw_levels(4000, 5, g)
    assert t.max() < 1 and t.std() > 0.1 and held.float().mean() == pytest.approx(0.4, abs=0.03)
    task = make_task("objective=regression", "model.hold_first=0.4")
    assert torch.equal(task.draw_levels(5, 5, g)[0], torch.ones(5)) and not task.draw_levels(50, 1, g)[1].any()
    assert set(task.validate()) == {"loss", "psnr", "loss@t=1.000"}


@pytest.mark.slow
def test_two_clips_are_learned_and_come_out_of_noise_by_their_features(make_task):
    """Overfit: sampled clips reach 20 dB, each by its own features and not by those of the other."""
    task = make_task("model.hold_first=0.25")
    batch = batch_of(task)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=3e-3)
    for step in range(300):
        loss, _ = task.loss(batch, sample_generator(0, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    video, encoded = batch["video"], task.model.encode(batch["video"])
    exchanged = dataclasses.replace(encoded, latents=encoded.latents.flip(0))
    for seed in (0, 5):
        out, swapped = (task.model.decode(e, SAMPLERS["euler"], seed=seed).clamp(-1, 1) for e in (encoded, exchanged))
        assert (psnr(out, video) > 20).all(), psnr(out, video)
        assert (psnr(swapped, video.flip(0)) > 20).all(), psnr(swapped, video.flip(0))
        assert (psnr(swapped, video) < psnr(out, video) - 5).all()


@pytest.mark.slow
def test_stop_and_resume_equals_not_stopping(make_task, tmp_path):
    whole = make_task()
    train(whole.recipe)
    short = make_task(f"out={tmp_path / 'stopped'}").recipe
    trainer = Trainer(DiffusionTokenizerTask(short), short)
    for slot in range(2):
        trainer.train_step(trainer.task.gather([trainer.task.dataset[(slot, i)] for i in range(2)]))
        trainer.step += 1
    trainer.save()
    del trainer
    final = train(short)
    for name in ("model", "ema"):
        one, two = (load_file(tmp_path / out / "checkpoint-4" / f"{name}.safetensors") for out in ("run", "stopped"))
        assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one), name
    saved = DiffusionTokenizer.from_pretrained(final)
    assert saved.config.window == 3 and not torch.equal(saved.tokenizer.latents_std, torch.ones(4))
    again = make_task(f"init_from={final}", f"out={tmp_path / 'second'}")
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), again.model.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in again.model.parameters())


def test_the_encoder_starts_as_that_of_the_reconstruction_task(make_task, tmp_path):
    ours = make_task().model.tokenizer.encoder.state_dict()
    shared = [setting for setting in SMALL if not setting.startswith(("model", "validation_levels"))]
    task = TokenizerTask(load_recipe("tokenizer_natural", [*shared, f"out={tmp_path / 'other'}"]))
    theirs = task.model.encoder.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("objective=magic", "objective='magic' is unknown; choose one of denoising, regression"),
        ("preset=magic", "preset 'magic' is unknown"),
        ("tokenizer.colour=3", "tokenizer.colour is not a tokenizer setting"),
        ("model.colour=3", "recipe key `model`: unknown keys colour"),
        ("model.patch=3", "do not divide"),
        ("validation_levels=0", "validation_levels=0"),
    ],
)
def test_settings_that_cannot_be_are_named(make_task, setting, says):
    with pytest.raises(VidgenError, match=says):
        make_task(setting)
