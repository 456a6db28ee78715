"""Cluster targets: hidden tokens are told by the cluster of what stands there, learned on the way or found before."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.models.encoders.video_vit import take_rows, to_patches
from vidgen.models.heads.mlp import Projector, Prototypes
from vidgen.models.heads.token_predictor import TokenPredictor
from vidgen.representations.latent_encoder import INDICES
from vidgen.train.config.self_supervised import ClusterTermConfig, IndexTermConfig, SinkhornTermConfig, SSLRecipe
from vidgen.train.data.sources import Mixture, collate
from vidgen.train.objectives.clusters import perplexity, swav
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.tasks.ssl.encoders import open_reader
from vidgen.train.tasks.ssl.targets import IndexTarget, fixed_target, normalized_target
from vidgen.train.tasks.ssl.term import ClipBatch, Term, blank_clip, hide_tokens, make_predictor, mask_of, whole_batch

EMBEDDING = 64


def tell_clusters(logits: Float[Tensor, "*b k"], labels: Int[Tensor, "*b"]) -> LossAndParts:
    """Return the mean cross-entropy. Parts: "accuracy", and "clusters", how many are in use."""
    flat, truth = logits.float().flatten(0, -2), labels.flatten()
    counts = torch.bincount(truth, minlength=flat.shape[1])
    hits = (flat.argmax(1) == truth).float().mean()
    return F.cross_entropy(flat, truth), {"accuracy": hits, "clusters": perplexity(counts[None] / len(truth))}


class SinkhornTerm(Term):
    """Predictions of hidden tubes and a projection of their pixels, which is learned with them, tell each other's
    balanced cluster (Salehi et al. 2024, SIGMA)."""

    def __init__(self, config: SinkhornTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        self.mask = mask_of(config.mask, encoder, recipe)
        self.predictor = make_predictor(encoder, EMBEDDING, config.predictor)
        pixels = normalized_target(blank_clip(encoder), encoder.config.patch).shape[-1]
        self.projector = Projector(pixels, 256, EMBEDDING, norm="layer")
        self.prototypes = Prototypes(EMBEDDING, config.prototypes)

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch."""
        video = batch.video
        grid, patch = encoder.grid_of(video), encoder.config.patch
        keep, asked = hide_tokens(self.mask, encoder, video, generator)
        predictions = self.predictor(encoder(video, keep), keep, asked, grid)
        targets = self.projector(take_rows(normalized_target(video, patch), asked))
        return swav([self.prototypes(whole_batch(self, x.flatten(0, 1))) for x in (predictions, targets)])


class ClusterTerm(Term):
    """Clusters of a fixed target, found by k-means on clips of training, are told: of hidden tokens from those that are
    seen (AV-HuBERT's form: Shi et al. 2022, section 3.2), or of whole clips (Yan et al. 2020, ClusterFit).

    Raises VidgenError where fewer targets than clusters are drawn.
    """

    def __init__(self, config: ClusterTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        self.config = config
        self.mask = mask_of(config.mask, encoder, recipe) if config.level == "token" else None
        encoder.check_dense()
        self.target = fixed_target(config, encoder.config, recipe)
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
        reader = None if recipe.reads == "pixels" else open_reader(recipe.tokenizer, recipe.reads, recipe)
        rows = []
        for first in range(0, self.config.fit_clips, recipe.batch_size):
            numbers = range(first, min(first + recipe.batch_size, self.config.fit_clips))
            video = collate([mixture[(0, i)] for i in numbers])["video"].to(recipe.device)
            cells = video if reader is None else reader(video)
            rows.append(self.rows_of(cells).flatten(0, 1).cpu())
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
    def rows_of(self, video: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b n d"]:
        """Return the targets of tokens, or one of each clip."""
        rows = self.target(video).float()
        return rows if self.config.level == "token" else rows.mean(1, keepdim=True)

    def clusters_of(self, video: Float[Tensor, "b c T H W"]) -> Int[Tensor, "b n"]:
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
        return tell_clusters(logits, labels)

    def state_dict_of_term(self) -> dict[str, Tensor]:
        """Return the centres, which another machine might find otherwise."""
        return {"centers": self.centers}

    def load_state_dict_of_term(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict_of_term`."""
        self.centers = state["centers"].to(self.centers)


class IndexTerm(Term):
    """The indices of hidden tokens, of a tokenizer's codebook, are told from tokens that are seen (Wang et al. 2022,
    BEVT, section 3.1, without its stream of images); every cell that a token stands for by itself.

    Raises VidgenError for a tokenizer without a codebook, and one whose cells tokens do not fill.
    """

    def __init__(self, config: IndexTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        self.mask = mask_of(config.mask, encoder, recipe)
        self.reads = recipe.reads == INDICES  # and so the encoder sees what is told
        self.target = IndexTarget(config, encoder.config, recipe)
        self.head = make_predictor(encoder, self.target.cells * self.target.reader.codes, config.predictor)

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the cross-entropy of a batch. Parts: "accuracy", and "clusters", how many codes are in use."""
        grid = encoder.grid_of(batch.video)
        keep, asked = hide_tokens(self.mask, encoder, batch.video, generator)
        logits = self.head(encoder(batch.video, keep), keep, asked, grid)
        indices = to_patches(batch.video, encoder.config.patch) if self.reads else self.target(batch.pixels)
        return tell_clusters(logits.unflatten(-1, (self.target.cells, -1)), take_rows(indices, asked))

    def state_dict_of_term(self) -> dict[str, Tensor]:
        """Return the tokenizer's hash."""
        return {"tokenizer": torch.tensor(list(bytes.fromhex(self.target.reader.hash)), dtype=torch.uint8)}

    def load_state_dict_of_term(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict_of_term`. Raises VidgenError where the tokenizer is another one now."""
        if not torch.equal(state["tokenizer"].cpu(), self.state_dict_of_term()["tokenizer"]):
            raise VidgenError(
                f"the tokenizer {self.target.reader.name} is not the one whose indices this run began with; put that "
                "one back, or start anew in another folder"
            )
