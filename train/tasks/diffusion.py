"""Task `diffusion`: a VideoDiT, and its byte-level text encoder, on cached latents of captioned clips."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from einops import reduce
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.diffusion.loss_weighting import prediction_weight
from vidgen.diffusion.noise import TimeDistribution, draw_normal, sample_generator
from vidgen.diffusion.paths import PATHS, expand_level, network_input
from vidgen.diffusion.prediction_types import find_prediction_type, read_prediction_type
from vidgen.errors import VidgenError
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.dit.presets import find_preset
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.ip_adapter import IPAdapterConfig, IPAdapterEncoder, beside_text
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder, TextEncoding, TransformersTextEncoder
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.tokenizer_loading import load_tokenizer
from vidgen.pipelines.video import VideoPipeline
from vidgen.train.config import DiffusionRecipe
from vidgen.train.data.latent_cache import CachedClip, LatentCache
from vidgen.train.data.sources import VALIDATION_SEED_OFFSET, rng_of
from vidgen.train.losses.contrastive import PictureMatching
from vidgen.train.tasks.lora import check_same_prediction, make_lora
from vidgen.train.tasks.task import Task


def build_networks(
    recipe: DiffusionRecipe, latent_channels: int
) -> tuple[VideoDiT, nn.Module, IPAdapterEncoder | None]:
    """The transformer, its text encoder and, where clips have pictures, its image prompt encoder: those of the pipeline
    `init_from`, or new ones from the recipe's seed.

    `text_model.pretrained` names a folder of transformers' T5, UMT5 or CLIP, which is used as it is.
    """
    if recipe.init_from:
        pipeline = load_pipeline(recipe.init_from, dtype=torch.float32, device=recipe.device)
        if not isinstance(pipeline.transformer, VideoDiT):
            raise VidgenError(f"init_from={recipe.init_from} is a published pipeline; only vidgen's own are trained on")
        if pipeline.transformer.config.latent_channels != latent_channels:
            raise VidgenError(f"init_from={recipe.init_from} is for latents of another tokenizer; name another")
        pictures = pipeline.image_prompt or make_image_prompt(recipe, latent_channels, pipeline.text_encoder.width)
        return pipeline.transformer, pipeline.text_encoder, pictures
    text = dict(recipe.text_model)
    pretrained = text.pop("pretrained", None)
    torch.manual_seed(recipe.seed)
    if pretrained:
        encoder: nn.Module = TransformersTextEncoder.from_pretrained(pretrained, device=recipe.device)
    else:
        encoder = ByteTextEncoder(config_from_dict(ByteTextConfig, text, "recipe key `text_model`"))
    sizes = {"latent_channels": latent_channels, "text_width": encoder.width}
    preset = asdict(find_preset(recipe.preset)) if recipe.preset else {}
    config = config_from_dict(VideoDiTConfig, {**preset, **recipe.model, **sizes}, "recipe key `model`")
    if config.labels:
        raise VidgenError(
            f"recipe key `model`: clips of task diffusion have no {config.labels[0]}; leave classes, tasks, frame_rate "
            "and frame_size out"
        )
    return VideoDiT(config), encoder, make_image_prompt(recipe, latent_channels, encoder.width)


def make_image_prompt(recipe: DiffusionRecipe, latent_channels: int, text_width: int) -> IPAdapterEncoder | None:
    """A new one from the recipe's seed; None where no clip has a picture."""
    if not recipe.reference:
        return None
    torch.manual_seed(recipe.seed)
    sizes = {"latent_channels": latent_channels, "text_width": text_width}
    config = config_from_dict(IPAdapterConfig, {**recipe.image_model, **sizes}, "recipe key `image_model`")
    return IPAdapterEncoder(config).to(recipe.device)


def draw_given(b: int, frames: int, share: float, generator: torch.Generator) -> Bool[Tensor, "b t"]:
    """Which latent frames of a batch are given clean, in about `share` of the clips: the first one, the first and the
    last, those up to some moment, or any (each with probability 1/4). At least one frame is left to be made."""
    one, moment, kind = (torch.rand(b, 1, generator=generator) for _ in range(3))
    place = torch.arange(frames)
    first = (place == 0).expand(b, frames)
    ends = first | (place == frames - 1)
    past = place < 1 + (moment * (frames - 1)).floor()
    some = torch.rand(b, frames, generator=generator) < 0.5
    kinds = torch.stack([first, ends, past, some])  # kind b t
    chosen = kinds[(kind[:, 0] * len(kinds)).long(), torch.arange(b)]
    return chosen & ~chosen.all(dim=1, keepdim=True) & (one < share)


class DiffusionTask(Task):
    """The denoising loss w(t) |prediction - target|^2 at levels drawn from the recipe's TimeDistribution.

    Of an image prompt encoder that is trained alone the target is what the same denoiser predicts from the whole
    caption: in the mean over clips that is the other loss's best answer too, and has none of the noise's variance.
    Beside it `PictureMatching` teaches it to tell apart what differs in a few pixels only, such as shapes.
    """

    def __init__(self, recipe: DiffusionRecipe) -> None:
        self.recipe = recipe
        self.time = config_from_dict(TimeDistribution, recipe.time, "recipe key `time`")
        recipe.prediction_type = read_prediction_type(recipe.prediction_type)
        self.target, self.path = find_prediction_type(recipe.prediction_type).target, PATHS[self.time.path]()
        prediction_weight(recipe.weighting, recipe.prediction_type, torch.ones(1), torch.ones(1))  # a name it knows
        dtype = torch.bfloat16 if recipe.autocast == "bfloat16" else torch.float32
        self.tokenizer = load_tokenizer(recipe.tokenizer, dtype=dtype, device=recipe.device)
        networks = build_networks(recipe, self.tokenizer.config.latent_channels)
        self.transformer, self.text_encoder, self.image_prompt = networks
        trained: dict[str, nn.Module] = {"transformer": self.transformer}
        # Published encoders stay as they are.
        if recipe.train_text and isinstance(self.text_encoder, ByteTextEncoder):
            trained["text_encoder"] = self.text_encoder
        if recipe.reference:
            trained["image_prompt"] = self.image_prompt
        if recipe.part == "image_prompt":
            check_same_prediction(recipe, self.time.path, "an image prompt encoder")
            torch.manual_seed(recipe.seed)
            matching = PictureMatching(self.text_encoder.width).to(recipe.device)  # for training alone: not exported
            trained = {"image_prompt": self.image_prompt, "matching": matching}
        if recipe.lora_rank:
            trained = {"lora": make_lora(self.transformer, recipe, self.time.path)}
        self.model = nn.ModuleDict(trained).requires_grad_(True)
        pictures = recipe.reference > 0
        self.dataset = LatentCache(
            self.tokenizer,
            recipe.data,
            seed=recipe.seed,
            count=recipe.cached_clips,
            cache=recipe.cache,
            pictures=pictures,
        )
        self.held_out = LatentCache(
            self.tokenizer,
            recipe.data,
            seed=recipe.seed + VALIDATION_SEED_OFFSET,
            count=recipe.data.validation_clips,
            part="validation",
            cache=recipe.cache,
            pictures=pictures,
        )

    def gather(self, samples: list[CachedClip]) -> dict[str, Any]:
        batch = {"latents": torch.stack([s.latents for s in samples]), "captions": [s.caption for s in samples]}
        if self.recipe.reference:
            batch["pictures"] = torch.stack([s.picture for s in samples])
            batch |= {"beside": [s.beside for s in samples], "shows": [s.shows for s in samples]}
        return batch

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        x0, captions = batch["latents"], batch["captions"]
        b, frames, time = x0.shape[0], x0.shape[2], self.time_of(x0)
        dropped = torch.rand(b, generator=generator) < self.recipe.drop_text
        t = time.sample((b, 1), generator).expand(b, frames)
        if self.recipe.per_frame_noise > 0:  # diffusion forcing (Chen et al. 2024): a level of its own for each frame
            own = torch.rand(b, 1, generator=generator) < self.recipe.per_frame_noise
            t = torch.where(own, time.sample((b, frames), generator), t)
        if self.recipe.given_frames > 0:
            t = t.masked_fill(draw_given(b, frames, self.recipe.given_frames, generator), 0.0)
        eps = draw_normal(x0.shape, generator)
        said, pictures, shown = captions, batch.get("pictures"), None
        if pictures is not None:
            shown, whole = torch.rand(2, b, generator=generator)
            shown, left_out = shown < self.recipe.reference, whole >= self.recipe.whole_captions
            pairs = zip(captions, batch["beside"], shown & left_out, strict=True)
            said = [beside if short else caption for caption, beside, short in pairs]
        said = ["" if drop else caption for drop, caption in zip(dropped, said, strict=True)]
        tokens = None if pictures is None else self.image_prompt(pictures.to(self.recipe.device))
        text = self.encode(said, tokens, shown)
        if self.recipe.part != "image_prompt":
            return self.denoising_loss(x0, text, t, eps).mean(), {}
        with torch.no_grad():
            teacher, shows = self.encode(captions), self.encode(batch["shows"])
        distance = self.denoising_loss(x0, text, t, eps, teacher).mean()
        matching = self.model["matching"](tokens, shows, batch["shows"])
        loss = distance + self.recipe.match_weight * matching
        return loss, {"distance": distance.item(), "matching": matching.item()}

    def encode(
        self,
        captions: list[str],
        tokens: Float[Tensor, "b n d"] | None = None,
        shown: Bool[Tensor, " b"] | None = None,
    ) -> TextEncoding:
        """The captions, beside tokens of pictures in the clips that are `shown` theirs (None: all)."""
        text = self.text_encoder(captions)
        return text if tokens is None else beside_text(text, tokens, shown)

    def time_of(self, latents: Tensor) -> TimeDistribution:
        """The time distribution for clips of this size."""
        _, p, q = self.transformer.config.patch
        return self.time.for_size((latents.shape[3] // p) * (latents.shape[4] // q), latents.shape[2])

    def denoising_loss(
        self,
        x0: Float[Tensor, "b c t h w"],
        text: TextEncoding | list[str],
        t: Float[Tensor, b * f],
        eps: Float[Tensor, "b c t h w"],
        teacher: TextEncoding | None = None,
    ) -> Float[Tensor, " b"]:
        """Weighted mean squared error of the prediction over the frames that have noise, one value a clip.

        `text` may be captions as they are. The target is the clip's own, or what is predicted from the text `teacher`.
        """
        text = self.encode(text) if isinstance(text, list) else text
        x0, t, eps = (v.to(self.recipe.device) for v in (x0, t, eps))
        level = expand_level(t, x0)
        alpha, sigma = self.path.alpha(level), self.path.sigma(level)
        x = network_input(x0, eps, t, self.path)
        prediction = self.transformer(x, t, text)
        target = self.target(x0, eps, alpha, sigma)
        if teacher is not None:
            with torch.no_grad():
                target = self.transformer(x, t, teacher).float()
        weight = prediction_weight(self.recipe.weighting, self.recipe.prediction_type, alpha, sigma)
        noisy = (sigma > 0).expand(len(x0), 1, x0.shape[2], 1, 1)  # nothing hints at the noise of the other frames
        weight = torch.where(noisy, weight, torch.zeros_like(sigma))
        error = weight * (prediction.float() - target).square()
        return reduce(error, "b c t h w -> b t", "mean").sum(1) / noisy.flatten(1).sum(1)

    def validate(self) -> dict[str, float]:
        """`measure` of held-out clips; where they have pictures, with these and what there is to say beside them, and
        the loss of the same words alone and of whole captions, between which it should lie."""
        rows, seed = range(len(self.held_out.rows)), self.recipe.seed
        captions = [self.held_out.caption(i, rng_of(seed, i)) for i in rows]
        if self.held_out.pictures is None:
            return self.measure(captions)
        beside = [self.held_out.beside(i, rng_of(seed, i)) for i in rows]
        others = {"loss_without_picture": self.measure(beside), "loss_whole_caption": self.measure(captions)}
        found = self.measure(beside, self.held_out.pictures.float())
        return {**found, **{name: other["loss"] for name, other in others.items()}}

    def measure(self, captions: list[str], pictures: Float[Tensor, "n c 1 h w"] | None = None) -> dict[str, float]:
        """The loss of held-out clips at fixed, equally probable noise levels with fixed noise, and its mean."""
        latents = self.held_out.latents.float()
        eps = draw_normal(latents.shape, sample_generator(self.recipe.seed, "validation"))
        metrics = {}
        for level in self.time_of(latents).stratified(self.recipe.validation_levels).tolist():
            losses = []
            for first in range(0, len(latents), self.recipe.batch_size):
                part = slice(first, first + self.recipe.batch_size)
                t = torch.full((len(latents[part]),), level)
                tokens = None if pictures is None else self.image_prompt(pictures[part].to(self.recipe.device))
                text = self.encode(captions[part], tokens)
                losses.append(self.denoising_loss(latents[part], text, t, eps[part]))
            metrics[f"loss@t={level:.3f}"] = torch.cat(losses).mean().item()
        return {"loss": sum(metrics.values()) / len(metrics), **metrics}

    def export(self, folder: Path) -> None:
        """Writes a whole pipeline: the tokenizer, the denoiser and its encoders, with the time distribution; or the
        LoRA where that is what was trained."""
        data, dtype = self.recipe.data, torch.bfloat16 if self.recipe.autocast == "bfloat16" else None
        if "lora" in self.model:
            self.model["lora"].save(folder, dtype=dtype)
            return
        scheduler = SchedulerConfig(
            prediction_type=self.recipe.prediction_type,
            time_distribution=self.time,
            num_frames=data.num_frames,
            height=data.size[0],
            width=data.size[1],
            fps=data.fps,
        )
        pipeline = VideoPipeline(self.tokenizer, self.transformer, self.text_encoder, scheduler, self.image_prompt)
        pipeline.save_pretrained(folder, dtype=dtype)
