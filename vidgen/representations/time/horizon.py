"""How far ahead a predictor of features sees: where an object will be, read from features that were predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.data.frames import levels_to_float
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

    The encoder sees the first half of a clip of one object. A ridge regression from a token frame's features, of
    `train_clips` clips (as many as `n`) that are not among the `n`, reads positions. Ways, by the row's "source":
    "predicted", from features that the model predicts; "features", from those that its teacher has of the very frames,
    which no prediction can beat but by chance; "stay" and "constant velocity", which go on from the true places in the
    last two token frames that are seen; and "mean", the same place always. Raises VidgenError for clips too short to
    have two token frames to see and one to predict.
    """
    t, height, width = model.encoder.config.clip
    frames = model.encoder.config.patch[0]
    seen = t // frames // 2
    if seen < 2:
        raise VidgenError(f"clips of {t} frames are {t // frames} token frames; 4 or more are needed to see ahead")
    world = {"height": height, "width": width, "num_frames": t, "fps": round(model.encoder.config.fps), "seed": seed}
    train_clips = train_clips or n
    total, done = train_clips + n, 0
    parts: dict[str, list[Float[np.ndarray, "n t d"]]] = {"train": [], "held_out": [], "predicted": []}
    places: dict[str, list[Float[np.ndarray, "n t two"]]] = {"train": [], "held_out": []}
    for split, count in (("train", train_clips), ("held_out", n)):
        for video, position in read_clips(ShapeWorldConfig(**world, split=split), count, frames):
            video = video.to(model.device)
            parts[split].append(pooled(model.features(video)))
            places[split].append(position)
            if split == "held_out":
                with torch.no_grad():
                    parts["predicted"].append(pooled(model(video, seen, t // frames - seen)))
            done += len(video)
            if progress is not None:
                progress(done, total)
    features, position = ({k: np.concatenate(v) for k, v in x.items() if v} for x in (parts, places))
    rows = []
    for source, guess in tell(features, position, seen).items():
        for k in range(guess.shape[1]):
            row = {"source": source, "steps": k + 1, "frames": (k + 1) * frames, "baseline": source in BASELINES}
            rows.append(row | describe(guess[:, k], position["held_out"][:, seen + k]))
    return rows


def read_clips(
    config: ShapeWorldConfig, count: int, frames: int
) -> Iterator[tuple[Float[Tensor, "b 3 T H W"], Float[np.ndarray, "b t two"]]]:
    """Yield batches of clips in [-1, 1], and the mean position of the object in each token frame, in pixels."""
    world = ShapeWorld(config)
    for first in range(0, count, BATCH):
        clips = [world[index] for index in range(first, min(first + BATCH, count))]
        video = torch.from_numpy(np.stack([clip.video for clip in clips]))
        position = np.stack([clip.labels.objects[0].position for clip in clips])
        length = position.shape[1] // frames * frames
        means = position[:, :length].reshape(len(clips), -1, frames, 2).mean(2)
        yield rearrange(levels_to_float(video), "b t h w c -> b c t h w"), means


def pooled(features: Float[Tensor, "b t h w d"]) -> Float[np.ndarray, "b t d"]:
    """Return the mean over places of every token frame."""
    return features.float().mean((2, 3)).cpu().numpy()


def tell(
    features: dict[str, Float[np.ndarray, "n t d"]], position: dict[str, Float[np.ndarray, "n t two"]], seen: int
) -> dict[str, Float[np.ndarray, "n k two"]]:
    """Return the places in the token frames after `seen`, as each way of telling has them."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), RidgeCV(ALPHAS))
    probe.fit(features["train"].reshape(-1, features["train"].shape[-1]), position["train"].reshape(-1, 2))

    def read(x: Float[np.ndarray, "n k d"]) -> Float[np.ndarray, "n k two"]:
        return probe.predict(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:2], 2)

    held_out = position["held_out"]
    last, before = held_out[:, seen - 1, None], held_out[:, seen - 2, None]
    steps = np.arange(1, held_out.shape[1] - seen + 1)[None, :, None]
    return {
        "predicted": read(features["predicted"]),
        "features": read(features["held_out"][:, seen:]),
        "stay": np.repeat(last, steps.shape[1], axis=1),
        "constant velocity": last + steps * (last - before),
        "mean": np.broadcast_to(position["train"].mean((0, 1)), held_out[:, seen:].shape),
    }


def describe(guess: Float[np.ndarray, "n two"], truth: Float[np.ndarray, "n two"]) -> dict[str, Any]:
    """Return the mean distance, in pixels, and its interval."""
    mean = mean_interval(np.linalg.norm(guess - truth, axis=-1), (0.0, np.inf))
    return {"error": mean.mean, "ci": mean.interval and list(mean.interval), "clips": mean.n}
