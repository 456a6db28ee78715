"""What published denoisers have in common: VideoDiT's interface around a transformer of diffusers."""

from __future__ import annotations

import copy
import inspect
import os
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

from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.checkpoints.conversion import NetworkDraft
from vidgen.checkpoints.drafts import draft_diffusers
from vidgen.errors import VidgenError
from vidgen.models.attention import find_attention
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin, block_feature_info
from vidgen.models.placement import PlacedModule
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import PreparedText

SLACK = 1e-3  # of a timestep of 1,000: levels in float32 miss a whole one by a tenth of that
# Our names of attention -> diffusers' names of what does the same; None is its default.
BACKENDS = {"auto": None, "plain": "_native_math", "sdpa": "native", "xformers": "xformers"}


@dataclass(frozen=True, kw_only=True)
class Clock:
    """The timestep of noise level t as a network takes it: steps * t + offset, 0 at least.

    `rounding`: "none"; "near": timesteps within 0.001 of a whole number are rounded to it; "down": all are rounded
    down, as by a scheduler that counts in whole timesteps (0.001 of 1,000 is added first, against errors of float32).
    """

    steps: int = 1000
    offset: int = 0
    rounding: str = "none"

    def __call__(self, t: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """Return the timesteps of noise levels."""
        k = (self.steps * t + self.offset).clamp(min=0.0)
        if self.rounding == "down":
            return (k + SLACK * self.steps / 1000).floor()
        whole = k.round()
        return torch.where((k - whole).abs() < SLACK, whole, k) if self.rounding == "near" else k


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig(ConfigMapping):
    """What others may know of a denoiser: `patch` is (t, h, w) in latent cells, `depth` the number of blocks.

    `frame_levels`: whether each frame may have a noise level of its own, as frame conditioning needs it.
    `settings`: those of the published class, and what else its output depends on.
    """

    latent_channels: int
    patch: tuple[int, int, int]
    width: int
    depth: int
    text_width: int
    frame_levels: bool
    settings: dict[str, Any]


class BlocksReached(Exception):
    """Thrown out of a network where its blocks begin."""


class RecordCall(nn.Module):
    """Stands in for the first block: records the arguments of its call by name, and stops the network there."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.signature = inspect.signature(block.forward)
        self.arguments: dict[str, Any] = {}

    def forward(self, *args: Any, **kwargs: Any) -> None:
        """Record the arguments and raise BlocksReached."""
        self.arguments = dict(self.signature.bind(*args, **kwargs).arguments)
        raise BlocksReached


class Constant(nn.Module):
    """Stands in for all blocks, whose result is there already."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the result, whatever the arguments."""
        return self.value


class PublishedDenoiser(FeatureMixin, PlacedModule):
    """A transformer of diffusers as a network (x, t, text) -> prediction on latents (b, c, t, h, w).

    `forward` is the class's own. `iter_features` gives every block's output: it takes from the class what goes into the
    first block, runs the blocks, and lets the class finish; so the parts before and after them run twice. Subclasses
    say what the class is called with, and how latents lie in it.
    """

    blocks_name: ClassVar[str]
    image_channels = 0  # that go in beside the latents, of transformers that make clips from an image

    def __init__(self, network: nn.Module, config: DenoiserConfig, clock: Clock) -> None:
        super().__init__()
        self.network, self.config, self.clock = network, config, clock

    @classmethod
    def network_class(cls) -> type:
        """Return diffusers' class, which is imported only now."""
        raise NotImplementedError

    @classmethod
    def draft(cls, folder: Path) -> NetworkDraft:
        """Return the network in a folder before its weights are read; see `draft_diffusers` for the errors."""
        return draft_diffusers(cls.network_class(), folder)

    @classmethod
    def wrap(cls, network: nn.Module, clock: Clock, **settings: Any) -> PublishedDenoiser:
        """Return the adapter for a network that `draft` made."""
        return cls(network, clock, **settings)

    def arguments(self, x: Tensor, t: Tensor, text: TextEncoding) -> dict[str, Any]:
        """Return what the class's forward takes for latents in its dtype and timesteps (b,), or (b, t) of frames."""
        raise NotImplementedError

    def latents_of(self, out: Tensor, like: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """Return the class's output as latents."""
        raise NotImplementedError

    def forward(
        self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, b * f], text: TextEncoding | None = None
    ) -> Float[Tensor, "b c t h w"]:
        """Return the prediction. Raises VidgenError for latents, levels or text that the network does not take."""
        z, call = self._call(x, t, text)
        return self.latents_of(self.network(**call, return_dict=False)[0], z)[:, :, -x.shape[2] :]

    def iter_features(
        self, x: Float[Tensor, "b c t h w"], t: Float[Tensor, b * f], text: TextEncoding | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield every block's output (b, t, h, w, d) under its layer's name, lazily; the last item is the prediction,
        "out". Raises VidgenError as `forward`."""
        z, call = self._call(x, t, text)
        grid = {axis: n // p for axis, n, p in zip("thw", z.shape[2:], self.config.patch, strict=True)}
        blocks = self.network.get_submodule(self.blocks_name)
        recorder = RecordCall(blocks[0])
        out = None
        with suppress(BlocksReached):
            self._with_blocks(recorder)(**call, return_dict=False)
        arguments = recorder.arguments
        for i, block in enumerate(blocks):
            out = block(**arguments)
            hidden, *text_out = out if isinstance(out, tuple) else (out,)
            arguments["hidden_states"] = hidden
            if text_out:
                arguments["encoder_hidden_states"] = text_out[0]
            yield f"blocks.{i}", rearrange(hidden, "b (t h w) d -> b t h w d", **grid)
        last = self._with_blocks(Constant(out))(**call, return_dict=False)[0]
        yield "out", self.latents_of(last, z)[:, :, -x.shape[2] :]

    def _with_blocks(self, stand_in: nn.Module) -> nn.Module:
        """Return the network, its weights shared, with one module in place of all blocks."""
        twin = copy.copy(self.network)
        twin._modules = {**self.network._modules, self.blocks_name: nn.ModuleList([stand_in])}
        return twin

    def _call(self, x: Tensor, t: Tensor, text: TextEncoding | None) -> tuple[Tensor, dict[str, Any]]:
        """Return the latents as they go in, and the arguments of the class's forward. Where patches hold several
        frames, the first one is repeated before itself to fill its patch."""
        t = self.check(x, t, text)
        lead = -x.shape[2] % self.config.patch[0]
        x = torch.cat([x[:, :, :1]] * lead + [x], dim=2).to(self.network.dtype)
        text = TextEncoding(tokens=text.tokens.to(x.dtype), mask=text.mask)
        return x, self.arguments(x, self.clock(t), text)

    def check(self, x: Tensor, t: Tensor, text: TextEncoding | PreparedText | None) -> Float[Tensor, b * f]:
        """Return the levels, (b,) where all frames have one. Raises VidgenError for what the network does not take."""
        c = self.config
        name = type(self.network).__name__
        if not isinstance(text, PreparedText) and (text is None or text.tokens.shape[-1] != c.text_width):
            width = "none" if text is None else f"one of width {text.tokens.shape[-1]}"
            raise VidgenError(f"{name} takes a text of width {c.text_width}; it was given {width}")
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
        """Choose the attention of every layer: "auto" (diffusers' choice), "plain", "sdpa" or "xformers".

        Raises VidgenError for one that is not installed, and for a class whose attention cannot be chosen.
        """
        find_attention(name)
        processors = [getattr(layer, "processor", None) for layer in self.network.modules()]
        processors = [processor for processor in processors if hasattr(processor, "_attention_backend")]
        if not processors and name not in ("auto", "sdpa"):
            raise VidgenError(
                f"{type(self.network).__name__} knows no attention but PyTorch's own: choose auto or sdpa"
            )
        if name == "xformers" and find_spec("xformers") is None:
            raise VidgenError("attention 'xformers' needs the extra: pip install 'vidgen[gpu]', or choose 'sdpa'")
        for processor in processors:
            processor._attention_backend = BACKENDS[name]

    def enable_gradient_checkpointing(self) -> None:
        """Compute every block again in the backward pass: less memory, a third more work."""
        self.network.enable_gradient_checkpointing()

    def disable_gradient_checkpointing(self) -> None:
        """Keep all activations for the backward pass."""
        self.network.disable_gradient_checkpointing()

    def fresh(self) -> PublishedDenoiser:
        """Return the same architecture with new random weights."""
        twin = copy.copy(self)
        twin._modules = {"network": type(self.network).from_config(self.network.config)}
        return twin

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Raise VidgenError: a published pipeline is its folder."""
        raise VidgenError(f"{folder}: a published pipeline is not written anew; copy the folder that it came from")

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """One layer a block; see `block_feature_info`."""
        return block_feature_info(self.config)
