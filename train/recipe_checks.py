"""Values that a recipe must not have, though their types are right: one line each, before anything is built."""

from __future__ import annotations

from pathlib import Path

from vidgen.data.shapes import WORDS
from vidgen.errors import VidgenError
from vidgen.train.config import (
    DiffusionRecipe,
    GuardConfig,
    KeyframeRecipe,
    LoopConfig,
    SourceConfig,
    TokenizerRecipe,
)
from vidgen.train.keyframe_config import check_keyframes


def check_recipe(recipe: LoopConfig, path: Path) -> None:
    """Raises VidgenError for values that no run can use."""
    if recipe.steps < 1 or recipe.batch_size < 1:
        raise VidgenError(f"{path}: steps={recipe.steps} and batch_size={recipe.batch_size} must be 1 or more")
    if recipe.autocast not in ("bfloat16", "float32"):
        raise VidgenError(f"{path}: autocast {recipe.autocast!r}: choose bfloat16, or float32 for none")
    if recipe.optimizer.kind not in ("adamw", "muon"):
        raise VidgenError(f"{path}: optimizer.kind {recipe.optimizer.kind!r}: choose 'adamw' or 'muon'")
    check_guard(recipe.guard, path)
    if not recipe.data.sources or sum(s.share for s in recipe.data.sources) <= 0:
        raise VidgenError(f"{path}: data.sources needs at least one source with a share above 0")
    for source in recipe.data.sources:
        check_source(source, path)
        if isinstance(recipe, DiffusionRecipe) and source.num_frames not in (0, recipe.data.num_frames):
            raise VidgenError(f"{path}: task diffusion takes clips of one length: leave num_frames of its sources at 0")
    if isinstance(recipe, DiffusionRecipe):
        check_lora(recipe, path)
        check_reference(recipe, path)
    if isinstance(recipe, TokenizerRecipe):
        check_tokenizer_recipe(recipe, path)
    if isinstance(recipe, KeyframeRecipe):
        check_keyframes(recipe, path)


def check_lora(recipe: DiffusionRecipe, path: Path) -> None:
    """Raises VidgenError for a LoRA on nothing, or by an optimizer that is for whole matrices."""
    if recipe.lora_rank < 0 or recipe.lora_alpha < 0:
        raise VidgenError(
            f"{path}: lora_rank={recipe.lora_rank}, lora_alpha={recipe.lora_alpha}: 0 or more, 0 for none"
        )
    if recipe.lora_rank and not recipe.init_from:
        raise VidgenError(f"{path}: lora_rank={recipe.lora_rank} needs a trained model: set init_from, e.g. to default")
    if recipe.lora_rank and recipe.optimizer.kind != "adamw":
        raise VidgenError(f"{path}: a LoRA is trained with optimizer.kind=adamw, not {recipe.optimizer.kind}")


def check_reference(recipe: DiffusionRecipe, path: Path) -> None:
    """Raises VidgenError for shares that are none, and for an image prompt encoder with nothing to learn from."""
    for name in ("reference", "whole_captions"):
        if not 0.0 <= (share := getattr(recipe, name)) <= 1.0:
            raise VidgenError(f"{path}: {name}={share:g} is a share of the clips: 0 to 1")
    if recipe.match_weight < 0:
        raise VidgenError(f"{path}: match_weight={recipe.match_weight:g} must be 0 or more")
    if recipe.part not in ("all", "image_prompt"):
        raise VidgenError(f"{path}: part {recipe.part!r}: choose 'all' or 'image_prompt'")
    if recipe.part == "image_prompt" and not (recipe.init_from and recipe.reference):
        raise VidgenError(
            f"{path}: part=image_prompt needs a trained model and clips with a picture: set init_from, e.g. to "
            "default, and reference, e.g. to 1"
        )
    if recipe.lora_rank and recipe.reference:
        raise VidgenError(f"{path}: a LoRA is trained without pictures: set reference=0, or lora_rank=0")


def check_guard(guard: GuardConfig, path: Path) -> None:
    """Raises VidgenError for a guard that could never act, or always would."""
    if guard.rollbacks < 0 or guard.patience < 1 or guard.window < 1 or not 0 < guard.lr_factor <= 1:
        raise VidgenError(
            f"{path}: guard needs rollbacks >= 0, patience >= 1, window >= 1 and lr_factor in (0, 1], got "
            f"rollbacks={guard.rollbacks}, patience={guard.patience}, window={guard.window}, "
            f"lr_factor={guard.lr_factor}"
        )


def check_source(source: SourceConfig, path: Path) -> None:
    """Raises VidgenError for a source that gives no clips."""
    if source.kind not in ("shapes", "clips"):
        raise VidgenError(f"{path}: source kind {source.kind!r}: choose 'shapes' or 'clips'")
    if source.kind == "clips" and not source.path:
        raise VidgenError(f"{path}: a source of kind 'clips' needs path=FOLDER, e.g. data.sources.0.path=my_clips")
    known = {name for kind, words in WORDS.items() for word in words for name in (word, f"{kind} {word}")}
    if wrong := [word for word, weight in source.weights.items() if word not in known or not weight > 0]:
        raise VidgenError(
            f"{path}: weights.{wrong[0]}={source.weights[wrong[0]]}: a number above 0 for one of the words "
            f"{', '.join(sorted(known))}"
        )
    if source.num_frames < 0 or source.max_stride < 1:
        raise VidgenError(
            f"{path}: a source needs num_frames >= 0 and max_stride >= 1, got {source.num_frames} and "
            f"{source.max_stride}"
        )


def check_tokenizer_recipe(recipe: TokenizerRecipe, path: Path) -> None:
    """Raises VidgenError for values that no training of a tokenizer can use."""
    if recipe.part not in ("all", "decoder"):
        raise VidgenError(f"{path}: part {recipe.part!r}: choose 'all' or 'decoder'")
    if recipe.part == "decoder" and not recipe.init_from:
        raise VidgenError(f"{path}: part=decoder needs a trained encoder: set init_from=FOLDER")
    if recipe.latent_noise < 0:
        raise VidgenError(f"{path}: latent_noise is a standard deviation, not {recipe.latent_noise}; 0 is without")
    game, side = recipe.adversarial, min(recipe.data.size)
    if recipe.loss.ms_ssim > 0 and side < 11:
        raise VidgenError(f"{path}: loss.ms_ssim needs frames of at least 11x11; data.size is {recipe.data.size}")
    if game.weight <= 0:
        return
    if not game.kinds or set(game.kinds) - {"2d", "3d"} or len(set(game.kinds)) < len(game.kinds):
        raise VidgenError(f"{path}: adversarial.kinds {game.kinds}: choose of '2d' and '3d'")
    if game.width < 1 or game.depth < 1 or side < 2**game.depth:
        raise VidgenError(
            f"{path}: adversarial.depth={game.depth} halves frames of {side} pixels too often, or "
            f"adversarial.width={game.width} is under 1; lower the depth"
        )
    if game.settle_steps < 1 or game.r1_every < 1 or game.lr_ratio <= 0:
        raise VidgenError(
            f"{path}: adversarial needs settle_steps >= 1, r1_every >= 1 and lr_ratio > 0, got {game.settle_steps}, "
            f"{game.r1_every} and {game.lr_ratio}"
        )
