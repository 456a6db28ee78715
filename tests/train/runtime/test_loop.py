"""Stopping is not noticed: killed, interrupted or resumed, a run ends with the same weights, bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from vidgen.errors import VidgenError
from vidgen.models import placement
from vidgen.pipelines.loading import load_tokenizer
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.checkpoints import checkpoint_steps
from vidgen.train.runtime.divergence import TrainingDiverged
from vidgen.train.runtime.loop import Trainer, train
from vidgen.train.runtime.optimizers import learning_rate
from vidgen.train.tasks.tokenizer import TokenizerTask

RUN = """
import sys
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import train
train(load_recipe(sys.argv[1], sys.argv[2:]))
"""


def same(a: Path, b: Path) -> bool:
    one, two = load_file(a), load_file(b)
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


GAME = [
    "adversarial.weight=0.1", "adversarial.kinds=[2d,3d]", "adversarial.width=4", "adversarial.depth=2",
    "adversarial.settle_steps=2", "adversarial.settle_gain=0.5", "adversarial.ramp=20", "adversarial.lecam=0.01",
    "adversarial.r1=0.1", "adversarial.r1_every=3", "gradient_checkpointing=true", "loss.wavelet=0.5",
    "data.sources=[{kind: shapes, share: 0.7}, {kind: shapes, share: 0.3, num_frames: 1}]",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "more"), [(signal.SIGKILL, GAME), (signal.SIGINT, [])])
def test_stop_and_resume_equals_not_stopping(tokenizer_recipe, tmp_path, stop, more):
    name, overrides = tokenizer_recipe
    settings = [*more, "steps=60", "checkpoint_every=3", "validate_every=60", "keep_checkpoints=30"]
    long = [*overrides, *settings]
    stopped = [*overrides, *settings, f"out={tmp_path / 'stopped'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", RUN, name, *stopped], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not checkpoint_steps(tmp_path / "stopped") and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(stop)
    process.wait()
    at = checkpoint_steps(tmp_path / "stopped")
    assert at and at[-1] < 60, "the run was to be stopped in the middle"
    for arguments in (stopped, long):
        subprocess.run([sys.executable, "-c", RUN, name, *arguments], env=environment, check=True, capture_output=True)
    for part in ("checkpoint-60/model.safetensors", "checkpoint-60/ema.safetensors"):
        assert same(tmp_path / "stopped" / part, tmp_path / "run" / part)
    if more:
        one, two = (torch.load(tmp_path / out / "checkpoint-60" / "task.pt") for out in ("stopped", "run"))
        assert one["adversary"]["age"] == two["adversary"]["age"] > 0
        assert same(*(tmp_path / out / "final" / "discriminators.safetensors" for out in ("stopped", "run")))
    assert not list((tmp_path / "stopped").glob(".*")) or stop == signal.SIGKILL


@pytest.mark.slow
def test_run_folder_is_complete_and_loads(tokenizer_recipe, tmp_path):
    name, overrides = tokenizer_recipe
    final = train(load_recipe(name, overrides))
    assert checkpoint_steps(tmp_path / "run") == [4, 6]  # the oldest is gone
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in rows if "loss" in r] == [1, 2, 3, 4, 5, 6]
    assert [r["step"] for r in rows if "validation_psnr" in r] == [3, 6]
    tokenizer = load_tokenizer(str(final), dtype=torch.float32)
    assert not torch.equal(tokenizer.latents_std, torch.ones_like(tokenizer.latents_std))
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    assert tokenizer(video).shape == video.shape


@pytest.mark.slow
def test_training_the_decoder_keeps_the_latents(tokenizer_recipe, tmp_path):
    name, overrides = tokenizer_recipe
    first = train(load_recipe(name, overrides))
    second = train(load_recipe(name, [*overrides, "part=decoder", f"init_from={first}", f"out={tmp_path / 'second'}"]))
    before, after = (load_tokenizer(str(folder), dtype=torch.float32).state_dict() for folder in (first, second))
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed and all(key.startswith("decoder.") for key in changed)


def test_loss_that_is_not_finite_changes_neither_the_weights_nor_the_checkpoint(tokenizer_recipe, tmp_path):
    name, overrides = tokenizer_recipe
    recipe = load_recipe(name, overrides)
    trainer = Trainer(TokenizerTask(recipe), recipe)
    good = trainer.save()
    with torch.no_grad():
        trainer.main.parameters[0].fill_(float("nan"))
    before = [p.detach().clone() for p in trainer.main.parameters[1:]]
    with pytest.raises(TrainingDiverged, match="loss nan is not finite"):
        trainer.train_step(trainer.task.gather([trainer.task.dataset[(0, 0)]]))
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.main.parameters[1:], strict=True))
    assert all(torch.isfinite(v).all() for v in load_file(good / "model.safetensors").values())


@pytest.mark.slow
def test_checkpoint_of_another_model_is_refused(tokenizer_recipe):
    name, overrides = tokenizer_recipe
    train(load_recipe(name, [*overrides, "steps=2"]))
    with pytest.raises(VidgenError, match="another model"):
        train(load_recipe(name, [*overrides, "steps=2", "model.latent_channels=6"]))
    run = Path(load_recipe(name, overrides).out)
    (run / "checkpoint-2" / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(VidgenError, match="checkpoint-2 is damaged"):
        train(load_recipe(name, [*overrides, "steps=2"]))


@pytest.mark.slow
def test_a_run_recorded_before_a_key_existed_goes_on(tokenizer_recipe, tmp_path):
    name, overrides = tokenizer_recipe
    train(load_recipe(name, [*overrides, "steps=2"]))
    recorded = tmp_path / "run" / "config.yaml"
    old = OmegaConf.load(recorded)
    for key in ("gradient_checkpointing", "adversarial", "guard"):
        old.pop(key)
    OmegaConf.save(old, recorded)
    recipe = load_recipe(name, [*overrides, "steps=2"])
    assert Trainer(TokenizerTask(recipe), recipe).step == 2
    OmegaConf.save(old, recorded)
    with pytest.raises(VidgenError, match="another gradient_checkpointing"):
        train(load_recipe(name, [*overrides, "steps=2", "gradient_checkpointing=true"]))


def test_validation_uses_averaged_weights_and_puts_them_back(tokenizer_recipe):
    name, overrides = tokenizer_recipe
    recipe = load_recipe(name, overrides)
    trainer = Trainer(TokenizerTask(recipe), recipe)
    before = trainer.main.parameters[0].detach().clone()
    trainer.main.ema.shadow_params[0].zero_()
    with trainer.averaged():
        assert not trainer.main.parameters[0].any()
    assert torch.equal(trainer.main.parameters[0], before)


def test_learning_rate_warms_up_and_ends_at_its_floor(tokenizer_recipe):
    recipe = load_recipe(tokenizer_recipe[0], ["out=x", "steps=100", "optimizer.warmup=10", "optimizer.final_lr=0.1"])
    peak = recipe.optimizer.lr
    assert learning_rate(0, recipe.optimizer, 100) == pytest.approx(peak / 10)
    assert learning_rate(9, recipe.optimizer, 100) == pytest.approx(peak)
    assert learning_rate(55, recipe.optimizer, 100) == pytest.approx(peak * (0.1 + 0.9 * 0.5))
    assert learning_rate(100, recipe.optimizer, 100) == pytest.approx(peak * 0.1)


@pytest.mark.parametrize("fast", [True, False])
def test_the_precision_of_a_run_is_the_processors_and_then_its_own(fast, tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "has_fast_bfloat16", lambda device: fast)
    recipe = load_recipe("tokenizer_default", [f"out={tmp_path}"])
    assert recipe.autocast == ("bfloat16" if fast else "float32")
    other = "float32" if fast else "bfloat16"
    (tmp_path / "config.yaml").write_text(f"autocast: {other}\n")
    begun = load_recipe("tokenizer_default", [f"out={tmp_path}"])
    assert begun.autocast == other
