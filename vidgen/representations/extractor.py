"""Features of clips, read by name inside tokenizers, denoisers and other encoders."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder, Pipeline
from vidgen.models.feature_layers import FeatureInfo, channels_last
from vidgen.models.placement import device_of
from vidgen.representations.denoiser_encoder import check_noise, content_id, up_to_last
from vidgen.representations.feature_keys import DENOISER, feature_key, parse_key
from vidgen.representations.model_layers import (
    LATENTS,
    as_encoders,
    default_layers,
    evaluating,
    list_layers,
    renamed_layers,
)
from vidgen.representations.noising import Noising
from vidgen.representations.pooling import FRAME, POOLS, check_pool, owners


@dataclass(frozen=True, kw_only=True)
class FeatureOutput:
    """Features by key: "tokenizer.latents", "dit.blocks.7@t=0.10"; float32, (b, t, h, w, c) or what the pool leaves.

    `times[key]` (b, t) says when each feature frame is complete: the time of the last video frame that is part of it.
    """

    features: dict[str, Float[Tensor, "b *axes c"]]
    times: dict[str, Float[Tensor, "b t"]]


class FeatureExtractor:
    """Reads features of clips at named layers of a pipeline, a tokenizer, or any other `Encoder`.

    Layers share a pass, and noise levels share the tokenizer's; nothing is run beyond the last layer that is asked for.

    Args:
        model: see `as_encoders`.
        layers: names from `list_layers`: "tokenizer.encoder.layers.<i>", "tokenizer.latents", "dit.blocks.<i>",
            "encoder.layers.<i>". None is the latents of a tokenizer or pipeline, and the last layer of others.
        noise_levels: in [0, 1], for layers of the denoiser only; 0 is the clean latents.
        pool: one of `POOLS`, or "frame". Attentive pooling has weights that are learned: see the probe of that name.
        seed, prompt, noise, ensemble: see `DenoiserEncoder`; `noise` may be `InvertedNoise` of the samplers.
        taps: the former name of `layers`.

    Raises VidgenError for an unknown layer, pool or noise, and for a level outside [0, 1].
    """

    def __init__(
        self,
        model: Pipeline | Encoder,
        layers: Sequence[str] | None = None,
        noise_levels: Sequence[float] = (0.1,),
        pool: str = "mean",
        seed: int = 0,
        prompt: str = "",
        *,
        noise: str | Noising = "random",
        ensemble: int = 1,
        taps: Sequence[str] | None = None,
    ) -> None:
        layers = renamed_layers(layers, taps)
        check_noise(noise_levels, ensemble)
        self.model = model
        self.encoders = as_encoders(
            model, noise_levels=noise_levels, seed=seed, prompt=prompt, noise=noise, ensemble=ensemble
        )
        self.feature_info = list_layers(model)
        self._infos = {info.name: info for info in self.feature_info}
        self.part, self.encoder = next(iter(self.encoders.items()))
        self.layers = {layer: self._find_info(layer) for layer in default_layers(model, layers)}
        if not self.layers:
            raise VidgenError(f"no layers given; this model has {', '.join(self._infos)}")
        check_pool(pool, list(self.layers.values()))
        self.noise_levels = [float(level) for level in dict.fromkeys(noise_levels)]
        self.pool = pool
        if self._names(DENOISER) and not self.noise_levels:
            raise VidgenError("layers of the denoiser need a noise level; give one in [0, 1], such as 0.1")

    @property
    def taps(self) -> dict[str, FeatureInfo]:
        """The former name of `layers`."""
        warnings.warn("FeatureExtractor.taps is now called layers", FutureWarning, stacklevel=2)
        return self.layers

    @property
    def tokenizer(self) -> Encoder:
        """The encoder that sees the pixels: of a pipeline its tokenizer."""
        return self.encoder

    @property
    def noise(self) -> Noising:
        """What brings latents to the noise levels. Raises KeyError for a model without a denoiser."""
        return self.encoders[DENOISER].noise

    @property
    def keys(self) -> list[str]:
        """The keys of what a call returns."""
        plain = [self.part + name for name in self._names(self.part)]
        return plain + [feature_key(DENOISER + name, t) for t in self.noise_levels for name in self._names(DENOISER)]

    @torch.no_grad()  # rather than inference mode, so that probes can be trained on what comes out
    def __call__(
        self,
        video: Float[Tensor, "b 3 T H W"],
        ids: Sequence[int | str] | None = None,
        times: Float[Tensor, "b T"] | None = None,
        prompts: Sequence[str] | None = None,
    ) -> FeatureOutput:
        """Return features of clips in [-1, 1], of any length and size that the model takes.

        ids: one a clip, for its noise; None takes a hash of its pixels. times: of every frame, in seconds; None counts
        frames. prompts: one a clip, that the layers of the denoiser are conditioned on; None takes the extractor's for
        all. Noise that is predicted is the extractor's prompt's in any case. Raises VidgenError for clips that the
        model or the denoiser's patches cannot take.
        """
        ids = [content_id(clip) for clip in video] if ids is None else list(ids)
        for name, values in (("ids", ids), ("prompts", prompts)):
            if values is not None and len(values) != len(video):
                raise ValueError(f"{len(values)} {name} for {len(video)} clips")
        if times is None:
            times = torch.arange(video.shape[2], dtype=torch.float64).expand(len(video), -1)
        if self._names(DENOISER):
            self._check_size(video)
        features, complete = {}, {}
        with evaluating(self.model):
            for key, x in self._iter_maps(video, ids, prompts):
                last = self._last_frames(self._infos[parse_key(key)[0]], x.shape[1], video.shape[2])
                if self.pool == FRAME:
                    owner = owners(last, video.shape[2])
                    features[key] = POOLS["spatial"](x.float())[:, owner.to(x.device)]
                    complete[key] = times[:, last[owner]]
                else:
                    features[key] = POOLS[self.pool](x.float())
                    complete[key] = times[:, last]
        return FeatureOutput(features={k: features[k] for k in self.keys}, times={k: complete[k] for k in self.keys})

    def _iter_maps(
        self, video: Tensor, ids: Sequence[int | str], prompts: Sequence[str] | None
    ) -> Iterator[tuple[str, Float[Tensor, "b t h w c"]]]:
        """Yield (key, features) of every layer asked for, as the model gets to them."""
        names = set(self._names(self.part))
        latents = None
        inputs = video.to(device_of(self.encoder)) if isinstance(self.encoder, nn.Module) else video
        needed = {*names, "latents"} if self._names(DENOISER) else names
        for name, x in up_to_last(self.encoder.iter_features(inputs), needed):
            if name == "latents":
                latents = x
            if name in names:
                yield self.part + name, channels_last(x, self._infos[self.part + name])
        if self._names(DENOISER):
            yield from self.iter_denoiser_features(latents, ids, prompts)

    def iter_denoiser_features(
        self, latents: Float[Tensor, "b c t h w"], ids: Sequence[int | str], prompts: Sequence[str] | None = None
    ) -> Iterator[tuple[str, Float[Tensor, "b t h w c"]]]:
        """Yield (key, features) of the denoiser's layers for clean latents; with gradients, where those are on."""
        for name, x in self.encoders[DENOISER].iter_latents(latents, ids, prompts, self._names(DENOISER)):
            yield DENOISER + name, x

    def _find_info(self, layer: str) -> FeatureInfo:
        if layer not in self._infos:
            raise VidgenError(f"layer {layer!r} is not there; this model has {', '.join(self._infos)}")
        return self._infos[layer]

    def _names(self, part: str) -> list[str]:
        """Return the names, within a part of the model, of the layers asked for."""
        return [layer.removeprefix(part) for layer in self.layers if layer.startswith(part)]

    def _last_frames(self, info: FeatureInfo, count: int, num_frames: int) -> Tensor:
        """Return for each of `count` feature frames the last video frame in it; models fill up what is cut short."""
        step = info.reduction[0]
        lone_first = count > -(-num_frames // step)  # as encoders over a tokenizer's cells have it
        cell = self._infos[LATENTS].reduction[0] if LATENTS in self._infos else step if lone_first else 1
        # Counted from the end, which all have in common: first frames fill a cell, or stand by themselves.
        ends = -(-(num_frames - 1) // cell) * cell - torch.arange(count).flip(0) * step
        return ends.clamp(0, num_frames - 1)

    def _check_size(self, video: Tensor) -> None:
        """The tokenizer pads to its own multiple; the denoiser's patches must fit what comes out."""
        cell = self._infos[LATENTS].reduction[1:]
        patch = self.encoders[DENOISER].blocks[0].reduction[1:]
        size = [-(-pixels // c) * c for pixels, c in zip(video.shape[3:], cell, strict=True)]
        if any(pixels % n for pixels, n in zip(size, patch, strict=True)):
            height, width = video.shape[3:]
            raise VidgenError(
                f"clips of {height}x{width} do not fit the denoiser's patches; resize them to a multiple of "
                f"{patch[0]}x{patch[1]}, or read the tokenizer's layers only"
            )
