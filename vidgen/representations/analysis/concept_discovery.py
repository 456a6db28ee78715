"""Concepts of a layer without labels: groups of space-time tokens that recur over clips, ranked by what hiding them
changes in the result (after Kowal et al. 2024, VTCD, with k-means in both of its steps)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vidgen.errors import VidgenError

STARTS = 3  # of k-means


@dataclass(frozen=True, kw_only=True, eq=False)
class Concepts:
    """Concepts of a layer: `assignments`, the number of the concept of each token of each clip; and `mean`, the mean
    token, which stands in for those that are hidden."""

    assignments: Int[np.ndarray, "b t h w"]
    mean: Float[np.ndarray, " c"]
    count: int

    def shares(self) -> Float[np.ndarray, " k"]:
        """Return the share of all tokens that is each concept's."""
        return np.bincount(self.assignments.ravel(), minlength=self.count) / self.assignments.size

    def share_of(self, weights: Float[np.ndarray, "b t h w"]) -> Float[np.ndarray, " k"]:
        """Return the mean weight of each concept's tokens, such as how far they are an object's; NaN of none."""
        sums = np.bincount(self.assignments.ravel(), weights.ravel(), minlength=self.count)
        counts = np.bincount(self.assignments.ravel(), minlength=self.count)
        return np.divide(sums, counts, out=np.full(self.count, np.nan), where=counts > 0)


@dataclass(frozen=True, kw_only=True)
class ConceptImportance:
    """How much a concept matters: what hiding it adds to the change of the result, 1 - cosine, whatever else is hidden,
    by least squares over so many `draws`."""

    layer: str
    concept: int
    importance: float
    draws: int


def discover_concepts(
    features: Float[np.ndarray, "b t h w c"], *, tubelets: int = 8, concepts: int = 8, seed: int = 0
) -> Concepts:
    """Group the tokens of each clip into tubelets by their features, and the tubelets of all clips into concepts.

    Features are standardized over all clips, channel by channel. Raises ValueError for fewer tokens than tubelets in a
    clip, or fewer tubelets than concepts in all.
    """
    from sklearn.cluster import KMeans

    x = np.asarray(features, np.float64)
    b, c = len(x), x.shape[-1]
    tokens = x.reshape(b, -1, c)
    if tubelets > tokens.shape[1] or concepts > b * tubelets:
        raise ValueError(
            f"{tubelets} tubelets of {tokens.shape[1]} tokens and {concepts} concepts of {b * tubelets} tubelets: "
            "ask for fewer"
        )
    mean = tokens.mean(axis=(0, 1))
    spread = tokens.std(axis=(0, 1))
    standardized = (tokens - mean) / np.where(spread > 0, spread, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are fewer different tokens than groups is no fault
        parts = [KMeans(tubelets, n_init=STARTS, random_state=seed).fit(clip) for clip in standardized]
        centers = np.concatenate([part.cluster_centers_ for part in parts])
        groups = KMeans(concepts, n_init=STARTS, random_state=seed).fit_predict(centers).reshape(b, tubelets)
    assignments = np.stack([groups[i][part.labels_] for i, part in enumerate(parts)])
    return Concepts(assignments=assignments.reshape(x.shape[:-1]), mean=mean, count=concepts)


@contextmanager
def hiding(
    modules: Mapping[str, nn.Module], hidden: Mapping[str, Bool[Tensor, "b n"]], stand_ins: Mapping[str, Tensor]
) -> Iterator[None]:
    """Within the context, tokens that are hidden are replaced by the stand-in of their layer in what modules return.

    Raises VidgenError for a module that does not return tokens (b, n, c).
    """

    def replace_tokens(layer: str, out: Any) -> Any:
        x, *rest = out if isinstance(out, tuple) else (out,)
        if x.shape[:2] != hidden[layer].shape:
            raise VidgenError(f"layer {layer} has outputs of shape {tuple(x.shape)}, not all tokens of clips")
        x = torch.where(hidden[layer].to(x.device)[..., None], stand_ins[layer].to(x), x)
        return (x, *rest) if isinstance(out, tuple) else x

    with ExitStack() as stack:
        for layer in hidden:
            handle = modules[layer].register_forward_hook(lambda _m, _i, out, layer=layer: replace_tokens(layer, out))
            stack.callback(handle.remove)
        yield


def rank_concepts(
    encode: Callable[[Float[Tensor, "b 3 T H W"]], Float[Tensor, "b d"]],
    modules: Mapping[str, nn.Module],
    video: Float[Tensor, "b 3 T H W"],
    concepts: Mapping[str, Concepts],
    *,
    draws: int = 64,
    batch_size: int = 16,
    seed: int = 0,
) -> list[ConceptImportance]:
    """Return concepts of layers by their importance, the most important first.

    In each draw every concept of every layer is hidden or not by a coin of its own, all at once, so that concepts which
    stand in for each other are seen to matter (Kowal et al. 2024, section 3.3).

    encode: what is read of clips in the end. modules: what makes the layers. Raises ValueError for no more draws than
    concepts.
    """
    names = [(layer, k) for layer, found in concepts.items() for k in range(found.count)]
    if draws <= len(names):
        raise ValueError(f"{draws} draws do not tell {len(names)} concepts apart: draw more often than there are")
    rng = np.random.default_rng(seed)
    chosen = rng.random((draws, len(names))) < 0.5
    means = {layer: torch.from_numpy(found.mean) for layer, found in concepts.items()}
    assignments = {layer: torch.from_numpy(found.assignments).flatten(1) for layer, found in concepts.items()}
    changes = np.zeros(draws)
    parts = range(0, len(video), batch_size)
    with torch.no_grad():
        plain = torch.cat([encode(video[first : first + batch_size]).double().cpu() for first in parts])
        for draw in range(draws):
            picked = {layer: torch.zeros(found.count, dtype=torch.bool) for layer, found in concepts.items()}
            for (layer, k), is_chosen in zip(names, chosen[draw].tolist(), strict=True):
                picked[layer][k] = is_chosen
            rows = []
            for first in parts:
                clips = slice(first, first + batch_size)
                hidden = {layer: picked[layer][rows_of[clips]] for layer, rows_of in assignments.items()}
                with hiding(modules, hidden, means):
                    rows.append(encode(video[clips]).double().cpu())
            changes[draw] = float((1 - F.cosine_similarity(plain, torch.cat(rows), dim=-1)).mean())
    columns = np.column_stack([chosen.astype(float), np.ones(draws)])
    added = np.linalg.lstsq(columns, changes, rcond=None)[0]
    ranked = [
        ConceptImportance(layer=layer, concept=k, importance=float(value), draws=draws)
        for (layer, k), value in zip(names, added, strict=False)
    ]
    return sorted(ranked, key=lambda one: -one.importance)
