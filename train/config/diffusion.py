"""What the tasks on a denoising loss are trained on: `diffusion`, `lora` and `ip_adapter`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from vidgen.bounds import Choice, Count, NoOrCount, Positive, Share, Weight, Width
from vidgen.checkpoints.hub import SHIPPED
from vidgen.checkpoints.pretrained import config_from_dict, read_config
from vidgen.data.frames import latent_frames
from vidgen.diffusion.loss_weighting import WEIGHTINGS
from vidgen.diffusion.prediction_types import PREDICTION_TYPES
from vidgen.errors import VidgenError
from vidgen.models.dit.label_embedding import TEXT_TO_VIDEO
from vidgen.samplers.conditioning.generation_tasks import GENERATION_TASKS, SHORTEST
from vidgen.tokenizers.config import TokenizerConfig
from vidgen.train.config.run import LoopConfig


@dataclass
class DiffusionRecipe(LoopConfig):
    """Task `diffusion`: a VideoDiT and, where `text_model` is set, a text encoder trained with it.

    `preset` names a size of VideoDiT (vidgen.models.dit.presets; empty: the defaults), `model` overrides fields
    of its config. Latents of `cached_clips` clips (0: 16 crops of each file) are encoded once by `tokenizer` and kept
    in `cache`, keyed by the tokenizer's hash and the data. `time` is the TimeDistribution that the checkpoint carries
    to the sampler, path included; `weighting` is one of vidgen.diffusion.loss_weighting, "none" for the plain error of
    what is predicted. `train_text` false keeps the text encoder as it is.
    `gradient_checkpointing` computes each block again in the backward pass: less memory, about a third more work.

    Shares of the clips: `drop_text` without their caption, `per_frame_noise` with a noise level of its own for each
    latent frame, `given_frames` with some latent frames clean, from which the others are made (images to video,
    continuation, frames between), `reference` with a picture of what they show beside their caption, by an image prompt
    encoder of shape `image_model`. What the picture makes unnecessary is left out of the captions of those clips, but
    for `whole_captions` of them.

    A causal denoiser (`model.causal_chunks`, which a trained one of `init_from` becomes too) has a noise level for each
    chunk where others have one for each frame. In `teacher_forcing` of the batches chunks are denoised after the clean
    chunks before them, as they are in generation; with `per_frame_noise` of 1 in the others (diffusion forcing).

    `tasks` are generation tasks with shares, of vidgen.samplers.conditioning.generation_tasks, in place of
    `given_frames`: each clip of a batch draws one and has its condition, and the network is told which by an id.

    `alignment` are fields of `AlignmentConfig`: tokens of the denoiser are drawn to a frozen encoder's.
    """

    tokenizer: str = "default"
    cache: str = ""
    cached_clips: NoOrCount = 20000
    preset: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    text_model: dict[str, Any] = field(default_factory=dict)
    prediction_type: Annotated[str, Choice(PREDICTION_TYPES)] = "flow_prediction"
    weighting: Annotated[str, Choice(("none", *WEIGHTINGS))] = "none"
    time: dict[str, Any] = field(default_factory=dict)
    train_text: bool = True
    drop_text: Share = 0.1
    per_frame_noise: Share = 0.0
    given_frames: Share = 0.0
    teacher_forcing: Share = 0.0
    tasks: dict[str, Positive] = field(default_factory=dict)
    reference: Share = 0.0
    whole_captions: Share = 0.2
    image_model: dict[str, Any] = field(default_factory=dict)
    validation_levels: Count = 8
    gradient_checkpointing: bool = False
    alignment: dict[str, Any] = field(default_factory=dict)

    def check(self, path: Path) -> None:
        """Raise VidgenError for lengths of clips that the model is not for, or that the tokenizer cuts short."""
        super().check(path)
        if self.alignment and self.task != "diffusion":
            raise VidgenError(f"{path}: alignment is of task diffusion, not {self.task}; leave it out")
        lengths = self.data.lengths()
        if self.data.num_frames not in lengths:
            raise VidgenError(
                f"{path}: data.num_frames={self.data.num_frames} is what the model makes, and no source has it: give "
                f"one of {', '.join(map(str, lengths))}"
            )
        ratio = read_temporal_ratio(self.tokenizer)
        if ratio:
            check_lengths(lengths, ratio, str(path))
        self.check_tasks(path, ratio)
        if self.data.scenes() > 1 and (self.tasks or self.given_frames or self.reference):
            raise VidgenError(
                f"{path}: of clips of {self.data.scenes()} scenes the earlier ones are known, and nothing else: leave "
                "tasks, given_frames and reference out"
            )

    def check_tasks(self, path: Path, temporal_ratio: int | None) -> None:
        """Raise VidgenError for tasks that are unknown, that clips are too short for, or that are said twice."""
        if unknown := [name for name in self.tasks if name not in GENERATION_TASKS]:
            raise VidgenError(f"{path}: tasks.{unknown[0]} is unknown; choose of {', '.join(GENERATION_TASKS)}")
        if self.tasks and self.given_frames:
            raise VidgenError(f"{path}: given_frames={self.given_frames} has no ids: set it to 0, or leave tasks out")
        if temporal_ratio is None:
            return
        frames = [latent_frames(length, temporal_ratio) for length in self.data.lengths()]
        for name in self.tasks:
            if (least := SHORTEST.get(name, 1)) > max(frames):
                raise VidgenError(
                    f"{path}: tasks.{name} needs clips of {1 + (least - 1) * temporal_ratio} frames or more, and "
                    f"data.num_frames is {self.data.num_frames}"
                )
            if least > min(frames) and TEXT_TO_VIDEO not in self.tasks:
                raise VidgenError(
                    f"{path}: clips of {self.data.lengths()[0]} frames are too short for tasks.{name}, and are made "
                    f"from text alone: give tasks.{TEXT_TO_VIDEO} a share"
                )


def read_temporal_ratio(tokenizer: str) -> int | None:
    """Return how many frames a latent frame of this tokenizer holds after the first; None where it is not here yet, or
    of a published class: those say so when they are loaded."""
    try:
        folder = SHIPPED / tokenizer if (SHIPPED / tokenizer / "vae").is_dir() else Path(tokenizer)
        values = read_config(folder / "vae" if (folder / "vae").is_dir() else folder)
        if values.get("_class_name") != "VideoTokenizer":
            return None
        return config_from_dict(TokenizerConfig, values, tokenizer).temporal_compression_ratio
    except VidgenError:
        return None


def check_lengths(lengths: list[int], temporal_ratio: int, where: str) -> None:
    """Raise VidgenError for lengths that are mixed, of which one ends within a latent frame of `temporal_ratio`."""
    for frames in lengths if len(lengths) > 1 else ():
        if rest := (frames - 1) % temporal_ratio:
            near = [frames - rest, frames - rest + temporal_ratio]
            raise VidgenError(
                f"{where}: clips of {frames} frames end within a latent frame, which holds {temporal_ratio} after the "
                f"first: give num_frames {near[0]} or {near[1]}"
            )


@dataclass
class LoRARecipe(DiffusionRecipe):
    """Task `lora`: a LoRA of rank `lora_rank` on the denoiser of `init_from`, and nothing else.

    `final` is its file, for `vidgen sample --lora`. `lora_alpha` scales it by alpha / rank; 0 is the rank.
    """

    lora_rank: Width = 8
    lora_alpha: Weight = 0.0

    def check(self, path: Path) -> None:
        """Raise VidgenError for a LoRA on nothing, or by an optimizer that is for whole matrices."""
        super().check(path)
        if not self.init_from:
            raise VidgenError(
                f"{path}: lora_rank={self.lora_rank} needs a trained model: set init_from, e.g. to default"
            )
        if self.optimizer.kind != "adamw":
            raise VidgenError(f"{path}: a LoRA is trained with optimizer.kind=adamw, not {self.optimizer.kind}")
        if self.reference:
            raise VidgenError(f"{path}: a LoRA is trained without pictures: set reference=0")


@dataclass
class TextualInversionRecipe(DiffusionRecipe):
    """Task `textual_inversion`: `tokens` tokens for what the clips have in common, by the frozen pipeline `init_from`.

    They stand beside each clip's caption, or beside `caption` in place of it: one that leaves out what the tokens are
    to say. `final` holds them alone, for `vidgen sample --reference`.
    """

    tokens: Width = 4
    caption: str = ""

    def check(self, path: Path) -> None:
        """Raise VidgenError for tokens of no model, or beside other conditions."""
        super().check(path)
        if not self.init_from:
            raise VidgenError(f"{path}: task textual_inversion needs a trained model: set init_from, e.g. to default")
        if self.optimizer.kind != "adamw":
            raise VidgenError(f"{path}: tokens are learned with optimizer.kind=adamw, not {self.optimizer.kind}")
        if self.reference or self.tasks or self.drop_text:
            raise VidgenError(
                f"{path}: tokens are learned beside every caption, without pictures and tasks: set drop_text=0, "
                "reference=0 and no tasks"
            )


@dataclass
class IPAdapterRecipe(DiffusionRecipe):
    """Task `ip_adapter`: the image prompt encoder of the pipeline `init_from`, or a new one for it, alone.

    It learns from what the denoiser, kept as it is with its text encoder, predicts from the whole caption;
    `match_weight` weighs beside that how well pictures are told apart by what they show in words.
    """

    reference: Share = 1.0
    match_weight: Weight = 0.1

    def check(self, path: Path) -> None:
        """Raise VidgenError for an image prompt encoder with nothing to learn from."""
        super().check(path)
        if not (self.init_from and self.reference):
            raise VidgenError(
                f"{path}: task ip_adapter needs a trained model and clips with a picture: set init_from, e.g. to "
                "default, and reference, e.g. to 1"
            )
