"""The networks of a denoising loss: those of a trained pipeline, or new ones from a recipe."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.hashing import model_hash
from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.diffusion.paths import ProbabilityPath, network_input
from vidgen.diffusion.prediction_types import read_prediction_type
from vidgen.errors import VidgenError
from vidgen.interfaces import NoiseSchedule
from vidgen.models.causal_attention import teacher_forcing_layout
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.dit.presets import find_preset
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.ip_adapter import IPAdapterConfig, IPAdapterEncoder
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder, TextEncoding
from vidgen.models.text.packages import find_text_model
from vidgen.models.text.transformers_encoder import TransformersTextEncoder
from vidgen.pipelines.loading import load_pipeline
from vidgen.train.config import DiffusionRecipe
from vidgen.train.config.distillation import DistillationRecipe

TASK_ROWS = "labels_in.task_id.weight"


@dataclass(frozen=True, kw_only=True)
class Networks:
    """The networks of a denoising loss. `image_prompt` is None where no clip has a picture, `schedule` that of the
    pipeline that they come from, None for new ones."""

    transformer: VideoDiT
    text_encoder: nn.Module
    image_prompt: IPAdapterEncoder | None
    schedule: NoiseSchedule | None = None

    def check_same_prediction(self, recipe: DiffusionRecipe, path: str, learner: str) -> None:
        """Raise VidgenError where `learner` would learn something else than the model of `init_from` predicts."""
        base = {"prediction_type": self.schedule.prediction_type, "path": self.schedule.time_distribution.path}
        for key, own in (("prediction_type", read_prediction_type(recipe.prediction_type)), ("path", path)):
            if base[key] != own:
                raise VidgenError(
                    f"init_from={recipe.init_from}: its {key} is {base[key]}, not {own}; {learner} needs the same"
                )


def build_networks(recipe: DiffusionRecipe, latent_channels: int) -> Networks:
    """Return the networks of the pipeline `init_from`, or new ones from the recipe's seed.

    `text_model.pretrained` names a folder of transformers' T5, UMT5 or CLIP, which is used as it is.
    """
    if recipe.init_from:
        pipeline = load_pipeline(recipe.init_from, dtype=torch.float32, device=recipe.device)
        if not isinstance(pipeline.transformer, VideoDiT):
            raise VidgenError(f"init_from={recipe.init_from} is a published pipeline; only vidgen's own are trained on")
        if pipeline.transformer.config.latent_channels != latent_channels:
            raise VidgenError(f"init_from={recipe.init_from} is for latents of another tokenizer; name another")
        return Networks(
            transformer=add_tasks(pipeline.transformer, recipe),
            text_encoder=pipeline.text_encoder,
            image_prompt=pipeline.image_prompt
            or make_image_prompt(recipe, latent_channels, pipeline.text_encoder.width),
            schedule=pipeline.scheduler,
        )
    text = dict(recipe.text_model)
    pretrained = text.pop("pretrained", None)
    torch.manual_seed(recipe.seed)
    if pretrained:
        encoder: nn.Module = TransformersTextEncoder.from_pretrained(find_text_model(pretrained), device=recipe.device)
    else:
        encoder = ByteTextEncoder(config_from_dict(ByteTextConfig, text, "recipe key `text_model`"))
    sizes = {"latent_channels": latent_channels, "text_width": encoder.width}
    preset = asdict(find_preset(recipe.preset)) if recipe.preset else {}
    config = config_from_dict(VideoDiTConfig, {**preset, **recipe.model, **sizes}, "recipe key `model`")
    if config.labels:
        raise VidgenError(
            f"recipe key `model`: clips of task diffusion have no {config.labels[0]}; leave classes, tasks, frame_rate "
            "and frame_size out (generation tasks are the recipe's own key `tasks`)"
        )
    if recipe.tasks:
        config = replace(config, tasks=len(recipe.tasks), task_names=tuple(recipe.tasks))
    return Networks(
        transformer=VideoDiT(config),
        text_encoder=encoder,
        image_prompt=make_image_prompt(recipe, latent_channels, encoder.width),
    )


def add_tasks(transformer: VideoDiT, recipe: DiffusionRecipe) -> VideoDiT:
    """Return the denoiser of `init_from` with the recipe's generation tasks added, which have no effect yet.

    Raises VidgenError where only one of them has tasks that it needs.
    """
    config = transformer.config
    names = [*config.task_names, *(task for task in recipe.tasks if task not in config.task_names)]
    if config.labels and not (config.task_names and recipe.tasks):
        known = ", ".join(config.task_names) or ", ".join(config.labels)
        raise VidgenError(
            f"init_from={recipe.init_from} is told {known}: say by `tasks` which it is trained for, each with its share"
        )
    if len(names) == len(config.task_names):
        return transformer
    if recipe.task != "diffusion":
        raise VidgenError(
            f"init_from={recipe.init_from} lacks the task {names[-1]}, which task {recipe.task} cannot add"
        )
    wider = VideoDiT(replace(config, tasks=len(names), task_names=tuple(names)))
    weights = transformer.state_dict()
    rows = wider.labels_in.task_id.weight.detach().to(next(iter(weights.values())))
    if config.task_names:
        rows[: len(config.task_names)] = weights[TASK_ROWS]
    wider.load_state_dict({**weights, TASK_ROWS: rows})
    return wider.to(rows.device).eval().requires_grad_(False)


def make_image_prompt(recipe: DiffusionRecipe, latent_channels: int, text_width: int) -> IPAdapterEncoder | None:
    """Return a new image prompt encoder from the recipe's seed; None where no clip has a picture."""
    if not recipe.reference:
        return None
    torch.manual_seed(recipe.seed)
    sizes = {"latent_channels": latent_channels, "text_width": text_width}
    config = config_from_dict(IPAdapterConfig, {**recipe.image_model, **sizes}, "recipe key `image_model`")
    return IPAdapterEncoder(config).to(recipe.device)


def make_causal(transformer: VideoDiT, recipe: DiffusionRecipe) -> VideoDiT:
    """Return the denoiser with the recipe's `model.causal_chunks`, if it has any: weights stay."""
    chunks = tuple(recipe.model.get("causal_chunks", transformer.config.causal_chunks))
    return transformer if chunks == transformer.config.causal_chunks else transformer.with_chunks(chunks)


def make_student(teacher: Networks, recipe: DistillationRecipe) -> VideoDiT:
    """Return the denoiser of `student_from`, which is that of its own student if it has one, or a copy of the teacher;
    causal where the recipe says so.

    Raises VidgenError for a student of other latents, of another text encoder, or that predicts something else.
    """
    if not recipe.student_from:
        student = make_causal(teacher.transformer, recipe)
        return deepcopy(student) if student is teacher.transformer else student
    pipe = load_pipeline(recipe.student_from, dtype=torch.float32, device=recipe.device)
    pipe = pipe.student or pipe
    facts = {
        "latent_channels": lambda n, s: n.transformer.config.latent_channels,
        "prediction type and path": lambda n, s: (s.prediction_type, s.time_distribution.path),
        "text encoder": lambda n, s: model_hash(n.text_encoder)[:8],
    }
    for name, read in facts.items():
        own, other = read(pipe, pipe.scheduler), read(teacher, teacher.schedule)
        if own != other:
            raise VidgenError(
                f"student_from={recipe.student_from}: its {name} is {own}, and the teacher's {other}; name a student "
                "of the same tokenizer and text encoder (train_text=false keeps it)"
            )
    return make_causal(pipe.transformer, recipe)


def check_forcing(recipe: DiffusionRecipe, transformer: VideoDiT) -> None:
    """Raise VidgenError for teacher forcing of a denoiser that is not causal."""
    if recipe.teacher_forcing and not any(transformer.config.causal_chunks):
        raise VidgenError("teacher_forcing is for causal denoisers: set model.causal_chunks, e.g. to [1,2]")


def check_stories(recipe: DistillationRecipe, student: VideoDiT) -> None:
    """Raise VidgenError for stories of a student that does not go on from its own frames, and for a window without."""
    if recipe.data.scenes() > 1 and not any(student.config.causal_chunks):
        raise VidgenError("a student of clips of several scenes is causal: set model.causal_chunks, e.g. to [1,2]")
    if recipe.window_frames and not any(student.config.causal_chunks):
        raise VidgenError("window_frames is for causal students: set model.causal_chunks, e.g. to [1,2]")


def follow_clean(network: nn.Module, x0: Float[Tensor, "b c t h w"], path: ProbabilityPath) -> AfterClean:
    """Return the causal network after the clean chunks of x0."""
    level = torch.zeros(len(x0), device=x0.device)
    return AfterClean(network=network, clean=network_input(x0, torch.zeros_like(x0), level, path))


@dataclass(frozen=True, kw_only=True)
class AfterClean:
    """A causal network that predicts each chunk after the clean chunks before it (teacher forcing)."""

    network: nn.Module
    clean: Float[Tensor, "b c t h w"]  # as the network is shown it

    @property
    def config(self) -> VideoDiTConfig:
        """The network's config."""
        return self.network.config

    def __call__(self, x: Float[Tensor, "b c t h w"], t: Tensor, text: TextEncoding) -> Float[Tensor, "b c t h w"]:
        """Return the prediction at levels t, (b,) or one a frame. Rows of x may be the clean clips several times."""
        frames = x.shape[2]
        t = t if t.ndim == 2 else t[:, None].expand(-1, frames)
        clean = self.clean.repeat(len(x) // len(self.clean), 1, 1, 1, 1)
        layout = teacher_forcing_layout(frames, self.config.causal_chunks)
        both = torch.cat([clean, x], dim=2), torch.cat([torch.zeros_like(t), t], dim=1)
        return self.network(*both, text, layout=layout)[:, :, frames:]
