"""Surprise, or violation of expectation: is a model's loss higher on impossible motion than on possible motion?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.bounds import Count, Length, Range, Seed, check_fields
from vidgen.data.frames import levels_to_float
from vidgen.data.shapes import ShapeWorldConfig
from vidgen.data.shapes.scenes import VIOLATIONS, draw_quartet
from vidgen.diffusion.denoiser import make_denoiser
from vidgen.diffusion.noise import draw_normal, sample_generator
from vidgen.diffusion.paths import add_noise
from vidgen.errors import VidgenError
from vidgen.interfaces import Pipeline
from vidgen.models.encoders.feature_predictor import FeaturePredictor
from vidgen.models.placement import device_of
from vidgen.representations.baselines import RANDOM, random_like
from vidgen.representations.model_layers import evaluating
from vidgen.representations.probes.metrics import METRICS, bootstrap_interval, count_mean

Level = Annotated[float, Range(0.0, 1.0, above=True, below=True)]
LEVELS = (0.1, 0.3, 0.5, 0.7)
DIFFERENCES = "frame_differences"
LossKey = tuple[str, float | None, str]  # scorer, noise level, violation
SCORERS = ("denoiser", "predictor")  # what is no baseline
TIE = 1e-6  # relative: losses that differ by less are equal but for rounding


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The noise levels that a loss is measured at, and how many draws of noise it is the mean of."""

    levels: Annotated[tuple[Level, ...], Length(1, 1000)] = LEVELS
    draws: Count = 4
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)


def measure_surprise(
    model: Pipeline | FeaturePredictor,
    violations: Sequence[str],
    n: int,
    *,
    config: ShapeWorldConfig | None = None,
    noise: Noise | None = None,
    in_view: bool = False,
    baselines: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return a row for each scorer, noise level and violation, and for "all" of them but the control.

    A quartet is scored 1 where the two possible clips together have the lower loss, 0 where the impossible ones have,
    and 0.5 where they are equal: `accuracy` is the mean, the relative accuracy of Riochet et al. 2018 (section 3.4),
    with a 95% interval by bootstrap over quartets. `excess` is the mean of the relative difference of losses; `auc`
    the chance that an impossible clip has a higher loss than a possible one of any quartet.
    Raises VidgenError for an unknown violation, a model without a denoiser, levels that have no loss.

    Args:
        model: a pipeline, whose loss is its denoiser's with an empty prompt; or a predictor of features, whose loss is
            how far it is off in each token frame, told of those before (Garrido et al. 2025), at no noise level.
        violations: names of `VIOLATIONS`.
        n: quartets of each violation; see `draw_quartet`.
        config: of the clips.
        noise: levels and draws; None takes the defaults.
        in_view: shows the violation in the open.
        baselines: adds the same model with random weights, and frame differences, which know neighboring frames only.
        progress: called with the number of quartets that are done, and of all.
    """
    if unknown := [name for name in violations if name not in VIOLATIONS]:
        raise VidgenError(f"violation {unknown[0]!r} is unknown; choose some of {', '.join(VIOLATIONS)}")
    if not isinstance(model, Pipeline | FeaturePredictor):
        raise VidgenError(
            f"{type(model).__name__} has no denoiser and predicts no features, whose loss it is that is measured; give "
            "a pipeline, or an encoder with its predictor"
        )
    noise = noise or Noise()
    own = "predictor" if isinstance(model, FeaturePredictor) else "denoiser"
    models = {own: model} | ({RANDOM + own: random_like(model, noise.seed)} if baselines else {})
    losses: dict[LossKey, list[np.ndarray]] = {}
    for done, (name, index) in enumerate((name, index) for name in violations for index in range(n)):
        video = read_quartet(name, index, config, in_view)
        for scorer, scored in models.items():
            if isinstance(scored, FeaturePredictor):
                by_level: dict[float | None, np.ndarray] = {None: prediction_losses(scored, video)}
            else:
                by_level = denoising_losses(scored, video, f"{name} {index}", noise)
            for level, loss in by_level.items():
                losses.setdefault((scorer, level, name), []).append(loss)
        if baselines:
            losses.setdefault((DIFFERENCES, None, name), []).append(difference_losses(video))
        if progress is not None:
            progress(done + 1, n * len(violations))
    return [row_of(key, np.stack(each), n, noise.seed) for key, each in with_all(losses)]


def read_quartet(name: str, index: int, config: ShapeWorldConfig | None, in_view: bool) -> Float[Tensor, "4 3 T H W"]:
    """Return the possible two clips, then the impossible two, in [-1, 1]."""
    quartet = draw_quartet(name, index, config, in_view=in_view)
    clips = torch.from_numpy(np.stack([*quartet.possible, *quartet.impossible]))
    return rearrange(levels_to_float(clips), "b t h w c -> b c t h w")


@torch.no_grad()
def denoising_losses(
    model: Pipeline, video: Float[Tensor, "b 3 T H W"], name: str, noise: Noise
) -> dict[float | None, Float[np.ndarray, " b"]]:
    """Return by noise level the mean squared error of x0, of every clip. All clips get the same noise, a function of
    (seed, name) alone: what differs between them is not luck."""
    with evaluating(model):
        x0 = model.vae.encode(video.to(device_of(model.vae))).latents
        x0 = x0.to(device_of(model.transformer), torch.float32)
        text = model.text_encoder([""] * len(video))
        denoise = make_denoiser(model.transformer, model.path, model.scheduler.prediction_type, text=text)
        losses = {}
        for level in noise.levels:
            t = torch.full((len(video),), level, device=x0.device)
            total = torch.zeros(len(video), dtype=torch.float64)
            for draw in range(noise.draws):
                stream = sample_generator(noise.seed, f"surprise {name} draw {draw}")
                eps = draw_normal(x0.shape[1:], stream).to(x0.device).expand_as(x0)
                error = denoise(add_noise(x0, eps, t, model.path), t).double() - x0.double()
                total += error.square().mean((1, 2, 3, 4)).cpu()
            losses[level] = (total / noise.draws).numpy()
    return losses


@torch.no_grad()
def prediction_losses(model: FeaturePredictor, video: Float[Tensor, "b 3 T H W"]) -> Float[np.ndarray, " b"]:
    """Return the mean absolute error of the features of every token frame but the first, each told of all before it
    (Garrido et al. 2025, "Intuitive physics understanding emerges from self-supervised pretraining on natural
    videos")."""
    video = video.to(model.device)
    truth = model.features(video)
    if truth.shape[1] < 2:
        raise VidgenError(
            f"clips of {video.shape[2]} frames are one token frame, before which there is none; give more"
        )
    errors = [
        (model(video, seen, 1).float() - truth[:, seen : seen + 1]).abs().mean((1, 2, 3, 4))
        for seen in range(1, truth.shape[1])
    ]
    return torch.stack(errors).double().mean(0).cpu().numpy()


def difference_losses(video: Float[Tensor, "b 3 T H W"]) -> Float[np.ndarray, " b"]:
    """Return the mean squared difference between neighboring frames: the surprise of what expects no motion."""
    return video.double().diff(dim=2).square().mean((1, 2, 3, 4)).numpy()


def with_all(losses: dict[LossKey, list[np.ndarray]]) -> Iterator[tuple[LossKey, list[np.ndarray]]]:
    """Yield the losses of every scorer and level by violation, and of all violations where there are several."""
    for scorer, level in dict.fromkeys(key[:2] for key in losses):
        own = {key: each for key, each in losses.items() if key[:2] == (scorer, level)}
        yield from own.items()
        violated = [each for key, each in own.items() if key[2] != "nothing"]
        if len(violated) > 1:
            yield (scorer, level, "all"), [loss for each in violated for loss in each]


def row_of(key: LossKey, losses: Float[np.ndarray, "q 4"], n: int, seed: int) -> dict[str, Any]:
    """Return a row of results, as plain data; `losses` are of n quartets for each violation."""
    from sklearn.metrics import roc_auc_score

    scorer, level, name = key
    possible, impossible = losses[:, :2].sum(1), losses[:, 2:].sum(1)
    excess = (impossible - possible) / np.where(possible > 0, possible, 1.0)
    scores = np.where(np.abs(excess) <= TIE, 0.5, (excess > 0).astype(np.float64))
    metric, counts = METRICS["class"], count_mean(scores)
    groups = np.arange(len(counts)) % n  # quartets of one number share their stage, whatever is violated
    ci = bootstrap_interval(metric, counts, groups, seed)
    return {
        "violation": name,
        "scorer": scorer,
        "noise_level": level,
        "accuracy": metric(counts),
        "ci": ci and list(ci),
        "excess": float(excess.mean()),
        "auc": float(roc_auc_score(np.tile([0, 0, 1, 1], len(losses)), losses.ravel())),
        "quartets": len(counts),
        "ties": int((scores == 0.5).sum()),
        "baseline": scorer not in SCORERS,
    }
