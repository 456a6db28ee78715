"""What published denoisers have in common: VideoDiT's interface around a transformer of diffusers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.conversion import KeyedDraft
from vidgen.checkpoints.drafts import Draft, draft_diffusers
from vidgen.errors import VidgenError
from vidgen.models.attention import find_attention
from vidgen.models.feature_layers import FeatureInfo, block_feature_info
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import PreparedText

SLACK = 1e-3  # of a timestep: levels in float32 miss a whole one by a tenth of that
# Our names of attention -> diffusers' names of what does the same; None is its default.
BACKENDS = {"auto": None, "plain": "_native_math", "sdpa": "native", "xformers": "xformers"}


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The timestep that a network is shown at noise level t: steps * t + offset, 0 at least.

    `rounding` "none"; "near": what rounding errors alone keep from being whole is whole; "down": all are whole, as a
    scheduler that counts in whole timesteps shows them.
    """

    steps: int = 1000
    offset: int = 0
    rounding: str = "none"

    def __call__(self, t: Float[Tensor, ...]) -> Float[Tensor, ...]:
        k = (self.steps * t + self.offset).clamp(min=0.0)
        if self.rounding == "down":
            return (k + SLACK).floor()
        whole = k.round()
        return torch.where((k - whole).abs() < SLACK, whole, k) if self.rounding == "near" else k


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """What is asked of a denoiser from outside: `patch` is (t, h, w) in latent cells, `depth` the number of blocks.

    `frame_levels`: whether each frame may have a noise level of its own, so that known frames can be given.
    `settings`: those of the published class, and what else its output depends on.
    """

    latent_channels: int
    patch: tuple[int, int, int]
    width: int
    depth: int
    text_width: int
    frame_levels: bool
    settings: dict[str, Any]


class Reached(Exception):
    """Thrown out of a network where its blocks begin."""


class Gate(nn.Module):
    """Stands in for the first block: keeps what that would be called with, by name, and goes no further."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.signature, self.call = inspect.signature(block.forward), {}

    def forward(self, *args: Any, **kwargs: Any) -> None:
        self.call = dict(self.signature.bind(*args, **kwargs).arguments)
        raise Reached


class Result(nn.Module):
    """Stands in for all blocks: their result is known."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.value


class PublishedDenoiser(nn.Module):
    """A transformer of diffusers as a network (x, t, text) -> prediction on latents (b, c, t, h, w).

    `forward` is the class's own. `iter_features` gives every block's output: it takes from the class what goes into the first
    block, runs the blocks, and lets the class finish; so the parts before and after them run twice. Subclasses say what
    the class is called with, and how latents lie in it.
    """

    network_class: ClassVar[type]
    blocks_name: ClassVar[str]

    def __init__(self, network: nn.Module, config: DenoiserConfig, clock: Clock) -> None:
        super().__init__()
        self.network, self.config, self.clock = network, config, clock

    @classmethod
    def draft(cls, place: Path) -> Draft | KeyedDraft:
        """The network in a folder before its weights are read; see `draft_diffusers` for the errors."""
        return draft_diffusers(cls.network_class, place)

    @classmethod
    def around(cls, network: nn.Module, clock: Clock, **settings: Any) -> PublishedDenoiser:
        """The adapter for a network that `draft` made."""
        return cls(network, clock, **settings)

    def arguments(self, x: Tensor, t: Tensor, text: TextEncoding) -> dict[str, Any]:
        """What the class's forward takes for latents that are in its dtype and timesteps (b,), or (b, t) of frames."""
        raise NotImplementedError

    def latents_of(self, out: Tensor, like: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """The class's output as latents."""
        raise NotImplementedError

    def forward(
        self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, b * f], text: TextEncoding | None = None
    ) -> Float[Tensor, "b c t h w"]:
        """The prediction. Raises VidgenError for latents, levels or text that the network does not take."""
        z, call = self._call(x, t, text)
        return self.latents_of(self.network(**call, return_dict=False)[0], z)[:, :, -x.shape[2] :]

    def iter_features(
        self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, b * f], text: TextEncoding | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Every block's output (b, t, h, w, d) under its layer's name, lazily; the last item is the prediction, "out".

        Raises VidgenError as `forward`.
        """
        z, call = self._call(x, t, text)
        grid = {axis: n // p for axis, n, p in zip("thw", z.shape[2:], self.config.patch, strict=True)}
        blocks, out = getattr(self.network, self.blocks_name), None
        gate = Gate(blocks[0])
        with suppress(Reached):
            self._with_blocks(gate)(**call, return_dict=False)
        inner = gate.call
        for i, block in enumerate(blocks):
            out = block(**inner)
            hidden, *text_out = out if isinstance(out, tuple) else (out,)
            inner["hidden_states"] = hidden
            if text_out:
                inner["encoder_hidden_states"] = text_out[0]
            yield f"blocks.{i}", rearrange(hidden, "b (t h w) d -> b t h w d", **grid)
        last = self._with_blocks(Result(out))(**call, return_dict=False)[0]
        yield "out", self.latents_of(last, z)[:, :, -x.shape[2] :]

    def _with_blocks(self, stand_in: nn.Module) -> nn.Module:
        """The network, its weights shared, with one module in place of all blocks."""
        twin = copy.copy(self.network)
        twin._modules = {**self.network._modules, self.blocks_name: nn.ModuleList([stand_in])}
        return twin

    def _call(self, x: Tensor, t: Tensor, text: TextEncoding | None) -> tuple[Tensor, dict[str, Any]]:
        """The latents as they go in, and the arguments of the class's forward. Where patches hold several frames, the
        first one is repeated before itself to fill its patch."""
        t = self.check(x, t, text)
        lead = -x.shape[2] % self.config.patch[0]
        x = torch.cat([x[:, :, :1]] * lead + [x], dim=2).to(self.network.dtype)
        text = TextEncoding(tokens=text.tokens.to(x.dtype), mask=text.mask)
        return x, self.arguments(x, self.clock(t), text)

    def check(self, x: Tensor, t: Tensor, text: TextEncoding | PreparedText | None) -> Float[Tensor, b * f]:
        """The levels, (b,) where all frames have one. Raises VidgenError for what the network does not take."""
        c, name = self.config, type(self.network).__name__
        if not isinstance(text, PreparedText) and (text is None or text.tokens.shape[-1] != c.text_width):
            found = "none" if text is None else f"one of width {text.tokens.shape[-1]}"
            raise VidgenError(f"{name} takes a text of width {c.text_width}; it was given {found}")
        if x.ndim != 5 or x.shape[1] != c.latent_channels or x.shape[3] % c.patch[1] or x.shape[4] % c.patch[2]:
            raise VidgenError(
                f"latents {tuple(x.shape)} do not fit {name}: (b, {c.latent_channels}, t, h, w) are wanted, h and w "
                f"multiples of {c.patch[1]} and {c.patch[2]}"
            )
        if t.ndim == 2 and t.shape[1] == 1:
            t = t[:, 0]
        if t.ndim == 2 and not c.frame_levels:
            raise VidgenError(
                f"this {name} has one noise level for all frames of a clip, so no frames can be given to it: "
                "leave out image, last_image, a video to go on from, and clips longer than a window"
            )
        return t

    def set_attention(self, name: str) -> None:
        """Chooses the attention of every layer: "auto" (diffusers' choice), "plain", "sdpa" or "xformers".

        Raises VidgenError for one that cannot be had, and for a class whose attention cannot be chosen.
        """
        find_attention(name)
        processors = [getattr(layer, "processor", None) for layer in self.network.modules()]
        chosen = [processor for processor in processors if hasattr(processor, "_attention_backend")]
        if not chosen and name not in ("auto", "sdpa"):
            raise VidgenError(
                f"{type(self.network).__name__} knows no attention but PyTorch's own: choose auto or sdpa"
            )
        if name == "xformers" and find_spec("xformers") is None:
            raise VidgenError("attention 'xformers' needs the extra: pip install 'vidgen[gpu]', or choose 'sdpa'")
        for processor in chosen:
            processor._attention_backend = BACKENDS[name]

    def fresh(self) -> PublishedDenoiser:
        """The same architecture with new random weights."""
        twin = copy.copy(self)
        twin._modules = {"network": type(self.network).from_config(self.network.config)}
        return twin

    def save_pretrained(self, folder: Any, *, dtype: torch.dtype | None = None) -> None:
        """Raises VidgenError: a published pipeline is its folder."""
        raise VidgenError(f"{folder}: a published pipeline is not written anew; copy the folder that it came from")

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """See `block_feature_info`."""
        return block_feature_info(self.config)
