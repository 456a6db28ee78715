"""The layers of a model whose features can be read, and how they are asked for by number."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from vidgen.errors import VidgenError


@dataclass(frozen=True, kw_only=True)
class FeatureInfo:
    """One layer: its name, `num_chs` channels, `reduction` (t, h, w) in frames and pixels per feature cell, the
    `module` it is in ("encoder", "posterior", "codes", "latent", "denoiser") and whether it is `causal` (never sees
    later frames). Features are read after the residual sum and before any norm."""

    name: str
    num_chs: int
    reduction: tuple[int, int, int]
    module: str
    causal: bool

    def __getattr__(self, name: str) -> Any:
        """Return a field by its former name, with a warning."""
        if name not in FORMER_FIELDS:
            raise AttributeError(f"FeatureInfo has no attribute {name!r}")
        warnings.warn(f"FeatureInfo.{name} is now called {FORMER_FIELDS[name]}", FutureWarning, stacklevel=2)
        return getattr(self, FORMER_FIELDS[name])


FORMER_FIELDS = {"width": "num_chs", "stride": "reduction", "space": "module"}


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
    """timm's `forward_intermediates` for a model with `feature_info` and `iter_features`, which yields (name, features)
    of every layer and then its result."""

    feature_info: list[FeatureInfo]
    iter_features: Callable[..., Iterator[tuple[str, Tensor]]]

    @property
    def taps(self) -> list[FeatureInfo]:
        """The former name of `feature_info`."""
        warnings.warn("taps is now called feature_info", FutureWarning, stacklevel=2)
        return self.feature_info

    def walk(self, *inputs: Any) -> Iterator[tuple[str, Tensor]]:
        """Yield as `iter_features`, by its former name."""
        warnings.warn("walk is now called iter_features", FutureWarning, stacklevel=2)
        return self.iter_features(*inputs)

    def forward_intermediates(
        self,
        *inputs: Any,
        indices: int | Sequence[int] | None = None,
        output_fmt: str = "BTHWC",
        intermediates_only: bool = False,
    ) -> tuple[Tensor, list[Float[Tensor, "b ..."]]] | list[Float[Tensor, "b ..."]]:
        """Return (result, intermediates) of a pass over `inputs`, those of `forward`; as timm's method of this name.

        Args:
            indices: layers by their place in `feature_info`: a number is the last so many, a list may count from the
                end, None is all. Intermediates come in the order of `feature_info`, each once.
            output_fmt: "BTHWC", "BCTHW" or "BNC", of intermediates; the result keeps the layout it has.
            intermediates_only: leaves the result out, and nothing is run beyond the last layer.

        Raises VidgenError for an unknown layer or format.
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
    """Return numbers of layers, rising: see `FeatureMixin.forward_intermediates`. Raises VidgenError for one that is
    not among `count`."""
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
    """Return what `iter_features` yields for a layer with its channels last; only a denoiser's are so already."""
    return x if info.module == "denoiser" else rearrange(x, "b c t h w -> b t h w c")
