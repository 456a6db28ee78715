"""Task `align`: clips and their captions in one space, by a loss over the scores of all pairs of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.data import Dataset

from vidgen.checkpoints.hub import durable_name, find_model
from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.data.frames import to_tensor
from vidgen.data.shapes import ClipLabels, ShapeWorldConfig
from vidgen.data.shapes.changed_captions import change_caption
from vidgen.data.shapes.render import render
from vidgen.data.shapes.scenes.counterfactuals import COUNTERFACTUALS, CounterfactualWorld
from vidgen.data.shapes.truth import truth_matrix
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.models.text.loading import load_text_encoder
from vidgen.models.text_video.dual_encoder import DualEncoder, is_dual_encoder
from vidgen.models.text_video.embedding import Embedding, join_embeddings
from vidgen.models.text_video.heads import JointHeads, JointHeadsConfig
from vidgen.train.config.text_video.align import AlignRecipe
from vidgen.train.data.sources import VALIDATION_SEED_OFFSET, Mixture, Sample, collate, rng_of
from vidgen.train.objectives.text_video import TEXT_VIDEO_OBJECTIVES, PairLabels
from vidgen.train.runtime.distributed import gather_items, gather_rows, world_size
from vidgen.train.tasks.task import Metrics, Task, export_dtype

COUNTERFACTUAL_SEED_OFFSET = 0xC0DE  # another stream than the mixture's, whatever its seed


def build_dual_encoder(recipe: AlignRecipe) -> DualEncoder:
    """Return the dual encoder of `init_from`, or a new one from the recipe's seed. Raises VidgenError for parts that do
    not fit."""
    torch.manual_seed(recipe.seed)
    clip = {"clip": (recipe.data.num_frames, *recipe.data.size), "fps": recipe.data.fps}
    folder = find_model(recipe.init_from) if recipe.init_from else None
    if folder is not None and is_dual_encoder(folder):
        model = DualEncoder.from_pretrained(folder)
        model.video.config = model.config = replace(model.config, **clip)
        return model.requires_grad_(True)
    if folder is not None:
        video = VideoViT.from_pretrained(folder, dtype=torch.float32).requires_grad_(True)
        video.config = replace(video.config, **clip)
    else:
        video = VideoViT(config_from_dict(VideoViTConfig, recipe.encoder | clip, "recipe key `encoder`"))
    heads = dict(recipe.heads)
    if name := heads.get("text_encoder", ""):
        text = load_text_encoder(name, device=recipe.device)
        heads["text_encoder"] = name if not Path(name).is_dir() else durable_name(name, find_model(name))
    else:
        text = ByteTextEncoder(config_from_dict(ByteTextConfig, recipe.text, "recipe key `text`"))
    widths = {"video_width": video.config.width, "text_width": text.width}
    config = config_from_dict(JointHeadsConfig, heads | widths, "recipe key `heads`")
    return DualEncoder(video=video, text=text, heads=JointHeads(config))


def find_truths(
    captions: Sequence[str], labels: Sequence[ClipLabels | None], own: Sequence[str]
) -> Bool[Tensor, "n m"]:
    """Return which captions are true of which clips: by labels where all clips have some, else where a clip's `own`
    caption has the same words."""
    if all(label is not None for label in labels):
        return torch.from_numpy(truth_matrix(captions, labels))
    return torch.tensor([[caption == other for other in own] for caption in captions])


def gather_embedding(embedding: Embedding) -> Embedding:
    """Return the texts or clips of all processes, with their gradients; tokens are padded to the longest."""
    if world_size() == 1:
        return embedding
    longest = max(gather_items([embedding.tokens.shape[1]]))
    rest = longest - embedding.tokens.shape[1]
    return Embedding(
        vectors=gather_rows(embedding.vectors),
        tokens=gather_rows(F.pad(embedding.tokens, (0, 0, 0, rest))),
        mask=gather_rows(F.pad(embedding.mask, (0, rest)).to(torch.uint8)).bool(),
    )


def draw_seen(count: int, tokens: int, share: float, generator: torch.Generator) -> Int[Tensor, "b k"] | None:
    """Draw which tokens of each clip are seen, None for all."""
    if share == 1.0:
        return None
    order = torch.rand(count, tokens, generator=generator).argsort(dim=1)
    return order[:, : max(1, round(share * tokens))].sort(dim=1).values


class WithCounterfactuals(Dataset):
    """The items of a mixture, of which the first ones of each step are pairs of clips that differ in one thing, of all
    kinds alike."""

    def __init__(self, mixture: Mixture, recipe: AlignRecipe) -> None:
        data = recipe.data
        height, width = data.size
        config = ShapeWorldConfig(height=height, width=width, num_frames=data.num_frames, fps=round(data.fps))
        kinds = [name for name, kind in COUNTERFACTUALS.items() if kind.least_frames <= data.num_frames]
        self.mixture, self.config, self.seed = mixture, config, recipe.seed
        self.worlds = [CounterfactualWorld(name, config) for name in kinds]
        self.count = round(recipe.counterfactuals * recipe.batch_size / 2) * 2

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        step, slot = key
        if slot >= self.count:
            return self.mixture[key]
        pair, side = divmod(slot, 2)
        rng = rng_of(self.seed + COUNTERFACTUAL_SEED_OFFSET, step, pair)
        world = self.worlds[int(rng.integers(len(self.worlds)))]
        captions, labels = world.sample_prompts(int(rng.integers(2**40)))
        video = to_tensor(render(labels[side], self.config))
        return Sample(video=video, caption=captions[side], labels=labels[side])


class AlignTask(Task):
    """The loss is the objective's, of the scores of every caption with every clip of a batch."""

    def __init__(self, recipe: AlignRecipe) -> None:
        self.recipe = recipe
        self.model = build_dual_encoder(recipe).to(recipe.device)
        if not recipe.train_video:
            self.model.video.requires_grad_(False)
        self.objective = TEXT_VIDEO_OBJECTIVES[recipe.objective]
        mixture = Mixture(recipe.data, recipe.seed)
        self.dataset = WithCounterfactuals(mixture, recipe) if recipe.counterfactuals else mixture
        self.held_out = Mixture(recipe.data, recipe.seed + VALIDATION_SEED_OFFSET, "validation")

    def gather(self, samples: list[Sample]) -> dict[str, Any]:
        """Return clips, captions and labels."""
        return collate(samples) | {"labels": [sample.labels for sample in samples]}

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the objective of a batch, and how often the best of a caption's or a clip's pairs is its own."""
        video = batch["video"].to(self.recipe.device)
        captions, labels = list(batch["captions"]), batch["labels"]
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        changed = [change_caption(x, rng) for x in labels for _ in range(self.recipe.changed_captions)]
        t, h, w = self.model.video.grid_of(video)
        keep = draw_seen(len(video), t * h * w, self.recipe.seen, generator)
        videos = self.model.embed_videos(video, None if keep is None else keep.to(video.device))
        texts = self.model.embed_texts(captions + changed)
        if self.model.training:  # negatives are of the whole batch, whichever process has them; validation is of one
            own, others = texts[: len(captions)], texts[len(captions) :]
            texts = join_embeddings(
                [gather_embedding(own), gather_embedding(others)] if changed else [gather_embedding(own)]
            )
            videos = gather_embedding(videos)
            captions, changed, labels = gather_items(captions), gather_items(changed), gather_items(labels)
        scores = self.model.score(texts, videos)
        own = torch.eye(len(texts), len(videos), dtype=torch.bool, device=scores.device)
        truths = find_truths(captions + changed, labels, captions).to(scores.device)
        pairs = PairLabels(positives=own, negatives=~(own | truths))
        loss, parts = self.objective(scores, pairs, self.model.logit_scale, self.model.heads.logit_bias)
        return loss, {"logit_scale": self.model.logit_scale.item(), **{name: x.item() for name, x in parts.items()}}

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Return R@1 both ways among held-out clips and their captions, every true one counted, and the loss."""
        recipe, count = self.recipe, self.recipe.data.validation_clips
        generator = torch.Generator().manual_seed(recipe.seed)
        losses, texts, videos, captions, labels = [], [], [], [], []
        for first in range(0, count, recipe.batch_size):
            batch = self.gather([self.held_out[(0, i)] for i in range(first, min(first + recipe.batch_size, count))])
            if len(batch["labels"]) > 1:
                losses.append(self.loss(batch, generator)[0].item())
            texts.append(self.model.embed_texts(batch["captions"]))
            videos.append(self.model.embed_videos(batch["video"].to(recipe.device)))
            captions += batch["captions"]
            labels += batch["labels"]
        scores = self.model.score(join_embeddings(texts), join_embeddings(videos)).cpu()
        truths = find_truths(captions, labels, captions)
        return {
            "loss": float(np.mean(losses)),
            "text_to_video_r1": truths.gather(1, scores.argmax(1, keepdim=True)).float().mean().item(),
            "video_to_text_r1": truths.gather(0, scores.argmax(0, keepdim=True)).float().mean().item(),
        }

    def export(self, folder: Path) -> None:
        """Write the dual encoder."""
        self.model.save_pretrained(folder, dtype=export_dtype(self.recipe.autocast))
