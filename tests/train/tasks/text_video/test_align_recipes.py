"""Recipes align/NAME: each takes a step that changes what it learns, and differs from `align` in what it says."""

import pytest
import torch

from vidgen.models.text_video.interactions import INTERACTIONS
from vidgen.train.config.files import load_recipe, recipe_name, shipped_recipes
from vidgen.train.objectives.text_video import TEXT_VIDEO_OBJECTIVES
from vidgen.train.tasks.text_video.align import AlignTask

NAMES = [name for name in map(recipe_name, shipped_recipes()) if name.startswith("align/")]
SMALL = [
    "init_from=''", "steps=2", "batch_size=6", "data.validation_clips=8", "data.num_frames=4", "data.size=[16,16]",
    "encoder={width: 16, depth: 1, head_dim: 16}", "text={width: 16, depth: 1, head_dim: 16}",
    "heads.width=16", "heads.head_dim=8", "autocast=float32",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_learns(name):
    recipe = load_recipe(name, SMALL)
    task = AlignTask(recipe)
    batch = task.gather([task.dataset[(0, slot)] for slot in range(6)])
    loss, metrics = task.loss(batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.isfinite() and 0 <= metrics["text_to_video"] <= 1
    gradients = {key: value.grad for key, value in task.model.named_parameters() if value.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    parts = ("video.", "text.", "heads.interaction." if list(task.model.heads.interaction.parameters()) else "heads.")
    for part in parts:
        assert any(key.startswith(part) and gradient.abs().max() > 0 for key, gradient in gradients.items()), part


def test_every_interaction_has_a_recipe():
    recipes = [load_recipe(name) for name in NAMES]
    interactions = {recipe.heads.get("interaction", "cosine") for recipe in recipes}
    assert interactions == set(INTERACTIONS)
    assert {recipe.objective for recipe in recipes} | {"triplet"} == set(TEXT_VIDEO_OBJECTIVES)
