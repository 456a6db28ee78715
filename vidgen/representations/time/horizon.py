"""How far ahead a predictor of features sees: where an object will be, read from features that were predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.errors import VidgenError
from vidgen.metrics.intervals import mean_interval
from vidgen.models.encoders.feature_predictor import FeaturePredictor

BATCH = 16
BASELINES = ("stay", "constant velocity", "mean")
ALPHAS = np.logspace(-2, 5, 8)  # penalties of the ridge regression to choose among


def measure_horizon(
    model: FeaturePredictor,
    *,
    n: int,
    train_clips: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return a row for every step ahead and each way of telling where an object will be: the mean distance from where
    it is, in pixels, with a 95% interval over clips.

    The encoder sees the first half of a clip of one object. Ridge regressions from a token frame's features, fitted to
    `train_clips` clips (as many as `n`) that are not among the `n`, read positions: one from features that the model
    predicts (its own, as predictions are means, and less spread than what they predict), one from those that its
    teacher has of the very frames. Ways, by the row's "source": "predicted" and "features", of these two; "stay" and
    "constant velocity", which go on from the true places in the last two token frames that are seen; and "mean", the
    same place always. Raises VidgenError for clips of fewer than four token frames.
    """
    t, height, width = model.encoder.config.clip
    frames = model.encoder.config.patch[0]
    seen = t // frames // 2
    if seen < 2:
        raise VidgenError(f"clips of {t} frames are {t // frames} token frames; 4 or more are needed to see ahead")
    world = {"height": height, "width": width, "num_frames": t, "fps": round(model.encoder.config.fps), "seed": seed}
    train_clips = train_clips or n
    parts: dict[str, list[np.ndarray]] = {name: [] for name in ("features", "predictions", "position")}
    done = 0
    for split, count in (("train", train_clips), ("held_out", n)):
        for video, position in read_clips(ShapeWorldConfig(**world, split=split), count, frames):
            video = video.to(model.device)
            with torch.no_grad():
                predictions = model(video, seen, t // frames - seen)
            parts["features"].append(pooled(model.features(video)))
            parts["predictions"].append(pooled(predictions))
            parts["position"].append(position)
            done += len(video)
            if progress is not None:
                progress(done, train_clips + n)
    features, predicted, position = (np.concatenate(parts[name]) for name in parts)
    guesses = guess_positions(features, predicted, position, train_clips)
    rows = []
    for source, guess in guesses.items():
        for k in range(guess.shape[1]):
            row = {"source": source, "steps": k + 1, "frames": (k + 1) * frames, "baseline": source in BASELINES}
            rows.append(row | describe(guess[:, k], position[train_clips:, seen + k]))
    return rows


def read_clips(
    config: ShapeWorldConfig, count: int, frames: int
) -> Iterator[tuple[Float[Tensor, "b 3 T H W"], Float[np.ndarray, "b t two"]]]:
    """Yield batches of clips in [-1, 1], and the mean position of the object in each token frame, in pixels."""
    world = ShapeWorld(config)
    for first in range(0, count, BATCH):
        clips = [world[index] for index in range(first, min(first + BATCH, count))]
        video = torch.stack([to_tensor(clip.video) for clip in clips])
        position = np.stack([clip.labels.objects[0].position for clip in clips])
        length = position.shape[1] // frames * frames
        means = position[:, :length].reshape(len(clips), -1, frames, 2).mean(2)
        yield video, means


def pooled(features: Float[Tensor, "b t h w d"]) -> Float[np.ndarray, "b t d"]:
    """Return the mean over places of every token frame."""
    return features.float().mean((2, 3)).cpu().numpy()


def guess_positions(
    features: Float[np.ndarray, "n t d"],
    predicted: Float[np.ndarray, "n k d"],
    position: Float[np.ndarray, "n t two"],
    train_clips: int,
) -> dict[str, Float[np.ndarray, "m k two"]]:
    """Return the places in the last k token frames of the clips after the first `train_clips`, as each way of telling
    has them."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    ahead = predicted.shape[1]
    targets = position[:, -ahead:]

    def read(x: Float[np.ndarray, "n k d"]) -> Float[np.ndarray, "m k two"]:
        probe = make_pipeline(StandardScaler(), RidgeCV(ALPHAS))
        probe.fit(x[:train_clips].reshape(-1, x.shape[-1]), targets[:train_clips].reshape(-1, 2))
        return probe.predict(x[train_clips:].reshape(-1, x.shape[-1])).reshape(-1, ahead, 2)

    last, before = (position[train_clips:, -ahead - i, None] for i in (1, 2))
    steps = np.arange(1, ahead + 1)[None, :, None]
    return {
        "predicted": read(predicted),
        "features": read(features[:, -ahead:]),
        "stay": np.repeat(last, ahead, axis=1),
        "constant velocity": last + steps * (last - before),
        "mean": np.broadcast_to(targets[:train_clips].mean((0, 1)), targets[train_clips:].shape),
    }


def describe(guess: Float[np.ndarray, "n two"], truth: Float[np.ndarray, "n two"]) -> dict[str, Any]:
    """Return the mean distance, in pixels, and its interval."""
    mean = mean_interval(np.linalg.norm(guess - truth, axis=-1), (0.0, np.inf))
    return {"error": mean.mean, "ci": mean.interval and list(mean.interval), "clips": mean.n}
