"""Feature layers: their description by a model, and their choice by number, as timm does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError


@dataclass(frozen=True, kw_only=True)
class FeatureInfo:
    """One layer of a model; its features are read after the residual sum and before any norm.

    `num_chs` is its channels, `reduction` (t, h, w) the frames and pixels per feature cell, `module` the part that it
    is in ("encoder", "posterior", "codes", "latent", "denoiser"). A `causal` layer never sees later frames.
    """

    name: str
    num_chs: int
    reduction: tuple[int, int, int]
    module: str
    causal: bool


FORMATS: dict[str, Callable[[Tensor], Tensor]] = {
    "BTHWC": lambda x: x,
    "BCTHW": lambda x: rearrange(x, "b t h w c -> b c t h w"),
    "BNC": lambda x: rearrange(x, "b t h w c -> b (t h w) c"),
}


class BlocksConfig(Protocol):
    """The shape of a transformer's blocks: `patch` is (t, h, w) in latent cells."""

    patch: tuple[int, int, int]
    width: int
    depth: int


class FeatureMixin:
    """Adds `forward_intermediates` to a model that has `feature_info`, and `iter_features`, which yields every layer by
    its name and then the result."""

    feature_info: list[FeatureInfo]
    iter_features: Callable[..., Iterator[tuple[str, Tensor]]]

    def forward_intermediates(
        self,
        *inputs: Any,
        indices: int | Sequence[int] | None = None,
        output_fmt: str = "BTHWC",
        intermediates_only: bool = False,
    ) -> tuple[Tensor, list[Float[Tensor, "b ..."]]] | list[Float[Tensor, "b ..."]]:
        """Return (result, intermediates) of a pass over `inputs`, those of `forward`; as timm's method of this name.

        Raises VidgenError for a layer or a format that does not exist.

        Args:
            inputs: the arguments of `forward`.
            indices: layers by their index in `feature_info`: a number is the last so many, a list may count from the
                end, None is all. Intermediates come in the order of `feature_info`, each once.
            output_fmt: "BTHWC", "BCTHW" or "BNC", of intermediates; the result keeps the layout it has.
            intermediates_only: leaves the result out, and runs nothing beyond the last layer.
        """
        if output_fmt not in FORMATS:
            raise VidgenError(f"output_fmt {output_fmt!r} is unknown; choose one of {', '.join(FORMATS)}")
        infos = self.feature_info
        chosen = {infos[i].name: infos[i] for i in choose_indices(len(infos), indices)}
        intermediates: list[Tensor] = []
        out = None
        for name, out in self.iter_features(*inputs):
            if name in chosen:
                intermediates.append(FORMATS[output_fmt](channels_last(out, chosen[name])))
            if intermediates_only and len(intermediates) == len(chosen):
                return intermediates
        return intermediates if intermediates_only else (out, intermediates)


def block_feature_info(config: BlocksConfig) -> list[FeatureInfo]:
    """Return a layer for each of a transformer's `depth` blocks; reductions are in latent cells, not pixels."""
    kind = {"num_chs": config.width, "reduction": config.patch, "module": "denoiser", "causal": False}
    return [FeatureInfo(name=f"blocks.{i}", **kind) for i in range(config.depth)]


def choose_indices(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Return the indices of layers, rising; see `FeatureMixin.forward_intermediates`.

    Raises VidgenError for one that is not among `count`.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        if not 1 <= indices <= count:
            raise VidgenError(f"the last {indices} layers are not there: this model has {count}")
        return list(range(count - indices, count))
    if bad := [i for i in indices if not -count <= i < count]:
        raise VidgenError(f"layer number {bad[0]} is not there: this model has {count}, from 0, or from the end -1")
    return sorted({i % count for i in indices})


def channels_last(x: Tensor, info: FeatureInfo) -> Float[Tensor, "b t h w c"]:
    """Return a layer's features with channels last; `iter_features` yields a denoiser's so, others' channels second."""
    return x if info.module == "denoiser" else rearrange(x, "b c t h w -> b t h w c")
