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
from vidgen.train.loss_config import AdversarialConfig, TokenizerLossConfig

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
    `num_frames` is this source's own clip length, 1 for images (0: that of the data); every batch is of one length, by
    the shares, and validation of the longest. Frames of files are taken up to `max_stride` apart, at random.
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
    num_frames: int = 0
    max_stride: int = 4


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
class GuardConfig:
    """When a run goes back to its last good checkpoint, and on from there with other data at `lr_factor` of the rate.

    It does so at a loss or gradient that is not finite, and at a collapse: `patience` steps in a row with a
    reconstruction loss over `jump` times its running median of `window` steps (0: never), or with codebook usage under
    `min_usage`: of the codes that a batch could show beside its first, the share that it does (0: never). After
    `rollbacks` of them the next one ends the run.
    """

    rollbacks: int = 3
    lr_factor: float = 0.5
    patience: int = 3
    jump: float = 10.0
    window: int = 100
    min_usage: float = 0.01


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
    guard: GuardConfig = field(default_factory=GuardConfig)
    data: DataConfig = field(default_factory=DataConfig)


@dataclass
class TokenizerRecipe(LoopConfig):
    """Task `tokenizer`: `preset` names a tokenizer, `model` overrides fields of its config.

    `part` "decoder" keeps the encoder of `init_from`, and so every latent and each denoiser trained on them.
    `gradient_checkpointing` makes activations again in the backward pass: less memory, about a third more work.
    """

    preset: str = "kl_causal_4x8x8_16ch"
    part: str = "all"
    model: dict[str, Any] = field(default_factory=dict)
    gradient_checkpointing: bool = False
    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)


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


@dataclass
class DiffusionTokenizerRecipe(LoopConfig):
    """Task `diffusion_tokenizer`: an encoder and the denoiser that its features condition, by one denoising loss.

    `preset` and `tokenizer` say the encoder as `preset` and `model` of task `tokenizer` do, `model` the rest of a
    DiffusionTokenizerConfig. `objective` "regression" trains at pure noise alone, where a clip is reconstructed from
    its features at once: the same networks by reconstruction. `bottleneck` weighs the KL divergence.
    """

    preset: str = "kl_causal_4x8x8_16ch"
    tokenizer: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    objective: str = "denoising"
    bottleneck: float = 1e-4
    validation_levels: int = 8


TASKS: dict[str, type[LoopConfig]] = {
    "tokenizer": TokenizerRecipe,
    "diffusion": DiffusionRecipe,
    "diffusion_tokenizer": DiffusionTokenizerRecipe,
}


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


def parse_override(text: str) -> tuple[str, Any]:
    """The key and the value, read as YAML, of "key=value"; VidgenError for any other form."""
    key, equals, value = text.partition("=")
    if not equals:
        raise VidgenError(f"override {text!r} is not of the form key=value, e.g. steps=100")
    return key, OmegaConf.from_dotlist([f"value={value}"])["value"]


def load_recipe(name: str, overrides: list[str] | tuple[str, ...] = ()) -> LoopConfig:
    """The recipe `name` with `key=value` overrides, checked against its task's dataclass.

    Raises VidgenError for an unknown recipe, task or key, a value of another type, or a missing `out`.
    """
    path = find_recipe(name)
    try:
        written, changes = read_recipe(path), [parse_override(override) for override in overrides]
        task = dict(changes).get("task", written.get("task"))
        if task not in TASKS:
            raise VidgenError(f"{path}: task {task!r} is unknown; choose one of {', '.join(TASKS)}")
        checked = OmegaConf.merge(OmegaConf.structured(TASKS[task]), written)
        for key, value in changes:
            try:
                OmegaConf.update(checked, key, value, merge=True)
            except (TypeError, ValueError, IndexError) as error:  # what omegaconf says of names in a list, for one
                reason = str(error).splitlines()[0]
                raise VidgenError(
                    f"{path}: {key} cannot be set ({reason}); `vidgen train RECIPE --dry-run` prints the keys"
                ) from None
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
    guard = recipe.guard
    if guard.rollbacks < 0 or guard.patience < 1 or guard.window < 1 or not 0 < guard.lr_factor <= 1:
        raise VidgenError(
            f"{path}: guard needs rollbacks >= 0, patience >= 1, window >= 1 and lr_factor in (0, 1], got "
            f"rollbacks={guard.rollbacks}, patience={guard.patience}, window={guard.window}, "
            f"lr_factor={guard.lr_factor}"
        )
    if not recipe.data.sources or sum(s.share for s in recipe.data.sources) <= 0:
        raise VidgenError(f"{path}: data.sources needs at least one source with a share above 0")
    for source in recipe.data.sources:
        if source.kind not in ("shapes", "clips"):
            raise VidgenError(f"{path}: source kind {source.kind!r}: choose 'shapes' or 'clips'")
        if source.kind == "clips" and not source.path:
            raise VidgenError(f"{path}: a source of kind 'clips' needs path=FOLDER, e.g. data.sources.0.path=my_clips")
        if source.num_frames < 0 or source.max_stride < 1:
            raise VidgenError(
                f"{path}: a source needs num_frames >= 0 and max_stride >= 1, got {source.num_frames} and "
                f"{source.max_stride}"
            )
        if isinstance(recipe, DiffusionRecipe) and source.num_frames not in (0, recipe.data.num_frames):
            raise VidgenError(f"{path}: task diffusion takes clips of one length: leave num_frames of its sources at 0")
    if isinstance(recipe, TokenizerRecipe):
        check_tokenizer_recipe(recipe, path)


def check_tokenizer_recipe(recipe: TokenizerRecipe, path: Path) -> None:
    """Raises VidgenError for values that no training of a tokenizer can use."""
    if recipe.part not in ("all", "decoder"):
        raise VidgenError(f"{path}: part {recipe.part!r}: choose 'all' or 'decoder'")
    if recipe.part == "decoder" and not recipe.init_from:
        raise VidgenError(f"{path}: part=decoder needs a trained encoder: set init_from=FOLDER")
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
