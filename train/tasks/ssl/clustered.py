"""Cluster targets: hidden tokens are told by the cluster of what stands there, learned on the way or found before."""

from __future__ import annotations

from math import prod

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.models.encoders.video_vit import take_rows
from vidgen.models.heads.mlp import Projector, Prototypes
from vidgen.models.heads.token_predictor import TokenPredictor
from vidgen.train.config.self_supervised import ClusterTermConfig, SinkhornTermConfig, SSLRecipe
from vidgen.train.data.sources import Mixture, collate
from vidgen.train.objectives.clusters import perplexity, swav
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.tasks.ssl.targets import fixed_target, normalized_target
from vidgen.train.tasks.ssl.term import ClipBatch, Term, hide_tokens, make_predictor, mask_of

EMBEDDING = 64


class SinkhornTerm(Term):
    """Predictions of hidden tubes and a projection of their pixels, which is learned with them, tell each other's
    balanced cluster (Salehi et al. 2024, SIGMA)."""

    def __init__(self, config: SinkhornTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        self.mask = mask_of(config.mask, encoder)
        self.predictor = make_predictor(encoder, EMBEDDING, config.predictor)
        pixels = 3 * prod(encoder.config.patch)
        self.projector = Projector(pixels, 256, EMBEDDING, norm="layer")
        self.prototypes = Prototypes(EMBEDDING, config.prototypes)

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch."""
        video = batch.video
        grid, patch = encoder.grid_of(video), encoder.config.patch
        keep, asked = hide_tokens(self.mask, encoder, video, generator)
        predictions = self.predictor(encoder(video, keep), keep, asked, grid)
        targets = self.projector(take_rows(normalized_target(video, patch), asked))
        return swav([self.prototypes(x.flatten(0, 1)) for x in (predictions, targets)])


class ClusterTerm(Term):
    """Clusters of a fixed target, found by k-means on clips of training, are told: of hidden tokens from those that are
    seen (AV-HuBERT's form: Shi et al. 2022, section 3.2), or of whole clips (Yan et al. 2020, ClusterFit).

    Raises VidgenError where fewer targets than clusters are drawn.
    """

    def __init__(self, config: ClusterTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        self.config, self.mask = config, mask_of(config.mask, encoder) if config.level == "token" else None
        encoder.check_dense()
        self.target = fixed_target(config, encoder.config, recipe.device)
        self.centers = self.find_centers(recipe).to(recipe.device)
        width = encoder.config.width
        if self.mask is None:
            self.head: Projector | TokenPredictor = Projector(width, 256, config.clusters, layers=1)
        else:
            self.head = make_predictor(encoder, config.clusters, config.predictor)

    def find_centers(self, recipe: SSLRecipe) -> Float[Tensor, "k d"]:
        """Return the centres of clusters of `fit_clips` clips."""
        from sklearn.cluster import MiniBatchKMeans

        mixture = Mixture(recipe.data, recipe.seed)
        rows = []
        for first in range(0, self.config.fit_clips, recipe.batch_size):
            numbers = range(first, min(first + recipe.batch_size, self.config.fit_clips))
            video = collate([mixture[(0, i)] for i in numbers])["video"].to(recipe.device)
            rows.append(self.rows_of(video).flatten(0, 1).cpu())
        values = torch.cat(rows)
        if len(values) < self.config.clusters:
            raise VidgenError(
                f"{self.config.fit_clips} clips have {len(values)} targets, too few for {self.config.clusters} "
                "clusters; raise fit_clips"
            )
        fit = MiniBatchKMeans(self.config.clusters, random_state=recipe.seed, n_init=3, batch_size=4096).fit(
            values.numpy()
        )
        return torch.from_numpy(fit.cluster_centers_).float()

    @torch.no_grad()
    def rows_of(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b n d"]:
        """Return the targets of tokens, or one of each clip."""
        rows = self.target(video).float()
        return rows if self.config.level == "token" else rows.mean(1, keepdim=True)

    def clusters_of(self, video: Float[Tensor, "b 3 T H W"]) -> Int[Tensor, "b n"]:
        """Return the nearest centre of each target."""
        return torch.cdist(self.rows_of(video), self.centers[None]).argmin(dim=-1)

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the cross-entropy of a batch. Parts: "accuracy", and "clusters", how many are in use."""
        video = batch.video
        labels = self.clusters_of(video)
        if self.mask is None:
            logits = self.head(encoder(video).mean(1, keepdim=True))
        else:
            grid = encoder.grid_of(video)
            keep, asked = hide_tokens(self.mask, encoder, video, generator)
            logits, labels = self.head(encoder(video, keep), keep, asked, grid), labels.gather(1, asked)
        flat = logits.float().flatten(0, 1)
        hits = (flat.argmax(1) == labels.flatten()).float().mean()
        used = perplexity(F.one_hot(labels.flatten(), self.config.clusters))
        return F.cross_entropy(flat, labels.flatten()), {"accuracy": hits, "clusters": used}

    def state_dict_of_term(self) -> dict[str, Tensor]:
        """Return the centres, which another machine might find otherwise."""
        return {"centers": self.centers}

    def load_state_dict_of_term(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict_of_term`."""
        self.centers = state["centers"].to(self.centers)
