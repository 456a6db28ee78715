"""Prediction in time: what comes in the next segments of a clip, told from the ones before."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.models.heads.mlp import Projector
from vidgen.train.config.self_supervised import FutureTermConfig, SSLRecipe, StochasticTermConfig
from vidgen.train.objectives.contrastive import check_batch, info_nce
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.objectives.predictive import cpc, normal_kl, stochastic_prediction
from vidgen.train.tasks.ssl.targets import normalized_target
from vidgen.train.tasks.ssl.term import (
    ClipBatch,
    Term,
    blank_clip,
    cut_segments,
    embed_each,
    make_predictor,
    segment_frames,
    unit_of,
    whole_batch,
)

THUMBNAIL = 8  # pixels of a side of what the composite model decodes
EMBEDDING = 64


class ContrastiveFuture(nn.Module):
    """A recurrent state of the segments so far, and a linear map a step ahead, against all other segments (van den Oord
    et al. 2018, CPC; Han et al. 2019, DPC)."""

    def __init__(self, width: int, ahead: int) -> None:
        super().__init__()
        self.project = Projector(width, EMBEDDING, EMBEDDING, norm="none")
        self.state = nn.GRU(EMBEDDING, EMBEDDING, batch_first=True)
        self.steps = nn.ModuleList([nn.Linear(EMBEDDING, EMBEDDING) for _ in range(ahead)])

    def forward(self, z: Float[Tensor, "b s d"], segments: Tensor, generator: torch.Generator) -> LossAndParts:
        """Return the loss of clips from the embeddings of their segments."""
        z = whole_batch(self, self.project(z))
        return cpc(self.predict(z), z[:, -len(self.steps) :])

    def predict(self, z: Float[Tensor, "b s e"]) -> Float[Tensor, "b k e"]:
        """Return predictions of the last segments from those before."""
        state = self.state(z[:, : -len(self.steps)].float())[0][:, -1]
        return torch.stack([step(state) for step in self.steps], dim=1)


class BidirectionalFuture(nn.Module):
    """Past and future from the present, each with the other as a hard negative (after Behrmann et al. 2021, who
    contrast past and future encoded together with the two swapped)."""

    def __init__(self, width: int, ahead: int) -> None:
        super().__init__()
        self.project = Projector(width, EMBEDDING, EMBEDDING, norm="none")
        self.ahead = ahead
        self.back, self.forth = (nn.Linear(EMBEDDING, EMBEDDING) for _ in range(2))

    def forward(self, z: Float[Tensor, "b s d"], segments: Tensor, generator: torch.Generator) -> LossAndParts:
        """Return the loss of clips from the embeddings of their segments."""
        z = whole_batch(self, self.project(z[:, [-2 * self.ahead - 1, -self.ahead - 1, -1]]))
        past, present, future = z.unbind(1)
        losses = [
            info_nce(self.forth(present), future, negatives=past),
            info_nce(self.back(present), past, negatives=future),
        ]
        return (losses[0][0] + losses[1][0]) / 2, {
            "accuracy": (losses[0][1]["accuracy"] + losses[1][1]["accuracy"]) / 2
        }


class CompositeFuture(nn.Module):
    """A recurrent state of the first segments, from which two recurrent decoders make these, backwards, and those that
    come after, as small pictures (Srivastava et al. 2015, section 2.3: the composite model)."""

    def __init__(self, width: int, ahead: int) -> None:
        super().__init__()
        self.ahead, pixels = ahead, 3 * THUMBNAIL**2
        self.state = nn.GRU(width, width, batch_first=True)
        self.decoders = nn.ModuleList([nn.GRU(width, width, batch_first=True) for _ in range(2)])
        self.out = nn.Linear(width, pixels)

    def forward(self, z: Float[Tensor, "b s d"], segments: Tensor, generator: torch.Generator) -> LossAndParts:
        """Return the loss of clips from the embeddings of their segments."""
        pictures = F.adaptive_avg_pool2d(segments.mean(3).flatten(0, 1), THUMBNAIL).reshape(*z.shape[:2], -1)
        seen, future = pictures[:, : -self.ahead], pictures[:, -self.ahead :]
        state = self.state(z[:, : -self.ahead].float())[0][:, -1:]
        again, next_ones = (
            self.out(decoder(state.expand(-1, goal.shape[1], -1))[0])
            for decoder, goal in zip(self.decoders, (seen, future), strict=True)
        )
        errors = [F.mse_loss(again, seen.flip(1)), F.mse_loss(next_ones, future)]
        return sum(errors), {"reconstruction": errors[0].detach(), "prediction": errors[1].detach()}


FUTURES: dict[str, Callable[[int, int], nn.Module]] = {
    "contrastive": ContrastiveFuture,
    "bidirectional": BidirectionalFuture,
    "composite": CompositeFuture,
}


class FutureTerm(Term):
    """Segments of a clip are encoded one by one, and the last `ahead` are predicted from those before.

    Raises VidgenError for clips that have too few segments, and segments that patches do not fill.
    """

    def __init__(self, config: FutureTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        check_batch(recipe.batch_size)
        self.config, self.frames = config, segment_frames(config.frames, encoder)
        frames = encoder.config.clip[0]
        count = frames // self.frames
        least = 2 * config.ahead + 1 if config.predictor == "bidirectional" else config.ahead + 1
        if count < least:
            raise VidgenError(
                f"a clip of {frames} {unit_of(recipe)} has {count} segments of {self.frames}; {least} or more are "
                f"needed to see {config.ahead} ahead"
            )
        if config.predictor not in FUTURES:
            raise VidgenError(f"predictor {config.predictor!r} is unknown; choose one of {', '.join(FUTURES)}")
        if config.predictor == "composite" and recipe.reads != "pixels":
            raise VidgenError(
                f"predictor composite makes pictures of pixels, and the encoder reads {recipe.reads}; choose another"
            )
        self.head = FUTURES[config.predictor](encoder.config.width, config.ahead)

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch."""
        segments = cut_segments(batch.video, self.frames)
        return self.head(embed_each(encoder, segments), segments, generator)


class StochasticTerm(Term):
    """A later frame from an earlier one and a draw of what is uncertain (Jang et al. 2024, RSP).

    A posterior, that sees both, and a prior, that sees the earlier one, are normal laws of a vector s; patches of the
    later frame are decoded from the tokens of the earlier one and s. Raises VidgenError for clips of one segment.
    """

    def __init__(self, config: StochasticTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        encoder.check_dense()
        self.config, self.frames = config, encoder.config.patch[0]
        if (frames := encoder.config.clip[0]) < 2 * self.frames:
            raise VidgenError(f"a clip of {frames} {unit_of(recipe)} has no later segment of {self.frames}")
        width = encoder.config.width
        self.posterior, self.prior = (Projector(n * width, width, 2 * EMBEDDING, norm="none") for n in (2, 1))
        self.state_in = nn.Linear(EMBEDDING, width)
        channels = normalized_target(blank_clip(encoder), encoder.config.patch).shape[-1]
        self.decoder = make_predictor(encoder, channels, {})

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the loss of a batch; the gap between the frames is drawn."""
        video = batch.video
        count = video.shape[2] // self.frames
        first, gap = (int(torch.randint(n, (1,), generator=generator)) for n in (count - 1, count))
        second = first + 1 + gap % (count - 1 - first)
        now, later = (video[:, :, i * self.frames : (i + 1) * self.frames] for i in (first, second))
        tokens, other = encoder(now), encoder(later)
        seen = tokens.mean(1)
        laws = [self.posterior(torch.cat([seen, other.mean(1)], dim=1)), self.prior(seen)]
        mean, log_std, prior_mean, prior_log_std = (x for law in laws for x in law.float().clamp(-8, 8).chunk(2, dim=1))
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        context = tokens + self.state_in((mean + log_std.exp() * noise).to(tokens.dtype))[:, None]
        grid = encoder.grid_of(now)
        places = torch.arange(tokens.shape[1], device=video.device).expand(len(video), -1)
        decoded = self.decoder(context, places, places, grid)
        goal = normalized_target(later, encoder.config.patch)
        kl = normal_kl(mean, log_std, prior_mean, prior_log_std)
        return stochastic_prediction(decoded, goal, kl, kl_weight=self.config.kl_weight)
