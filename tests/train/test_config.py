"""Recipes: every shipped one is valid, and every mistake is named in one line."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from vidgen.diffusion.loss_weighting import prediction_weight
from vidgen.diffusion.prediction_types import FORMER_PREDICTION_TYPES
from vidgen.errors import VidgenError
from vidgen.models.encoders.efficientnet import EFFICIENTNET
from vidgen.train.config import IPAdapterRecipe, LoRARecipe
from vidgen.train.config.data import SourceConfig
from vidgen.train.config.files import load_recipe, read_recipe, recipe_name, shipped_comparisons, shipped_recipes
from vidgen.train.runtime.runs import open_run
from vidgen.train.tasks.registry import TASKS


def write_checkpoint(folder: Path) -> None:
    """Write as little as a checkpoint of an earlier version has."""
    folder.mkdir()
    (folder / "progress.json").write_text(json.dumps({"step": int(folder.name.rpartition("-")[2])}))
    save_file({"weight": torch.zeros(1)}, folder / "model.safetensors")


@pytest.mark.parametrize("name", [recipe_name(path) for path in shipped_recipes()])
def test_shipped_recipes_are_valid(name):
    recipe = load_recipe(name)
    assert isinstance(recipe, TASKS[recipe.task].recipe)


@pytest.mark.parametrize("path", [*shipped_recipes(), *shipped_comparisons()], ids=lambda path: path.stem)
def test_shipped_recipes_name_no_folder_that_a_user_lacks(path):
    written = read_recipe(path)
    names = {"default", "encoder", "prior", EFFICIENTNET}  # shipped models, and one that is a package
    assert {written.get(key, "default") for key in ("init_from", "tokenizer", "key")} <= names
    assert {source.get("path", "") for source in written.data.get("sources", ())} <= {""}


def test_overrides_reach_nested_keys():
    recipe = load_recipe("tokenizer_default", ["optimizer.lr=0.5", "data.size=[32,48]", "steps=7"])
    assert (recipe.optimizer.lr, tuple(recipe.data.size), recipe.steps) == (0.5, (32, 48), 7)


def test_overrides_reach_into_lists_and_mappings():
    changes = ["data.sources.1.path=mine", "data.sources.1.share=0.5", "model.widths=[8, 16]", "loss={l2: 3.0}"]
    recipe, shipped = load_recipe("tokenizer_default", changes), load_recipe("tokenizer_default")
    assert (recipe.data.sources[1].path, recipe.data.sources[1].share) == ("mine", 0.5)
    assert recipe.data.sources[1].include == shipped.data.sources[1].include
    assert recipe.data.sources[0] == shipped.data.sources[0]
    assert recipe.model == {"widths": [8, 16]} and (recipe.loss.l2, recipe.loss.l1) == (3.0, shipped.loss.l1)


def test_a_recipe_stands_on_its_base(tmp_path):
    changed = tmp_path / "changed.yaml"
    changed.write_text("base: tokenizer_default_decoder\noptimizer: {warmup: 3}\n")
    recipe, base = load_recipe(str(changed)), load_recipe("tokenizer_default_sharpen")
    assert (recipe.optimizer.warmup, recipe.optimizer.lr, recipe.part) == (3, 6e-4, "decoder")
    assert (recipe.data.size, recipe.data.sources[1:], recipe.loss) == (
        base.data.size,
        base.data.sources[1:],
        base.loss,
    )


def test_items_of_a_base_are_changed_by_their_numbers(tmp_path):
    changed, base = tmp_path / "changed.yaml", load_recipe("tokenizer_default")
    changed.write_text("base: tokenizer_default\ndata: {size: [32, 32], sources: {1: {share: 0.5}}}\n")
    recipe = load_recipe(str(changed))
    assert (recipe.data.sources[0], recipe.data.size) == (base.data.sources[0], (32, 32))
    assert recipe.data.sources[1] == dataclasses.replace(base.data.sources[1], share=0.5)
    changed.write_text("base: tokenizer_default\ndata: {sources: {2: {share: 0.25}}}\n")
    assert load_recipe(str(changed)).data.sources == [*base.data.sources, SourceConfig(share=0.25)]
    changed.write_text("base: tokenizer_default\ndata: {sources: {3: {share: 0.5}}}\n")
    with pytest.raises(VidgenError, match="changed.yaml: sources has no item 3; its base has 2, from 0 on"):
        load_recipe(str(changed))


def test_a_recipe_on_itself_is_refused(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"base: {two}\n"), two.write_text(f"base: {one}\n")
    with pytest.raises(VidgenError, match="one.yaml is its own base, by way of .*two.yaml"):
        load_recipe(str(one))


@pytest.mark.parametrize(
    ("name", "override", "says"),
    [
        ("nonsense", "", "neither a file nor a shipped recipe; shipped: .*tokenizer_default"),
        ("tokenizer_default", "stepz=3", "stepz"),
        ("tokenizer_default", "optimizer.learning=3", "learning"),
        ("tokenizer_default", "steps=many", "steps"),
        ("tokenizer_default", "data.sources.7.path=mine", "sources"),
        ("tokenizer_default", "data.sources.first.path=mine", "sources"),
        ("tokenizer_default", "data.sources={path: mine}", "sources"),
        ("tokenizer_default", "steps.few=3", "steps"),
        ("tokenizer_default", "steps=0", "steps=0"),
        ("tokenizer_default", "steps", "key=value"),
        ("tokenizer_default", "task=priors", "'priors' is unknown"),
        ("tokenizer_default", "autocast=float8", "float8"),
        ("tokenizer_default", "optimizer.kind=sgd", "optimizer.kind='sgd' is unknown; choose one of adamw, muon"),
        ("tokenizer_default", "part=encoder", "part='encoder' is unknown; choose one of all, decoder"),
        ("tokenizer_default", "part=decoder", "init_from=FOLDER"),
        ("tokenizer_default", "latent_noise=-1", "latent_noise=-1.0 is not a number from 0"),
        ("tokenizer_default", "guard.lr_factor=0", "lr_factor=0"),
        ("tokenizer_default", "loss.charbonier=1", "charbonier"),
        ("diffusion_default", "data.sources=[{kind: shapes, weights: {blob: 2}}]", "weights.blob=2"),
        ("diffusion_default", "data.sources=[{kind: shapes, weights: {star: 0}}]", "weights.star=0"),
        ("tokenizer_adversarial", "adversarial.kinds=[4d]", "kinds.0='4d' is unknown; choose one of 2d, 3d"),
        ("tokenizer_adversarial", "adversarial.depth=7", "adversarial.depth=7"),
        ("tokenizer_adversarial", "adversarial.settle_steps=0", "settle_steps=0 is not a whole number from 1"),
        ("tokenizer_offline", "data.size=[8,64]", "at least 11x11"),
        (
            "tokenizer_default",
            "data.sources=[{kind: shapes, num_frames: -1}]",
            "sources.0.num_frames=-1 is not a whole number from 0",
        ),
        ("diffusion_default", "data.sources=[{kind: shapes, num_frames: 1}]", "no source has it: give one of 1$"),
        (
            "diffusion_default",
            "data.sources=[{kind: shapes}, {kind: shapes, num_frames: 8}]",
            "clips of 8 frames end within a latent frame, which holds 4 after the first: give num_frames 5 or 9",
        ),
        ("tokenizer_default", "data.sources=[{kind: radio}]", "radio"),
    ],
)
def test_mistakes_are_named(name, override, says):
    with pytest.raises(VidgenError, match=says) as caught:
        load_recipe(name, [override] if override else [])
    assert "\n" not in str(caught.value)


def test_broken_yaml_is_named(tmp_path):
    recipe = tmp_path / "broken.yaml"
    recipe.write_text("task: [tokenizer")
    with pytest.raises(VidgenError, match="broken.yaml is not valid YAML"):
        load_recipe(str(recipe))


def test_former_keys_and_tasks_are_read_with_a_warning():
    with pytest.warns(FutureWarning, match="recipe key parametrisation is now called prediction_type"):
        recipe = load_recipe("diffusion_default", ["parametrisation=v"])
    assert recipe.prediction_type == "v_prediction"
    base = ["init_from=default", "tokenizer=default"]
    with pytest.warns(FutureWarning, match="task diffusion with lora_rank is now task lora"):
        recipe = load_recipe("diffusion_default", [*base, "lora_rank=4", "optimizer.kind=adamw"])
    assert isinstance(recipe, LoRARecipe) and (recipe.task, recipe.lora_rank) == ("lora", 4)
    with pytest.warns(FutureWarning, match="task diffusion with part is now task ip_adapter"):
        recipe = load_recipe("diffusion_default", [*base, "part=image_prompt", "reference=0.5", "match_weight=0.3"])
    assert isinstance(recipe, IPAdapterRecipe) and (recipe.reference, recipe.match_weight) == (0.5, 0.3)
    with pytest.warns(FutureWarning, match="task diffusion with lora_rank is now task lora"):
        recipe = load_recipe("diffusion_default", [*base, "part=all", "lora_rank=4", "optimizer.kind=adamw"])
    assert isinstance(recipe, LoRARecipe)


def write_recipes(folder, base, child):
    """Write a base and a recipe over it, and return the latter's path."""
    (folder / "base.yaml").write_text(base)
    (folder / "child.yaml").write_text(f"base: {folder / 'base.yaml'}\n{child}")
    return str(folder / "child.yaml")


@pytest.mark.parametrize(
    ("base", "child", "override", "expected"),
    [
        ("parametrisation: v", "prediction_type: sample", [], "sample"),
        ("prediction_type: v", "parametrisation: eps", [], "epsilon"),
        ("parametrisation: v", "parametrisation: x0", [], "sample"),
        ("parametrisation: v", "steps: 3", [], "v_prediction"),
        ("parametrisation: v", "steps: 3", ["prediction_type=sample"], "sample"),
        ("parametrisation: v", "prediction_type: sample", ["parametrisation=eps"], "epsilon"),
    ],
)
def test_what_is_written_last_holds_by_either_name(tmp_path, base, child, override, expected):
    path = write_recipes(tmp_path, f"base: diffusion_default\n{base}\n", f"{child}\n")
    with pytest.warns(FutureWarning, match="prediction_type"):
        assert load_recipe(path, override).prediction_type == expected


def test_a_key_by_both_its_names_is_refused(tmp_path):
    path = write_recipes(tmp_path, "base: diffusion_default\n", "parametrisation: v\nprediction_type: sample\n")
    with pytest.raises(VidgenError, match="child.yaml: parametrisation is the former name of prediction_type: leave"):
        load_recipe(path)


@pytest.mark.parametrize("key", ["prediction_type", "weighting"])
def test_former_values_are_resolved_to_those_of_today(tmp_path, key):
    for former, now in FORMER_PREDICTION_TYPES.items():
        with pytest.warns(FutureWarning, match=f"{key} {former} is now called {now}"):
            assert getattr(load_recipe("diffusion_default", [f"{key}={former}"]), key) == now
    path = write_recipes(tmp_path, f"base: diffusion_default\n{key}: v\n", "")
    with pytest.warns(FutureWarning, match=f"base.yaml: {key} v is now called v_prediction"):
        assert getattr(load_recipe(path), key) == "v_prediction"


def test_former_loss_weightings_are_called_so():
    ones = torch.ones(1)
    with pytest.warns(FutureWarning, match="loss weighting 'v' is now called 'v_prediction'"):
        weight = prediction_weight("v", "sample", ones, ones)
    assert torch.equal(weight, prediction_weight("v_prediction", "sample", ones, ones))


def test_a_task_without_the_key_refuses_it_by_the_name_that_was_given(recwarn):
    with pytest.raises(VidgenError, match="parametrisation"):
        load_recipe("tokenizer_default", ["parametrisation=v"])
    assert not [warning for warning in recwarn if warning.category is FutureWarning]


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("diffusion_default", ["task=lora", "match_weight=0.5"], "match_weight"),
        ("diffusion_default", ["task=lora", "part=image_prompt"], "part"),
        ("diffusion_default_reference", ["lora_alpha=4"], "lora_alpha"),
        ("diffusion_default_reference", ["part=all"], "part"),
        ("diffusion_default_reference", ["lora_rank=4"], "without pictures: set task=lora, or lora_rank=0"),
        ("diffusion_default", ["part=lora"], "part 'lora': choose 'all' or 'image_prompt'"),
        ("diffusion_default", ["part=[all]"], "choose 'all' or 'image_prompt'"),
        ("diffusion_default", ["prediction_type=[v]"], "prediction_type"),
    ],
)
def test_keys_that_a_task_does_not_have_are_refused_where_they_say_something(name, overrides, says):
    with pytest.raises(VidgenError, match=says) as caught:
        load_recipe(name, overrides)
    assert "\n" not in str(caught.value)


def test_keys_of_another_task_that_say_nothing_are_left_out():
    base = ["init_from=default", "tokenizer=default"]
    neutral = ["task=lora", "part=all", "match_weight=0.1", "optimizer.kind=adamw"]
    assert load_recipe("diffusion_default", [*base, *neutral]).task == "lora"
    neutral = ["part=image_prompt", "lora_rank=0", "lora_alpha=0"]
    assert load_recipe("diffusion_default_reference", neutral) == load_recipe("diffusion_default_reference")
    with pytest.warns(UserWarning, match="lora_alpha=4 does nothing in task diffusion: leave it out"):
        assert load_recipe("diffusion_default", ["lora_alpha=4"]) == load_recipe("diffusion_default")


def test_former_keys_that_say_nothing_are_left_out_without_a_warning(recwarn):
    recipe = load_recipe("diffusion_default", ["part=all", "lora_rank=0", "match_weight=0.2"])
    assert recipe == load_recipe("diffusion_default")
    assert not [warning for warning in recwarn if warning.category is FutureWarning]


@pytest.mark.parametrize(
    ("name", "overrides", "former"),
    [
        ("diffusion_default", [], {"task": "diffusion", "part": "all"}),
        ("diffusion_default_reference", [], {"task": "diffusion", "part": "image_prompt"}),
        (
            "diffusion_default",
            ["task=lora", "init_from=default", "lora_rank=4", "optimizer.kind=adamw"],
            {"task": "diffusion", "part": "all", "match_weight": 0.1},
        ),
    ],
)
def test_runs_recorded_in_former_words_go_on(tmp_path, name, overrides, former):
    recipe = load_recipe(name, [*overrides, f"out={tmp_path / 'run'}"])
    open_run(recipe)
    recorded = tmp_path / "run" / "config.yaml"
    old = OmegaConf.merge({"lora_rank": 0, "lora_alpha": 0.0, "match_weight": 0.1}, OmegaConf.load(recorded), former)
    old.parametrisation = old.pop("prediction_type")
    OmegaConf.save(old, recorded)
    write_checkpoint(tmp_path / "run" / "checkpoint-1")
    assert open_run(recipe) == tmp_path / "run"
    OmegaConf.save(OmegaConf.merge(old, {"parametrisation": "v"}), recorded)
    with pytest.raises(VidgenError, match="another prediction_type"):
        open_run(recipe)


@pytest.mark.parametrize("key", ["prediction_type", "weighting"])
def test_a_run_recorded_with_a_former_value_goes_on(tmp_path, key):
    recipe = load_recipe("diffusion_default", [f"{key}=v_prediction", f"out={tmp_path / 'run'}"])
    open_run(recipe)
    recorded = tmp_path / "run" / "config.yaml"
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(recorded), {key: "v"}), recorded)
    write_checkpoint(tmp_path / "run" / "checkpoint-1")
    assert open_run(recipe) == tmp_path / "run"
    assert open_run(dataclasses.replace(recipe, **{key: "v"})) == tmp_path / "run"
    assert OmegaConf.load(recorded)[key] == "v_prediction"
