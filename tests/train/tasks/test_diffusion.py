"""The denoising loss: what it is for a network that knows the answer, and a small run from latents to a pipeline."""

import pytest
import torch

from vidgen.diffusion.paths import EDMPath, FlowPath, expand_level
from vidgen.errors import VidgenError
from vidgen.pipelines.loading import load_pipeline
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config.files import load_recipe
from vidgen.train.data.latent_cache import LatentCache
from vidgen.train.runtime.loop import train
from vidgen.train.tasks.denoising import draw_clean_frames
from vidgen.train.tasks.denoising_networks import build_networks
from vidgen.train.tasks.diffusion import DiffusionTask

SMALL = [
    "cached_clips=6", "steps=4", "batch_size=2", "log_every=1", "validate_every=2", "checkpoint_every=2",
    "data.validation_clips=2", "data.num_frames=5", "data.size=[16,16]", "model.width=32", "model.depth=1",
    "model.head_dim=32", "text_model.width=16", "text_model.depth=1", "text_model.head_dim=16", "autocast=float32",
    "per_frame_noise=0.5", "given_frames=0.5",
]  # fmt: skip


@pytest.fixture
def recipe(tmp_path):
    torch.manual_seed(0)
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(tmp_path / "tok")
    return load_recipe(
        "diffusion_default",
        [*SMALL, f"tokenizer={tmp_path / 'tok'}", f"cache={tmp_path / 'cache'}", f"out={tmp_path / 'run'}"],
    )


def test_a_fresh_network_has_the_variance_of_the_target_as_its_loss(recipe):
    task = DiffusionTask(recipe)
    x0, eps, t = torch.zeros(2, 4, 2, 2, 2), torch.ones(2, 4, 2, 2, 2), torch.tensor([0.2, 0.7])
    loss = task.denoising_loss(x0, ["a", "b"], t, eps)  # predicts zero where the velocity is eps - x0 = 1
    assert torch.allclose(loss, torch.ones(2))


def test_run_gives_a_pipeline_that_knows_its_time_distribution(recipe):
    pipe = load_pipeline(str(train(recipe)))
    assert pipe.scheduler.time_distribution == DiffusionTask(recipe).time
    out = pipe("a red circle moves right", num_inference_steps=2)
    assert out.frames[0].shape == (5, 16, 16, 3)


def test_path_and_weighting_reach_loss_and_sampler(recipe):
    plain = DiffusionTask(recipe)
    recipe.prediction_type, recipe.weighting = "v_prediction", "min_snr"
    recipe.time = {"path": "edm", "density": "log_normal", "mean": -1.2, "std": 1.2, "frames_power": 0.5}
    task = DiffusionTask(recipe)
    assert isinstance(plain.path, FlowPath) and isinstance(task.path, EDMPath)
    x0, eps, t = torch.randn(2, 4, 2, 2, 2), torch.randn(2, 4, 2, 2, 2), torch.tensor([0.3, 0.7])
    sigma = EDMPath().sigma(expand_level(t, x0))
    v = (eps - sigma * x0) / (1 + sigma**2).sqrt()  # what a network that says 0 is off by
    weight = (sigma**-2).clamp(max=5.0) / (sigma**-2 + 1.0)  # min-SNR for v
    assert torch.allclose(task.denoising_loss(x0, ["a", "b"], t, eps), (weight * v**2).flatten(1).mean(1), rtol=1e-4)
    assert task.time_of(torch.zeros(1, 4, 9, 4, 4)).shift == pytest.approx(3.0 * task.time.shift)
    pipe = load_pipeline(str(train(recipe)))
    assert isinstance(pipe.path, EDMPath) and pipe.scheduler.time_distribution == task.time
    assert pipe("a star", num_inference_steps=2).frames[0].shape == (5, 16, 16, 3)


@pytest.mark.parametrize(
    "settings",
    [
        {"attention": "swapped", "window": [0, 1, 1]},
        {"text_attention": "joint"},
    ],
)
def test_recipes_say_size_and_attention(recipe, settings):
    recipe.preset, recipe.model = "S", {"depth": 2, "width": 32, "head_dim": 16, **settings}
    task = DiffusionTask(recipe)
    model = task.transformer
    assert model.config.width == 32 and model.config.latent_channels == 4 and model.config.text_width == 16
    assert {name: list(value) if isinstance(value := getattr(model.config, name), tuple) else value
            for name in settings} == settings  # fmt: skip
    batch = {"latents": torch.randn(2, 4, 2, 2, 2), "captions": ["a star", ""]}
    loss, _ = task.loss(batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.isfinite() and model.patch_out.weight.grad.any()
    recipe.model = {}
    assert build_networks(recipe, 4).transformer.config.width == 384


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"attention": "all"}, "attention='all' is unknown"),
        ({"attentoin": "full"}, "recipe key `model`: unknown keys attentoin"),
        ({"classes": 10}, "clips of task diffusion have no class_id; leave classes, tasks"),
    ],
)
def test_a_model_that_cannot_be_trained_is_one_line(recipe, model, says):
    recipe.model = model
    with pytest.raises(VidgenError, match=rf"^[^\n]*{says}[^\n]*$"):
        build_networks(recipe, 4)


def test_training_goes_on_from_a_pipeline(recipe, tmp_path):
    first = load_pipeline(str(train(recipe)))
    recipe.init_from, recipe.out = str(tmp_path / "run" / "final"), str(tmp_path / "second")
    task = DiffusionTask(recipe)
    assert all(
        torch.equal(a, b) for a, b in zip(task.transformer.parameters(), first.transformer.parameters(), strict=True)
    )
    assert all(parameter.requires_grad for parameter in task.model.parameters())


def test_cache_is_reused_and_is_not_taken_for_another(recipe, tmp_path):
    task = DiffusionTask(recipe)
    folders = sorted((tmp_path / "cache").iterdir())
    again = DiffusionTask(recipe)
    assert sorted((tmp_path / "cache").iterdir()) == folders
    assert torch.equal(task.dataset.latents, again.dataset.latents)
    with torch.no_grad():
        again.tokenizer.latents_mean.add_(1.0)
    other = LatentCache(again.tokenizer, recipe.data, seed=0, count=6, cache=recipe.cache)
    assert len(list((tmp_path / "cache").iterdir())) == len(folders) + 1
    assert not torch.equal(other.latents, task.dataset.latents)


def test_items_are_functions_of_their_key(recipe):
    data = DiffusionTask(recipe).dataset
    one, two = data[(3, 1)], data[(3, 1)]
    assert torch.equal(one[0], two[0]) and one[1] == two[1]


def test_unknown_settings_are_named(recipe):
    recipe.weighting = "heavy"
    with pytest.raises(VidgenError, match="loss weighting 'heavy': choose one of none"):
        DiffusionTask(recipe)
    recipe.weighting = "none"
    recipe.model["colour"] = 3
    with pytest.raises(VidgenError, match="recipe key `model`: unknown keys colour"):
        DiffusionTask(recipe)


def test_given_frames_are_clean_and_one_is_always_left():
    given = draw_clean_frames(4000, 5, 0.5, torch.Generator().manual_seed(0))
    assert not given.all(dim=1).any()
    patterns = {tuple(row) for row in given.int().tolist()}
    assert {(1, 0, 0, 0, 0), (1, 0, 0, 0, 1), (1, 1, 1, 1, 0), (0, 1, 0, 1, 1)} <= patterns
    assert given.any(dim=1).float().mean() == pytest.approx(0.5, abs=0.03)
    assert not draw_clean_frames(8, 1, 1.0, torch.Generator()).any()  # an image has nothing to be made from


def test_frames_without_noise_do_not_count(recipe):
    task = DiffusionTask(recipe)
    x0, eps = torch.zeros(2, 4, 3, 2, 2), torch.ones(2, 4, 3, 2, 2)
    eps[:, :, 0] = 7.0  # of a frame at level 0, of which the network sees nothing
    t = torch.tensor([[0.0, 0.5, 0.5], [0.0, 0.2, 0.9]])
    assert torch.allclose(task.denoising_loss(x0, ["a", "b"], t, eps), torch.ones(2))


def test_a_text_encoder_can_be_kept(recipe):
    recipe.train_text = False
    task = DiffusionTask(recipe)
    assert set(task.model) == {"transformer"}


def test_published_pipelines_are_not_trained_on(recipe, published):
    recipe.init_from = str(published("wan")[0])
    with pytest.raises(VidgenError, match="is a published pipeline; only vidgen's own are trained on"):
        DiffusionTask(recipe)
