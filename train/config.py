"""Recipes: OmegaConf YAML over these dataclasses, `key=value` on the command line; unknown keys are errors.

`base: NAME` in a recipe means that one with the changes below it; lists are replaced whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vidgen.errors import VidgenError

RECIPES = Path(__file__).parent / "recipes"


@dataclass
class OptimizerConfig:
    """`kind` "adamw", or "muon" for the matrices of transformer blocks (see train/optimizers.py).

    Linear warm-up over `warmup` steps, then cosine decay to `final_lr` of the peak at the last step.
    """

    kind: str = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup: int = 200
    final_lr: float = 0.05
    grad_clip: float = 1.0
    ema_decay: float = 0.999


@dataclass
class SourceConfig:
    """Where clips come from: `kind` "shapes" (the synthetic world) or "clips" (files under `path`, see the data docs).

    `share` is this source's part of every batch. `include` names files to take (empty: all). Clips from files
    are held in memory at `short_side` pixels, at most `max_frames` each. `world_size` (height, width) renders shapes
    larger than the samples, which are then crops that hold an object: more of the object for the same work.
    Every `hold_out`-th file is kept for validation (0: none, and validation draws other windows of the same files).
    """

    kind: str = "shapes"
    share: float = 1.0
    path: str = ""
    include: list[str] = field(default_factory=list)
    short_side: int = 128
    max_frames: int = 150
    max_objects: int = 1
    world_size: list[int] = field(default_factory=list)
    hold_out: int = 6
    seed: int = 0


@dataclass
class DataConfig:
    """Clips of `num_frames` frames of `size` (height, width); `fps` is what a generated clip plays at."""

    sources: list[SourceConfig] = field(default_factory=lambda: [SourceConfig()])
    num_frames: int = 17
    size: tuple[int, int] = (64, 64)
    fps: float = 8.0
    workers: int = 0
    validation_clips: int = 64


@dataclass
class LoopConfig:
    """One training run: every random number in it is a function of `seed` and the step."""

    task: str = MISSING
    out: str = MISSING
    seed: int = 0
    steps: int = 1000
    batch_size: int = 8
    autocast: str = "bfloat16"
    device: str = "cpu"
    log_every: int = 10
    validate_every: int = 250
    checkpoint_every: int = 250
    keep_checkpoints: int = 2
    init_from: str = ""
    max_minutes: float = 0.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    data: DataConfig = field(default_factory=DataConfig)


@dataclass
class TokenizerLossConfig:
    """Weights of the losses: pixel L1, squared error, L1 of space and time differences, LPIPS, the bottleneck's own."""

    l1: float = 1.0
    l2: float = 0.0
    gradient: float = 0.5
    lpips: float = 0.0
    bottleneck: float = 3e-4


@dataclass
class TokenizerRecipe(LoopConfig):
    """Task `tokenizer`: `preset` names a tokenizer, `model` overrides fields of its config.

    `part` "decoder" keeps the encoder of `init_from`, and so every latent and each denoiser trained on them.
    """

    preset: str = "kl_causal_4x8x8_16ch"
    part: str = "all"
    model: dict[str, Any] = field(default_factory=dict)
    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)


@dataclass
class DiffusionRecipe(LoopConfig):
    """Task `diffusion`: a VideoDiT and, where `text_model` is set, a text encoder trained with it.

    Latents of `cached_clips` clips are encoded once by `tokenizer` and kept in `cache`, keyed by the tokenizer's
    hash and the data. `time` is the TimeDistribution that the checkpoint carries to the sampler.
    """

    tokenizer: str = "default"
    cache: str = ""
    cached_clips: int = 20000
    model: dict[str, Any] = field(default_factory=dict)
    text_model: dict[str, Any] = field(default_factory=dict)
    parametrisation: str = "flow"
    time: dict[str, Any] = field(default_factory=dict)
    drop_text: float = 0.1
    per_frame_noise: float = 0.0
    validation_levels: int = 8


TASKS: dict[str, type[LoopConfig]] = {"tokenizer": TokenizerRecipe, "diffusion": DiffusionRecipe}


def find_recipe(name: str) -> Path:
    """The YAML file of a recipe given by path, or by the name of a shipped one."""
    for path in (Path(name), RECIPES / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
    raise VidgenError(f"recipe {name!r} is neither a file nor a shipped recipe; shipped: {known}")


def read_recipe(path: Path, heirs: tuple[Path, ...] = ()) -> DictConfig:
    """The YAML at `path` over the recipe that its key `base` names, if it has one."""
    if path in heirs:
        raise VidgenError(f"{path} is its own base, by way of {heirs[-1]}; take one `base` out")
    recipe = OmegaConf.load(path)
    base = recipe.pop("base", "")
    return OmegaConf.merge(read_recipe(find_recipe(base), (*heirs, path)), recipe) if base else recipe


def load_recipe(name: str, overrides: list[str] | tuple[str, ...] = ()) -> LoopConfig:
    """The recipe `name` with `key=value` overrides, checked against its task's dataclass.

    Raises VidgenError for an unknown recipe, task or key, a value of another type, or a missing `out`.
    """
    path = find_recipe(name)
    try:
        for override in overrides:
            if "=" not in override:
                raise VidgenError(f"override {override!r} is not of the form key=value, e.g. steps=100")
        merged = OmegaConf.merge(read_recipe(path), OmegaConf.from_dotlist(list(overrides)))
        task = merged.get("task")
        if task not in TASKS:
            raise VidgenError(f"{path}: task {task!r} is unknown; choose one of {', '.join(TASKS)}")
        checked = OmegaConf.merge(OmegaConf.structured(TASKS[task]), merged)
        recipe = OmegaConf.to_object(checked)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or ""
        first = str(error).splitlines()[0]
        raise VidgenError(
            f"{path}: {first} (key {key}); `vidgen train --help` says where the keys are listed"
        ) from None
    except OSError as error:
        raise VidgenError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise VidgenError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from None
        raise
    check_recipe(recipe, path)
    return recipe


def check_recipe(recipe: LoopConfig, path: Path) -> None:
    """Raises VidgenError for values that no run can use."""
    if recipe.steps < 1 or recipe.batch_size < 1:
        raise VidgenError(f"{path}: steps={recipe.steps} and batch_size={recipe.batch_size} must be 1 or more")
    if recipe.autocast not in ("bfloat16", "float32"):
        raise VidgenError(f"{path}: autocast {recipe.autocast!r}: choose bfloat16, or float32 for none")
    if recipe.optimizer.kind not in ("adamw", "muon"):
        raise VidgenError(f"{path}: optimizer.kind {recipe.optimizer.kind!r}: choose 'adamw' or 'muon'")
    if isinstance(recipe, TokenizerRecipe) and recipe.part not in ("all", "decoder"):
        raise VidgenError(f"{path}: part {recipe.part!r}: choose 'all' or 'decoder'")
    if isinstance(recipe, TokenizerRecipe) and recipe.part == "decoder" and not recipe.init_from:
        raise VidgenError(f"{path}: part=decoder needs a trained encoder: set init_from=FOLDER")
    if not recipe.data.sources or sum(s.share for s in recipe.data.sources) <= 0:
        raise VidgenError(f"{path}: data.sources needs at least one source with a share above 0")
    for source in recipe.data.sources:
        if source.kind not in ("shapes", "clips"):
            raise VidgenError(f"{path}: source kind {source.kind!r}: choose 'shapes' or 'clips'")
        if source.kind == "clips" and not source.path:
            raise VidgenError(f"{path}: a source of kind 'clips' needs path=FOLDER, e.g. data.sources.0.path=my_clips")
