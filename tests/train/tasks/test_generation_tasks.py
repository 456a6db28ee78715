"""Generation tasks in diffusion training: each clip's condition, ids that reach the network, and sampling by them."""

import json

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.restoration import restore
from vidgen.pipelines.rollout import WindowConfig, rollout
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.representations.extractor import FeatureExtractor
from vidgen.samplers.conditioning.degradations import Downsample, Mask
from vidgen.samplers.conditioning.generation_tasks import GENERATION_TASKS, RESTORATIONS
from vidgen.train.config.files import load_recipe
from vidgen.train.data.sources import Mixture
from vidgen.train.runtime.loop import train
from vidgen.train.tasks.diffusion import DiffusionTask

SMALL = [
    "cached_clips=4", "steps=3", "batch_size=4", "log_every=1", "validate_every=3", "checkpoint_every=2",
    "data.validation_clips=2", "data.num_frames=9", "data.size=[16,16]", "data.sources=[{kind: shapes}]",
    "model={width: 32, depth: 2, head_dim: 32, patch: [1, 1, 1]}", "validation_levels=2",
    "text_model={width: 16, depth: 1, head_dim: 16}", "autocast=float32", "drop_text=0", "given_frames=0",
]  # fmt: skip
ALL = "tasks={" + ", ".join(f"{name}: 1" for name in GENERATION_TASKS) + "}"
FAST = {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "latent"}


@pytest.fixture
def make(tiny_diffusion):
    """`make(override, ...)`: a recipe over a tiny tokenizer."""
    return lambda *overrides: tiny_diffusion(*SMALL, *overrides)


@pytest.fixture
def seen(monkeypatch) -> list[dict]:
    """What every pass of a VideoDiT is given."""
    calls: list[dict] = []
    run = VideoDiT.iter_features

    def record(self, x, t, text=None, features=None, labels=None, layout=None):
        calls.append({"x": x, "t": t, "labels": labels})
        return run(self, x, t, text, features, labels, layout)

    monkeypatch.setattr(VideoDiT, "iter_features", record)
    return calls


def test_shares_are_kept_and_items_are_functions_of_their_key(make) -> None:
    dataset = DiffusionTask(make("tasks={image_to_video: 3, text_to_video: 1}")).dataset
    names = [dataset[(step, slot)].task for step in range(100) for slot in range(4)]
    assert names.count("image_to_video") / 400 == pytest.approx(0.75, abs=0.07)
    assert names == [dataset[(step, slot)].task for step in range(100) for slot in range(4)]


def test_tasks_change_nothing_of_which_clips_are_drawn(make) -> None:
    plain, tasked = DiffusionTask(make()).dataset, DiffusionTask(make(ALL)).dataset
    for key in ((0, 0), (3, 1), (7, 2)):
        assert torch.equal(plain[key].latents, tasked[key].latents) and plain[key].caption == tasked[key].caption


def test_degraded_clips_are_those_of_the_same_clips(make) -> None:
    task = DiffusionTask(make("tasks={super_resolution: 1, colorization: 1}"))
    video = torch.stack([Mixture(task.recipe.data, task.recipe.seed)[(0, i)].video for i in range(4)])
    for name, lost in RESTORATIONS.items():
        if name in task.recipe.tasks:
            with torch.no_grad():
                latents = task.tokenizer.encode(lost.invert(lost.apply(video))).latents
            assert torch.equal(task.dataset.degraded[name], latents.half())
    again = DiffusionTask(make("tasks={super_resolution: 1}"))  # from the cache
    assert torch.equal(again.dataset.degraded["super_resolution"], task.dataset.degraded["super_resolution"])


@pytest.mark.parametrize("name", GENERATION_TASKS)
def test_the_network_is_given_the_condition_and_the_id_of_each_task(make, seen, name) -> None:
    task = DiffusionTask(make(ALL))
    cache = task.dataset
    batch = {"latents": cache.latents.float(), "captions": ["a star"] * 4, "tasks": [name] * 4}
    if name in RESTORATIONS:
        batch["degraded"] = cache.degraded[name].float()
    loss, _ = task.loss(batch, torch.Generator().manual_seed(0))
    (call,) = seen
    assert loss.isfinite() and call["labels"].task_id.tolist() == [GENERATION_TASKS.index(name)] * 4
    x0, clean = batch["latents"], call["x"] == batch["latents"] if name not in RESTORATIONS else None
    if name in RESTORATIONS:
        assert torch.equal(call["x"][:, :, :3], batch["degraded"]) and call["x"].shape[2] == 6
        assert not call["t"][:, :3].any() and call["t"][:, 3:].all() and not (call["x"][:, :, 3:] == x0).any()
        return
    levels = {"image_to_video": [0, 1, 1], "interpolation": [0, 1, 0], "prediction": [0, 0, 1]}
    if name in levels:
        assert (call["t"] > 0).int().tolist() == [levels[name]] * 4
    elif name == "keyframes":
        assert all(row not in ([1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 1, 0]) for row in (call["t"] > 0).int().tolist())
    else:
        assert call["t"].all()
    cells = clean.all(1)  # b t h w
    frames = (call["t"] == 0)[:, :, None, None].expand_as(cells)
    if name == "inpainting":
        assert cells.flatten(1).any(1).all() and not cells.flatten(1).all(1).any()
    else:
        assert torch.equal(cells, frames)


def test_the_error_of_what_is_known_does_not_count(make) -> None:
    task = DiffusionTask(make(ALL))  # a fresh network says 0 where the velocity is eps - x0
    x0, eps, t = torch.zeros(1, 4, 3, 2, 2), torch.ones(1, 4, 3, 2, 2), torch.full((1, 3), 0.5)
    known = torch.zeros(1, 3, 2, 2, dtype=torch.bool)
    known[:, :, 0] = True
    eps[:, :, :, 0] = 100.0
    labels = task.task_labels(["inpainting"])
    loss = task.denoising_loss(x0, ["a"], t, eps, known=known, labels=labels)
    assert torch.allclose(loss, torch.ones(1))


def test_a_mixed_batch_is_the_mean_of_its_tasks(make) -> None:
    task = DiffusionTask(make(ALL))
    for parameter in task.model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    names = ["super_resolution", "text_to_video", "interpolation", "deblurring"]
    cache = task.dataset
    batch = {"latents": cache.latents.float(), "captions": ["a star"] * 4, "tasks": names}
    batch["degraded"] = torch.stack([cache.degraded[names[i]][i].float() for i in (0, 3)])
    draw = task.draw(batch["latents"], torch.Generator().manual_seed(0), names)
    whole = task.losses(batch, task.encode(batch["captions"]), draw)
    alone = []
    for i, name in enumerate(names):
        one = {"latents": batch["latents"][i : i + 1], "tasks": [name]}
        if name in RESTORATIONS:
            one["degraded"] = cache.degraded[name][i : i + 1].float()
        part = type(draw)(**{key: value[i : i + 1] for key, value in vars(draw).items()})
        alone.append(task.losses(one, task.encode(["a star"]), part))
    torch.testing.assert_close(whole.sort().values, torch.cat(alone).sort().values)


@pytest.mark.slow
def test_a_checkpoint_names_its_tasks_and_is_asked_by_them(make, seen, tmp_path) -> None:
    names = ["text_to_video", "image_to_video", "inpainting", "super_resolution"]
    final = train(make("tasks={" + ", ".join(f"{name}: 1" for name in names) + "}"))
    config = json.loads((final / "transformer" / "config.json").read_text())
    assert config["task_names"] == names and config["tasks"] == 4
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {f"validation_loss_{name}" for name in names} <= set(rows[-1])
    pipe = load_pipeline(str(final))
    picture = np.zeros((16, 16, 3), np.uint8)
    video, mask = np.zeros((9, 16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8)
    mask[:8] = 1
    ids = {
        "text_to_video": lambda: pipe("a star", **FAST),
        "image_to_video": lambda: pipe("a star", image=picture, **FAST),
        "inpainting": lambda: pipe("a star", video=video, mask=mask, **FAST),
        "super_resolution": lambda: restore(pipe, "a star", torch.zeros(1, 3, 9, 4, 4), Downsample(), **FAST),
    }
    for name, sample in ids.items():
        seen.clear()
        out = sample()
        assert out.latents.shape[2] == 3
        assert {int(i) for call in seen for i in call["labels"].task_id} == {names.index(name)}
        assert {call["x"].shape[2] for call in seen} == {6 if name == "super_resolution" else 3}
    seen.clear()
    lost = Mask(torch.from_numpy(mask).bool())
    restore(pipe, "a star", lost.apply(torch.zeros(1, 3, 9, 16, 16)), lost, **FAST)
    assert {int(i) for call in seen for i in call["labels"].task_id} == {2}
    seen.clear()
    guided = {**FAST, "guidance_scale": 3.0}
    assert pipe(["a star", "a circle"], image=picture, guidance_passes="batched", **guided).latents.isfinite().all()
    assert all(len(call["labels"].task_id) == len(call["x"]) == 4 for call in seen)
    features = FeatureExtractor(pipe, ["dit.blocks.0"])(torch.zeros(1, 3, 9, 16, 16))
    assert features.features["dit.blocks.0@t=0.10"].isfinite().all()
    with pytest.raises(VidgenError, match="asks for the task interpolation, and the model was trained for text_to"):
        pipe("a star", image=picture, last_image=picture, **FAST)
    seen.clear()
    with pytest.raises(VidgenError, match="asks for the task prediction"):
        next(rollout(pipe, "a star", 17, windows=WindowConfig(overlap=2), num_inference_steps=2))
    assert not seen  # before the first window
    more = ["tasks={image_to_video: 1, deblurring: 1}", f"init_from={final}", f"out={tmp_path / 'more'}"]
    task = DiffusionTask(make(*more))
    assert task.transformer.config.task_names == (*names, "deblurring")
    before = pipe.transformer.labels_in.task_id.weight
    assert torch.equal(task.transformer.labels_in.task_id.weight[:4], before.float())
    with pytest.raises(VidgenError, match="say by `tasks` which it is trained for"):
        DiffusionTask(make(f"init_from={final}"))


def test_tasks_can_be_added_to_a_model_that_has_none(tiny_base, make) -> None:
    base = tiny_base(SchedulerConfig(num_frames=9, height=16, width=16))
    plain, tasked = DiffusionTask(make(*base)), DiffusionTask(make(*base, "tasks={text_to_video: 1, interpolation: 1}"))
    x0, eps, t = torch.randn(2, 4, 3, 2, 2), torch.randn(2, 4, 3, 2, 2), torch.full((2, 3), 0.5)
    labels = tasked.task_labels(["interpolation", "text_to_video"])
    before, after = (
        plain.denoising_loss(x0, ["a", "b"], t, eps),
        tasked.denoising_loss(x0, ["a", "b"], t, eps, labels=labels),
    )
    assert torch.equal(before, after)
    with pytest.raises(VidgenError, match="lacks the task interpolation, which task lora cannot add"):
        train(load_recipe("lora", [*SMALL[:-5], *base, "tasks={interpolation: 1}"]))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["tasks={text_to_vidoe: 1}"], "tasks.text_to_vidoe is unknown; choose of text_to_video"),
        (["tasks={text_to_video: 0}"], "tasks.text_to_video=0.0 is not a number above 0"),
        (["tasks={text_to_video: 1}", "given_frames=0.5"], "given_frames=0.5 has no ids"),
        (["tasks={interpolation: 1}", "data.num_frames=5"], "interpolation needs clips of 9 frames or more"),
        (["tasks={image_to_video: 1}", "data.sources=[{}, {num_frames: 1}]"], "give tasks.text_to_video a share"),
    ],
)
def test_mistakes_are_one_line(make, overrides, says) -> None:
    with pytest.raises(VidgenError, match=rf"^[^\n]*{says}[^\n]*$"):
        make(*overrides)


def test_clips_that_are_too_short_are_made_from_text(make) -> None:
    recipe = make("tasks={interpolation: 1, text_to_video: 1e-9}", "data.sources=[{}, {num_frames: 1}]")
    dataset = DiffusionTask(recipe).dataset
    drawn = [dataset[(step, 0)] for step in range(30)]
    assert {(clip.latents.shape[1], clip.task) for clip in drawn} == {(1, "text_to_video"), (3, "interpolation")}
