"""Task `fuse`: one network that reads a text and a clip together, over a dual encoder that stays as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidgen.checkpoints.hub import durable_name, find_model
from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.errors import VidgenError
from vidgen.interfaces import TextVideoEncoder
from vidgen.models.text_video.embedding import join_embeddings
from vidgen.models.text_video.fused_encoder import FusedEncoder, FusedEncoderConfig, rerank
from vidgen.models.text_video.loading import load_text_video_encoder
from vidgen.train.config.text_video.fuse import FuseRecipe
from vidgen.train.data.sources import VALIDATION_SEED_OFFSET, Mixture, Sample, collate
from vidgen.train.objectives.text_video import PairLabels
from vidgen.train.tasks.task import Metrics, Task, export_dtype
from vidgen.train.tasks.text_video.align import find_truths
from vidgen.train.tasks.text_video.fused_terms import FusedBatch, fused_loss


def check_clips(dual: TextVideoEncoder, recipe: FuseRecipe) -> None:
    """Raise VidgenError where the recipe's clips are not of the size and length that the model reads."""
    height, width = recipe.data.size
    sizes = (dual.num_frames or recipe.data.num_frames, dual.height, dual.width)
    if sizes != (own := (recipe.data.num_frames, height, width)):
        raise VidgenError(
            f"{recipe.dual_encoder} reads clips of {sizes[0]} frames, {sizes[1]} x {sizes[2]}, and the recipe's are of "
            f"{own[0]} frames, {own[1]} x {own[2]}; set data.num_frames={sizes[0]} data.size=[{sizes[1]},{sizes[2]}]"
        )


class FuseTask(Task):
    """The loss is a weighted sum of terms of pairs that the fused encoder reads."""

    def __init__(self, recipe: FuseRecipe) -> None:
        self.recipe = recipe
        self.dual = load_text_video_encoder(recipe.dual_encoder, device=recipe.device)
        check_clips(self.dual, recipe)
        name = durable_name(recipe.dual_encoder, find_model(recipe.dual_encoder))
        torch.manual_seed(recipe.seed)
        if recipe.init_from:
            self.model = FusedEncoder.from_pretrained(recipe.init_from, dtype=torch.float32).requires_grad_(True)
            self.model.config = replace(self.model.config, dual_encoder=name)
        else:
            with torch.no_grad():
                width = self.dual.embed_texts([""]).vectors.shape[1]
            own = {"token_width": width, "dual_encoder": name}
            self.model = FusedEncoder(config_from_dict(FusedEncoderConfig, recipe.fused | own, "recipe key `fused`"))
        self.model.to(recipe.device)
        self.dataset = Mixture(recipe.data, recipe.seed)
        self.held_out = Mixture(recipe.data, recipe.seed + VALIDATION_SEED_OFFSET, "validation")

    def gather(self, samples: list[Sample]) -> dict[str, Any]:
        """Return clips, captions and labels."""
        return collate(samples) | {"labels": [sample.labels for sample in samples]}

    @torch.no_grad()
    def embed(self, batch: dict[str, Any]) -> FusedBatch:
        """Return a batch as the dual encoder sees it; a clip that a caption is true of, its own or not, is no
        negative of it."""
        video, captions = batch["video"].to(self.recipe.device), list(batch["captions"])
        texts, videos = self.dual.embed_texts(captions), self.dual.embed_videos(video)
        logits = self.dual.logit_scale * self.dual.score(texts, videos)
        own = torch.eye(len(captions), dtype=torch.bool, device=logits.device)
        truths = find_truths(captions, batch["labels"], captions).to(logits.device)
        return FusedBatch(
            video=video,
            captions=captions,
            texts=texts,
            videos=videos,
            logits=logits,
            pairs=PairLabels(positives=own, negatives=~(own | truths)),
        )

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the sum of terms, each one's loss, and how often it is right."""
        loss, parts = fused_loss(self.model, self.dual, self.embed(batch), self.recipe.terms, generator)
        return loss, {name: value.item() for name, value in parts.items()}

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Return R@1 of held-out captions before and after the first clips are sorted by their matches, and the
        loss."""
        recipe, count = self.recipe, self.recipe.data.validation_clips
        generator = torch.Generator().manual_seed(recipe.seed)
        losses, parts, labels = [], [], []
        for first in range(0, count, recipe.batch_size):
            batch = self.gather([self.held_out[(0, i)] for i in range(first, min(first + recipe.batch_size, count))])
            parts.append(self.embed(batch))
            labels += batch["labels"]
            if parts[-1].pairs.negatives.any():
                losses.append(fused_loss(self.model, self.dual, parts[-1], recipe.terms, generator)[0].item())
        texts = join_embeddings([x.texts for x in parts])
        videos = join_embeddings([x.videos for x in parts])
        captions = [caption for x in parts for caption in x.captions]
        scores = self.dual.score(texts, videos)
        truths = find_truths(captions, labels, captions)
        best, _ = rerank(self.model, texts, videos, scores, recipe.top)
        return {
            "loss": float(np.mean(losses)) if losses else float("nan"),
            "dual_r1": truths.gather(1, scores.argmax(1, keepdim=True).cpu()).float().mean().item(),
            "reranked_r1": truths.gather(1, best[:, :1].cpu()).float().mean().item(),
        }

    def export(self, folder: Path) -> None:
        """Write the fused encoder."""
        self.model.save_pretrained(folder, dtype=export_dtype(self.recipe.autocast))
