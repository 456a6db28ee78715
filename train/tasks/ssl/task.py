"""Task `ssl`: one encoder, and the weighted sum of terms that need no labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.data.shapes import ClipLabels
from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.train.config.self_supervised import SSLRecipe
from vidgen.train.data.sources import VALIDATION_SEED_OFFSET, Mixture, Sample, collate, named_sources
from vidgen.train.runtime.step_memory import check_clips
from vidgen.train.tasks.ssl.adaptation import build_adapted, export_adapted
from vidgen.train.tasks.ssl.encoders import build_encoder, export_over_cells, open_reader
from vidgen.train.tasks.ssl.monitoring import SECOND_VIEW, describe_features, probe_features
from vidgen.train.tasks.ssl.registry import TERMS
from vidgen.train.tasks.ssl.term import ClipBatch, Term
from vidgen.train.tasks.task import Metrics, Role, Task, export_dtype
from vidgen.train.views.clips import draw_view

PROBED = ("shape", "colour", "motion")  # of the synthetic world's labels


class SSLTask(Task):
    """The loss is the weighted sum of the terms' losses; the encoder and the terms' heads are trained, or with `adapt`
    these and what is learned beside an encoder that stays."""

    def __init__(self, recipe: SSLRecipe) -> None:
        self.recipe = recipe
        if not recipe.terms:
            raise VidgenError("task ssl has nothing to learn: give terms, or take a recipe that has them, as ssl/mae")
        self.reader = None if recipe.reads == "pixels" else open_reader(recipe.tokenizer, recipe.reads, recipe)
        self.adapted = build_adapted(recipe) if recipe.adapt else None
        self.encoder: TokenEncoder = self.adapted.encoder if self.adapted else build_encoder(recipe, self.reader)
        torch.manual_seed(recipe.seed)
        self.terms = {name: self.make_term(name, dict(values)) for name, values in recipe.terms.items()}
        learned = self.adapted.encoder.adaptation if self.adapted else self.encoder
        self.model = nn.ModuleDict({"encoder": learned, "terms": nn.ModuleDict(self.terms)}).to(recipe.device)
        check_clips(recipe)
        self.first_spread, self.best = 0.0, -1.0
        self.dataset = Mixture(recipe.data, recipe.seed)
        self.held_out = Mixture(recipe.data, recipe.seed + VALIDATION_SEED_OFFSET, "validation")

    def gather(self, samples: list[Sample]) -> dict[str, Any]:
        """Return clips, captions and labels."""
        return collate(samples) | {"labels": [sample.labels for sample in samples]}

    def make_term(self, name: str, values: dict[str, Any]) -> Term:
        """Return a term. Raises VidgenError, naming it, for a kind or settings that are not there."""
        kind, where = values.pop("kind"), f"recipe key `terms.{name}`"
        if kind not in TERMS:
            raise VidgenError(f"{where}: kind {kind!r} is unknown; choose one of {', '.join(TERMS)}")
        config = config_from_dict(TERMS[kind].config, values, where)
        if (reads := self.recipe.reads) not in (possible := TERMS[kind].reads):
            raise VidgenError(f"{where}: kind {kind} is for {' and '.join(possible)}, and the encoder reads {reads}")
        try:
            return TERMS[kind].term(config, self.encoder, self.recipe).to(self.recipe.device)
        except VidgenError as error:
            raise VidgenError(f"{where}: {error}") from None

    def loss(self, batch: dict[str, Any], generator: torch.Generator) -> tuple[Tensor, Metrics]:
        """Return the weighted sum of the terms' losses, and their parts by "term_part"."""
        pixels = batch["video"].to(self.recipe.device)
        clips = ClipBatch(self.read(pixels), batch["captions"], batch["labels"], pixels)
        total, metrics = pixels.new_zeros(()), {}
        for name, term in self.terms.items():
            loss, parts = term.loss(self.encoder, clips, generator)
            total = total + term.weight * loss
            metrics |= {f"{name}_loss": loss.item()} | {f"{name}_{key}": x.item() for key, x in parts.items()}
        return total, metrics

    def read(self, video: Float[Tensor, "b 3 T H W"]) -> Tensor:
        """Return clips as the encoder reads them: the pixels, or the tokenizer's cells of them."""
        return video if self.reader is None else self.reader(video)

    def roles(self) -> dict[str, Role]:
        """Return the teachers of all terms."""
        return {f"{name}_{key}": role for name, term in self.terms.items() for key, role in term.roles().items()}

    @torch.no_grad()
    def validate(self) -> Metrics:
        """Return the terms' losses of held-out clips, what tells of their features, and, where clips have labels, how
        often their nearest neighbours among clips of training and a linear map tell them ("knn_shape", ...)."""
        recipe, generator = self.recipe, torch.Generator().manual_seed(self.recipe.seed)
        views = torch.Generator().manual_seed(recipe.seed)  # of its own, so that no term's draws depend on them
        count, losses, rows, seconds, labels = recipe.data.validation_clips, [], [], [], []
        for first in range(0, count, recipe.batch_size):
            samples = [self.held_out[(0, slot)] for slot in range(first, min(first + recipe.batch_size, count))]
            batch = self.gather(samples)
            if len(samples) == recipe.batch_size or not losses:  # a rest may be one clip, which has no negatives
                losses.append(self.loss(batch, generator)[1])
            video = batch["video"].to(recipe.device)
            rows.append(self.features(video))
            seconds.append(self.features(draw_view(SECOND_VIEW, video, views)))
            labels += batch["labels"]
        held_out = torch.cat(rows)
        metrics = {f"{name}_loss": float(np.mean([x[f"{name}_loss"] for x in losses])) for name in self.terms}
        total = sum(term.weight * metrics[f"{name}_loss"] for name, term in self.terms.items())
        metrics = {"loss": total, **metrics, **describe_features(held_out, torch.cat(seconds))}
        self.check_collapse(metrics)
        if self.has_labels:
            metrics |= self.probe(held_out, labels)
            self.keep_best(metrics)
        return metrics

    @property
    def has_labels(self) -> bool:
        """Whether all clips are of the synthetic world."""
        return all(source.kind != "clips" for source in named_sources(self.recipe.data, "validation"))

    def check_collapse(self, metrics: Metrics) -> None:
        """Raise VidgenError where features of clips hardly differ any more, beside those of the first validation."""
        spread = metrics["feature_std"]
        self.first_spread = self.first_spread or spread
        if spread < self.recipe.collapse * self.first_spread:
            raise VidgenError(
                f"features have collapsed: their spread, feature_std, is {spread:.3g}, and at the first validation was "
                f"{self.first_spread:.3g} (rankme {metrics['rankme']:.2f}); give a term that keeps clips apart, as "
                "negatives, a teacher and a predictor, vicreg or sigreg; or collapse=0 to go on"
            )

    def keep_best(self, metrics: Metrics) -> None:
        """Write the encoder beside the run's last one, in `best`, where its neighbours are the best so far."""
        score = float(np.mean([metrics[f"knn_{name}"] for name in PROBED]))
        if score > self.best:
            self.best = score
            self.export(Path(self.recipe.out) / "best")

    def features(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b d"]:
        """Return the mean token of each clip."""
        return self.encoder(self.read(video)).float().mean(1).cpu()

    def probe(self, held_out: Float[Tensor, "n d"], labels: list[ClipLabels | None]) -> Metrics:
        """Return how often labels of a clip's first object are told, by features of `probe_clips` clips of training."""
        samples = [self.dataset[(0, slot)] for slot in range(self.recipe.probe_clips)]
        parts = [samples[i : i + self.recipe.batch_size] for i in range(0, len(samples), self.recipe.batch_size)]
        train = torch.cat([self.features(collate(part)["video"].to(self.recipe.device)) for part in parts])
        metrics: Metrics = {}
        for name in PROBED:
            truth, own = ([getattr(x.objects[0], name) for x in rows] for rows in ([s.labels for s in samples], labels))
            metrics |= probe_features(name, train, truth, held_out, own)
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return what terms keep beside their parameters, and what validation compares with."""
        kept = {"first_spread": self.first_spread, "best": self.best}
        base = self.adapted.base.hash if self.adapted else ""
        return {
            "validation": kept,
            "base": base,
            "tokenizer": self.reader.hash if self.reader else "",
            "terms": {name: term.state_dict_of_term() for name, term in self.terms.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`. Raises VidgenError where the frozen encoder or the tokenizer is another one now."""
        if self.adapted and state.get("base") != self.adapted.base.hash:
            raise VidgenError(
                f"init_from={self.recipe.init_from} is not the encoder that this run began beside; put that one back, "
                "or start anew in another folder"
            )
        if self.reader and state.get("tokenizer") != self.reader.hash:
            raise VidgenError(
                f"tokenizer={self.recipe.tokenizer} is not the one that this run began on; put that one back, or start "
                "anew in another folder"
            )
        self.first_spread, self.best = state["validation"]["first_spread"], state["validation"]["best"]
        for name, term in self.terms.items():
            term.load_state_dict_of_term(state["terms"].get(name, {}))

    def export(self, folder: Path) -> None:
        """Write what was learned beside a frozen encoder; or the encoder, with the name of the tokenizer whose cells it
        reads, or with what predicts features of hidden tokens where one term of pixels learns that."""
        dtype = export_dtype(self.recipe.autocast)
        if self.adapted:
            export_adapted(self.adapted, folder, dtype)
            return
        if self.reader:
            export_over_cells(self.encoder, self.reader, self.recipe, folder, dtype)
            return
        learned = [term.feature_predictor(self.encoder) for term in self.terms.values()]
        predictors = [predictor for predictor in learned if predictor is not None]
        whole = predictors[0] if len(predictors) == 1 else self.encoder
        whole.save_pretrained(folder, dtype=dtype)
