"""All features of a clip that one bank holds: the model's, those they are held against, and those of changed clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vidgen.interfaces import Encoder, Pipeline
from vidgen.representations.augmentations import AUGMENTATIONS
from vidgen.representations.baselines import (
    PIXEL_BASELINES,
    RANDOM,
    SHUFFLED,
    SINGLE,
    hold_frame,
    random_like,
    shuffle_frames,
)
from vidgen.representations.extractor import FeatureExtractor

# What is done to clips before features of this prefix.
CHANGES: dict[str, Callable[..., Tensor]] = {SHUFFLED: shuffle_frames, SINGLE: hold_frame, **AUGMENTATIONS}


class FeatureSets:
    """Features of clips by key, with a prefix for what is not the plain model's.

    baselines: adds the same layers with random weights ("random.<key>"), of shuffled frames ("shuffled.<key>") and of
        the first frame held ("single.<key>"), and `PIXEL_BASELINES`.
    views: adds those of `AUGMENTATIONS` of the clips ("weak.<key>", "strong.<key>"): the model's, and those of the
        baselines that see clips as they are (random weights, pixels).
    `settings` go to the `FeatureExtractor`. With noise="predicted" the random-weight model predicts its own noise; a
    noise function is used as given, so it still belongs to the trained model.
    """

    def __init__(self, model: Pipeline | Encoder, *, baselines: bool, views: bool, seed: int, **settings: Any) -> None:
        self.seed = seed
        plain = FeatureExtractor(model, seed=seed, **settings)
        self.extractors = {"": plain}
        self.pixels: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {}
        if baselines:
            random = FeatureExtractor(random_like(model, seed), seed=seed, **settings)
            self.extractors |= {RANDOM: random, SHUFFLED: plain, SINGLE: plain}
            self.pixels = {"": PIXEL_BASELINES}
        for view in AUGMENTATIONS if views else ():
            prefixes = [prefix for prefix in ("", RANDOM) if prefix in self.extractors]
            self.extractors |= {view + prefix: self.extractors[prefix] for prefix in prefixes}
            self.pixels |= {view: PIXEL_BASELINES} if baselines else {}

    @property
    def keys(self) -> list[str]:
        """The keys of what a call returns."""
        keys = [prefix + key for prefix, extractor in self.extractors.items() for key in extractor.keys]
        return keys + [prefix + name for prefix, functions in self.pixels.items() for name in functions]

    def __call__(
        self, video: Float[Tensor, "b 3 T H W"], ids: Sequence[str], times: Float[Tensor, "b T"] | None = None
    ) -> dict[str, Float[Tensor, "b ..."]]:
        """Return the features of clips in [-1, 1] by key; ids and times as of `FeatureExtractor`."""
        features = {}
        for prefix, functions in self.pixels.items():
            changed = self._change(video, prefix, ids)
            features |= {prefix + name: function(changed) for name, function in functions.items()}
        for prefix, extractor in self.extractors.items():
            output = extractor(self._change(video, prefix, ids), ids, times)
            features |= {prefix + key: x for key, x in output.features.items()}
        return features

    def _change(self, video: Float[Tensor, "b 3 T H W"], prefix: str, ids: Sequence[str]) -> Tensor:
        """Return the clips that features of that prefix are of."""
        change = next((change for head, change in CHANGES.items() if prefix.startswith(head)), None)
        return video if change is None else change(video, ids, self.seed)
