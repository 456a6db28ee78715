"""Training a tokenizer: recomputed activations, quantizers' losses and usage, kept encoders, the game, recovery."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.pipelines.loading import load_tokenizer
from vidgen.tokenizers.bottlenecks.implicit_quantizers import FSQ
from vidgen.tokenizers.bottlenecks.vector_quantizer import VQ
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer, train
from vidgen.train.tasks.tokenizer import TokenizerTask, codebook_usage

GAME = ["adversarial.weight=0.1", "adversarial.width=4", "adversarial.depth=2", "adversarial.start_step=2"]


def make_task(tokenizer_recipe, *more: str) -> TokenizerTask:
    name, overrides = tokenizer_recipe
    task = TokenizerTask(load_recipe(name, [*overrides, "autocast=float32", *more]))
    task.model.train()
    return task


def loss_of(task: TokenizerTask):
    batch = task.gather([task.dataset[(0, slot)] for slot in range(2)])
    return task.loss(batch, sample_generator(0, "step-0"))


def gradients(task: TokenizerTask) -> tuple[list[torch.Tensor], int]:
    """The gradients of one loss, and how many numbers were kept for them."""
    kept = 0

    def pack(tensor):
        nonlocal kept
        kept += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss, _ = loss_of(task)
    loss.backward()
    return [p.grad for p in task.model.parameters()], kept


def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradients(tokenizer_recipe):
    plain, kept = gradients(make_task(tokenizer_recipe))
    task = make_task(tokenizer_recipe, "gradient_checkpointing=true")
    found, kept_less = gradients(task)
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))
    assert kept_less < kept / 2
    assert not any("forward" in vars(module) for module in task.model.modules())  # nothing stays on the modules


def test_quantizers_report_usage_and_have_weights_of_their_own(tokenizer_recipe):
    task = make_task(tokenizer_recipe, "model.bottleneck=ae")
    task.model.bottleneck = VQ(4, codebook_size=8)
    loss, metrics = loss_of(task)
    # Of a bottleneck that QUANTIZER_WEIGHTS does not know, every loss has the weight `bottleneck`.
    assert loss.item() == pytest.approx(metrics["reconstruction"] + 3e-4 * metrics["commitment"], rel=1e-5)
    assert 0 < metrics["codebook_usage"] <= 1
    task.recipe.loss.bottleneck_parts = {"commitment": 2.0}
    loss, metrics = loss_of(task)
    assert loss.item() == pytest.approx(metrics["reconstruction"] + 2.0 * metrics["commitment"], rel=1e-5)
    task.recipe.loss.bottleneck_parts = {"comitment": 2.0}
    with pytest.raises(VidgenError, match="bottleneck_parts.comitment.*only commitment"):
        loss_of(task)


def test_validation_counts_codes_over_all_clips(tokenizer_recipe):
    task = make_task(tokenizer_recipe, "model.bottleneck=ae", "data.validation_clips=4")
    task.model.bottleneck = FSQ(4, levels=(3, 3, 3, 3))
    task.model.eval()
    with torch.no_grad():
        video = torch.stack([task.held_out[(0, i)].video for i in range(4)])
        expected = codebook_usage(task.model.encode(video).indices, 81)
        assert task.validate()["codebook_usage"] == pytest.approx(expected)


def test_a_kept_encoder_keeps_its_codebook(tokenizer_recipe):
    task = make_task(tokenizer_recipe, "model.bottleneck=ae")
    task.model.bottleneck = VQ(4, codebook_size=8)
    task.recipe.part = "decoder"
    before = {k: v.clone() for k, v in task.model.bottleneck.state_dict().items()}
    loss_of(task)
    assert all(torch.equal(v, before[k]) for k, v in task.model.bottleneck.state_dict().items())


DISCRETE = {
    "vq": ["model.codebook_size=16"],
    "residual": ["model.codebook_size=8", "model.quantizers=2"],
    "fsq": ["model.levels=[3,3,3,3]"],
    "lfq": [],
    "bsq": [],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DISCRETE)
def test_discrete_tokenizers_train_and_resume_with_their_codebooks(tokenizer_recipe, tmp_path, name, monkeypatch):
    shipped, overrides = tokenizer_recipe
    settings = [*overrides, f"model.bottleneck={name}", *DISCRETE[name], "steps=4"]
    train(load_recipe(shipped, settings))
    recipe = load_recipe(shipped, [*settings, f"out={tmp_path / 'stopped'}"])
    stopped = Trainer(TokenizerTask(recipe), recipe)

    def save_and_stop():
        Trainer.save(stopped)
        raise KeyboardInterrupt

    monkeypatch.setattr(stopped, "save", save_and_stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit()
    resumed = Trainer(TokenizerTask(recipe), recipe)
    assert resumed.step == 2
    resumed.fit()
    one, two = (load_file(tmp_path / out / "checkpoint-4" / "model.safetensors") for out in ("run", "stopped"))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= row["codebook_usage"] <= 1 for row in rows if "loss" in row)
    assert "validation_codebook_usage" in rows[-1]


def test_the_decoder_learns_from_noise_of_a_level_for_each_clip(tokenizer_recipe):
    task = make_task(tokenizer_recipe, "latent_noise=0.5")
    latents = torch.zeros(4000, 4, 1, 4, 4)
    noise = task.disturb(latents, sample_generator(0, "noise"))
    levels = noise.std(dim=(1, 2, 3, 4))
    assert levels.mean().item() == pytest.approx(0.5 * (2 / math.pi) ** 0.5, rel=0.05)  # the mean of |N(0, 0.5^2)|
    assert levels.square().mean().item() == pytest.approx(0.25, rel=0.1)
    assert torch.equal(make_task(tokenizer_recipe).disturb(latents, sample_generator(0, "noise")), latents)


def test_a_channel_that_never_moves_keeps_a_spread_of_one(tokenizer_recipe):
    task = make_task(tokenizer_recipe, "model.bottleneck=ae")
    with torch.no_grad():
        for layer in (task.model.encoder.out.skip, task.model.encoder.out.conv):
            layer.weight[0].zero_(), layer.bias[0].zero_()
        task.measure_latents()
    assert task.model.latents_std[0] == 1.0 and task.model.latents_std[1] not in (0.0, 1.0)


@pytest.mark.slow
def test_stages_hand_their_discriminators_on(tokenizer_recipe, tmp_path):
    name, overrides = tokenizer_recipe
    final = train(load_recipe(name, [*overrides, *GAME]))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    games = [row for row in rows if "d_loss" in row]
    assert [row["step"] for row in games] == [3, 4, 5, 6]
    assert {"g_loss", "g_weight", "gradient_ratio", "logit_real", "logit_fake"} <= games[0].keys()
    saved = final / "discriminators.safetensors"
    second = make_task(tokenizer_recipe, *GAME, f"adversarial.init_from={saved}")
    assert all(torch.equal(v, load_file(saved)[k]) for k, v in second.adversary.discriminators.state_dict().items())
    with pytest.raises(VidgenError, match="does not hold these discriminators"):
        make_task(tokenizer_recipe, *GAME, "adversarial.width=8", f"adversarial.init_from={saved}")


@pytest.mark.slow
def test_a_game_that_a_former_checkpoint_keeps_in_the_tasks_state_goes_on(tokenizer_recipe, tmp_path):
    name, overrides = tokenizer_recipe
    recipe = load_recipe(name, [*overrides, *GAME])
    role = Trainer(TokenizerTask(recipe), recipe).roles[1]
    train(recipe)
    former, new = tmp_path / "former", tmp_path / "run"
    shutil.copytree(new / "checkpoint-4", former / "checkpoint-4")
    shutil.copy(new / "config.yaml", former)
    folder = former / "checkpoint-4" / "discriminator"
    game = torch.load(former / "checkpoint-4" / "task.pt")["adversary"]
    for part in ("discriminators", "anchors"):
        weights = load_file(folder / "model.safetensors").items()
        game[part] = {key.removeprefix(f"{part}."): value for key, value in weights if key.startswith(f"{part}.")}
    optimizer = torch.load(folder / "optimizer.pt")
    grouped = [p for group in role.optimizer.param_groups for p in group["params"]]
    order = [next(i for i, p in enumerate(grouped) if p is own) for own in role.parameters]
    game["optimizer"] = {"state": {i: optimizer["state"][k] for i, k in enumerate(order)}, "param_groups": []}
    torch.save({"adversary": game}, former / "checkpoint-4" / "task.pt")
    shutil.rmtree(folder)
    progress = json.loads((former / "checkpoint-4" / "progress.json").read_text())
    progress["ema_step"] = progress.pop("ema_steps")["model"]
    del progress["hash"], progress["files"]  # which former checkpoints have not
    (former / "checkpoint-4" / "progress.json").write_text(json.dumps(progress))
    train(load_recipe(name, [*overrides, *GAME, f"out={former}"]))
    for file in ("checkpoint-6/model.safetensors", "checkpoint-6/ema.safetensors", "final/discriminators.safetensors"):
        one, two = load_file(new / file), load_file(former / file)
        assert all(torch.equal(one[key], two[key]) for key in one), file


@pytest.mark.slow
def test_a_nan_in_the_game_is_recovered_from(tokenizer_recipe, tmp_path, capsys):
    name, overrides = tokenizer_recipe
    recipe = load_recipe(name, [*overrides, *GAME])
    task = TokenizerTask(recipe)
    loss, begin, steps = task.adversary.discriminator_loss, task.begin_step, []

    def begin_step(step):
        steps.append(step)
        begin(step)

    def spoil(real, fake, reconstruction):
        return loss(real * (math.nan if len(steps) == 6 else 1.0), fake, reconstruction)

    task.begin_step, task.adversary.discriminator_loss = begin_step, spoil
    final = Trainer(task, recipe).fit()
    assert steps == [0, 1, 2, 3, 4, 5, 4, 5]  # the sixth goes back to checkpoint-4
    assert "discriminator loss nan is not finite; back to step 4" in capsys.readouterr().err
    tensors = load_tokenizer(str(final)).state_dict() | load_file(final / "discriminators.safetensors")
    assert all(torch.isfinite(v).all() for v in tensors.values())


@pytest.mark.slow
def test_a_decoder_blown_up_is_recovered_from(tokenizer_recipe, tmp_path):
    name, overrides = tokenizer_recipe
    more = ["steps=14", "guard.window=5", "guard.jump=8", "guard.patience=2", "optimizer.warmup=1", "autocast=float32"]
    recipe = load_recipe(name, [*overrides, *more])
    task = TokenizerTask(recipe)
    loss, calls = task.loss, []

    def spoil(batch, generator):
        calls.append(batch)
        if len(calls) == 8:
            with torch.no_grad():
                task.model.decoder.out.skip.weight.mul_(3000.0)
        return loss(batch, generator)

    task.loss = spoil
    Trainer(task, recipe).fit()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (event,) = [row for row in rows if "event" in row]
    assert "reconstruction loss" in event["reason"] and event["to_step"] == 6
    losses = [row["reconstruction"] for row in rows if "reconstruction" in row]
    assert losses[-1] < losses[0] < max(losses) / 5


def collapse(task: TokenizerTask) -> None:
    """From now on the encoder says the same of every clip."""
    with torch.no_grad():
        for layer in (task.model.encoder.out.skip, task.model.encoder.out.conv):
            layer.weight.zero_(), layer.bias.zero_()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vq", "fsq"])
def test_a_codebook_that_collapses_is_recovered_from(tokenizer_recipe, tmp_path, name):
    shipped, overrides = tokenizer_recipe
    recipe = load_recipe(
        shipped, [*overrides, f"model.bottleneck={name}", *DISCRETE[name], "steps=8", "guard.patience=1"]
    )
    task = TokenizerTask(recipe)
    loss, calls = task.loss, []

    def spoil(batch, generator):
        calls.append(batch)
        if len(calls) == 6:
            collapse(task)
        return loss(batch, generator)

    task.loss = spoil
    final = Trainer(task, recipe).fit()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (event,) = [row for row in rows if "event" in row]
    assert event["reason"] == "codebook usage 0 is below guard.min_usage=0.01" and event["to_step"] == 4
    assert rows[-1]["validation_codebook_usage"] > 0.01 and (final / "config.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vq", "residual", "fsq"])
def test_a_codebook_that_was_never_used_is_not_exported(tokenizer_recipe, tmp_path, name):
    """The guard waits for usage that was once there; the end of the run does not."""
    shipped, overrides = tokenizer_recipe
    recipe = load_recipe(shipped, [*overrides, f"model.bottleneck={name}", *DISCRETE[name], "steps=1"])
    task = TokenizerTask(recipe)
    collapse(task)
    task.model.encoder.requires_grad_(False)
    with pytest.raises(VidgenError, match=r"codebook 0 has collapsed: of \d+ codes, all \d+ tokens .* take code \d+;"):
        Trainer(task, recipe).fit()
    assert not (tmp_path / "run" / "final").exists()
