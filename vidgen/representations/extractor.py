"""Features of clips, read by name inside tokenizers and denoisers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.diffusion.paths import expand_level
from vidgen.errors import VidgenError
from vidgen.models.feature_layers import FeatureInfo, channels_last
from vidgen.models.text.encoders import TextEncoding
from vidgen.representations.noising import Noising, PredictedNoise, RandomNoise, level_of, predict_by_denoiser
from vidgen.representations.pooling import FRAME, POOLS, check_pool, owners

NOISES = ("random", "predicted")


@dataclass(frozen=True, kw_only=True)
class FeatureOutput:
    """Features by key: "tokenizer.latents", "dit.blocks.7@t=0.10"; float32, (b, t, h, w, c) or what the pool leaves.

    `times[key]` (b, t) says when each feature frame is complete: the time of the last video frame that is part of it.
    """

    features: dict[str, Float[Tensor, "b *axes c"]]
    times: dict[str, Float[Tensor, "b t"]]


class FeatureExtractor:
    """Reads features of clips at named layers of a pipeline (anything with `vae`, `transformer`, `text_encoder` and
    `path`), or of a tokenizer alone.

    layers: names from `feature_info`: "tokenizer.encoder.layers.<i>", "tokenizer.latents", "dit.blocks.<i>".
    noise_levels: in [0, 1], for layers of the denoiser only; 0 is the clean latents.
    pool: one of `POOLS`, or "frame". Attentive pooling has weights that are learned: see the probe of that name.
    seed: the noise of a clip is a function of (seed, id) alone, the same for every layer and level.
    prompt: the text the denoiser is conditioned on; "" is the null condition.
    noise: "random", "predicted" (by the denoiser itself, see `predict_by_denoiser`), or any `Noising`, such as
        `InvertedNoise` of the samplers.
    ensemble: the mean of the features over so many draws of random noise, all of the clip's own (Tang et al. 2023,
        DIFT, section 4.2), before they are pooled.

    Taps share a pass, and noise levels share the tokenizer's; nothing is run beyond the last layer that is asked for.
    Raises VidgenError for an unknown layer, pool or noise, and for a level outside [0, 1].
    """

    def __init__(
        self,
        model: Any,
        layers: Sequence[str] = ("tokenizer.latents",),
        noise_levels: Sequence[float] = (0.1,),
        pool: str = "mean",
        seed: int = 0,
        prompt: str = "",
        *,
        noise: str | Noising = "random",
        ensemble: int = 1,
    ) -> None:
        self.model, self.feature_info = model, list_layers(model)
        self._known = known = {info.name: info for info in self.feature_info}
        self.tokenizer, self.denoiser = getattr(model, "vae", model), getattr(model, "transformer", None)
        if unknown := [layer for layer in layers if layer not in known]:
            raise VidgenError(f"layer {unknown[0]!r} is not there; this model has {', '.join(known)}")
        if not layers:
            raise VidgenError(f"no layers given; this model has {', '.join(known)}")
        check_pool(pool, [known[layer] for layer in layers])
        if bad := [level for level in noise_levels if not 0.0 <= level <= 1.0]:
            raise VidgenError(f"noise level {bad[0]} is outside [0, 1]; 0 is clean and 1 pure noise")
        self.layers = {layer: known[layer] for layer in layers}
        self.noise_levels = [float(level) for level in dict.fromkeys(noise_levels)]
        self.pool, self.seed, self.prompt, self.ensemble = pool, seed, prompt, ensemble
        if ensemble < 1:
            raise VidgenError(f"an ensemble of {ensemble} draws is none; give 1 or more")
        if self._wanted("dit") and not self.noise_levels:
            raise VidgenError("taps of the denoiser need a noise level; give one in [0, 1], such as 0.1")
        self.noise = find_noise(model, noise, seed, prompt) if self._wanted("dit") else None

    @property
    def keys(self) -> list[str]:
        """The keys of what a call returns."""
        plain = [f"tokenizer.{name}" for name in self._wanted("tokenizer")]
        return plain + [feature_key(f"dit.{name}", t) for t in self.noise_levels for name in self._wanted("dit")]

    @torch.no_grad()  # rather than inference mode, so that probes can be trained on what comes out
    def __call__(
        self,
        video: Float[Tensor, "b 3 T H W"],
        ids: Sequence[int | str] | None = None,
        times: Float[Tensor, "b T"] | None = None,
        prompts: Sequence[str] | None = None,
    ) -> FeatureOutput:
        """Features of clips in [-1, 1], of any length and size that the tokenizer takes.

        ids: one a clip, for its noise; None takes a hash of its pixels. times: of every frame, in seconds; None counts
        frames. prompts: one a clip, that the layers of the denoiser are conditioned on; None takes the extractor's for
        all. Noise that is predicted is the extractor's prompt's in any case. Raises VidgenError for clips that the
        tokenizer or the denoiser's patches cannot take.
        """
        ids = [content_id(clip) for clip in video] if ids is None else list(ids)
        for name, given in (("ids", ids), ("prompts", prompts)):
            if given is not None and len(given) != len(video):
                raise ValueError(f"{len(given)} {name} for {len(video)} clips")
        if times is None:
            times = torch.arange(video.shape[2], dtype=torch.float64).expand(len(video), -1)
        if self._wanted("dit"):
            self._check_size(video)
        features, when = {}, {}
        with evaluating(self.model):
            for key, x in self._walk(video, ids, prompts):
                last = self._last_frames(self._known[parse_key(key)[0]], x.shape[1], video.shape[2])
                if self.pool == FRAME:
                    owner = owners(last, video.shape[2])
                    features[key], when[key] = POOLS["spatial"](x.float())[:, owner.to(x.device)], times[:, last[owner]]
                else:
                    features[key], when[key] = POOLS[self.pool](x.float()), times[:, last]
        return FeatureOutput(features={k: features[k] for k in self.keys}, times={k: when[k] for k in self.keys})

    def _walk(
        self, video: Tensor, ids: Sequence[int | str], prompts: Sequence[str] | None
    ) -> Iterator[tuple[str, Float[Tensor, "b t h w c"]]]:
        """(key, features) of every layer asked for, as the model gets to them."""
        plain, noisy, latents = self._wanted("tokenizer"), self._wanted("dit"), None
        walk = self.tokenizer.iter_features(video.to(device_of(self.tokenizer)))
        for name, x in up_to_last(walk, {*plain, "latents"} if noisy else plain):
            if name == "latents":
                latents = x
            if name in plain:
                key = f"tokenizer.{name}"
                yield key, channels_last(x, self._known[key])
        if noisy:
            yield from self.iter_denoiser_features(latents, ids, prompts)

    def iter_denoiser_features(
        self, latents: Float[Tensor, "b c t h w"], ids: Sequence[int | str], prompts: Sequence[str] | None = None
    ) -> Iterator[tuple[str, Float[Tensor, "b t h w c"]]]:
        """(key, features) of the denoiser's layers for clean latents; with gradients, where those are on."""
        noisy, x0 = self._wanted("dit"), latents.to(device_of(self.denoiser), torch.float32)
        text = self._text_of(ids, prompts)
        draws = self.ensemble if self.noise.random else 1
        drawn = [self.noise(x0, self.noise_levels, ids, draw) for draw in range(draws)]
        for i, level in enumerate(self.noise_levels):
            count = draws if level > 0 else 1  # clean latents are the same in every draw
            yield from self._mean([one[i] for one in drawn[:count]], level, text, noisy)

    def _mean(
        self, noised: list[Tensor], level: float, text: TextEncoding, layers: Sequence[str]
    ) -> Iterator[tuple[str, Float[Tensor, "b t h w c"]]]:
        """(key, features) of the denoiser's layers at a level, averaged over the latents `noised`."""
        total: dict[str, Tensor] = {}
        for x in noised:
            t = level_of(x, level)
            walk = self.denoiser.iter_features(self.model.path.input_scale(expand_level(t, x)) * x, t, text)
            for name, h in up_to_last(walk, layers):
                if len(noised) == 1:
                    yield feature_key(f"dit.{name}", level), h
                else:
                    total[name] = total[name].add_(h) if name in total else h.float().clone()
        for name, h in total.items():
            yield feature_key(f"dit.{name}", level), h / len(noised)

    def _wanted(self, part: str) -> list[str]:
        """The names, within a part of the model, of the layers asked for."""
        return [layer.removeprefix(f"{part}.") for layer in self.layers if layer.startswith(f"{part}.")]

    def _text_of(self, ids: Sequence[int | str], prompts: Sequence[str] | None) -> TextEncoding:
        """Every clip's own prompt, or the extractor's for all."""
        if prompts is not None:
            with torch.no_grad():
                return self.model.text_encoder(list(prompts))
        tokens, mask = self._text.tokens, self._text.mask
        return TextEncoding(tokens=tokens.expand(len(ids), -1, -1), mask=mask.expand(len(ids), -1))

    @cached_property
    def _text(self) -> TextEncoding:
        with torch.no_grad():  # it is no part of what may be trained through `walk_denoiser`
            return self.model.text_encoder([self.prompt])

    def _last_frames(self, info: FeatureInfo, count: int, num_frames: int) -> Tensor:
        """For each of `count` feature frames, the last video frame in it; tokenizers fill up what is cut short."""
        cell, step = self._known["tokenizer.latents"].reduction[0], info.reduction[0]
        # Counted from the end, which all have in common: first frames fill a cell, or stand by themselves.
        ends = -(-(num_frames - 1) // cell) * cell - torch.arange(count).flip(0) * step
        return ends.clamp(0, num_frames - 1)

    def _check_size(self, video: Tensor) -> None:
        """The tokenizer pads to its own multiple; the denoiser's patches must fit what comes out."""
        cell = self._known["tokenizer.latents"].reduction[1:]
        need = next(info.reduction[1:] for info in self.feature_info if info.module == "denoiser")
        size = [-(-pixels // c) * c for pixels, c in zip(video.shape[3:], cell, strict=True)]
        if any(pixels % n for pixels, n in zip(size, need, strict=True)):
            h, w = video.shape[3:]
            raise VidgenError(
                f"clips of {h}x{w} do not fit the denoiser's patches; resize them to a multiple of "
                f"{need[0]}x{need[1]}, or read the tokenizer's layers only"
            )


def find_noise(model: Any, noise: str | Noising, seed: int, prompt: str) -> Noising:
    """What brings a pipeline's latents to a noise level. Raises VidgenError for a name that is not there."""
    if not isinstance(noise, str):
        return noise
    if noise == "random":
        return RandomNoise(path=model.path, seed=seed)
    if noise == "predicted":
        return PredictedNoise(path=model.path, predict=predict_by_denoiser(model, prompt))
    raise VidgenError(f"noise {noise!r} is unknown; choose one of {', '.join(NOISES)}, or give a function")


def list_layers(model: Any) -> list[FeatureInfo]:
    """Every layer of a pipeline or a tokenizer, in the order they are run; all strides in frames and pixels.

    Raises VidgenError for a model that has none.
    """
    tokenizer, denoiser = getattr(model, "vae", model), getattr(model, "transformer", None)
    layers = [replace(info, name=f"tokenizer.{info.name}") for info in getattr(tokenizer, "feature_info", [])]
    cell = next((info.reduction for info in layers if info.name == "tokenizer.latents"), None)
    if cell is None:
        raise VidgenError(f"{type(model).__name__} has no layers; give a pipeline or a tokenizer")
    for info in getattr(denoiser, "feature_info", []):
        stride = tuple(a * b for a, b in zip(info.reduction, cell, strict=True))
        layers.append(replace(info, name=f"dit.{info.name}", reduction=stride))
    return layers


def feature_key(layer: str, noise_level: float | None = None) -> str:
    """Such as "dit.blocks.7@t=0.10": two decimals, or as many as the level has."""
    if noise_level is None:
        return layer
    return f"{layer}@t={max(f'{noise_level:.2f}', f'{noise_level:g}', key=len)}"


def parse_key(key: str) -> tuple[str, float | None]:
    """Tap and noise level (None for layers without one) of a feature key."""
    layer, _, level = key.partition("@t=")
    return layer, float(level) if level else None


def up_to_last(walk: Iterator[tuple[str, Tensor]], wanted: Sequence[str] | set[str]) -> Iterator[tuple[str, Tensor]]:
    """The items of `walk` with wanted names; it is not advanced beyond the last of them."""
    left = set(wanted)
    while left:
        name, x = next(walk)
        if name in left:
            left.remove(name)
            yield name, x


def content_id(clip: Float[Tensor, "3 T H W"]) -> str:
    """A clip's identity where it has no name: a hash of its pixels."""
    return hashlib.sha256(clip.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()


def device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model's parts in evaluation mode, and afterwards each as it was."""
    parts = [model, *(getattr(model, name, None) for name in ("vae", "transformer", "text_encoder"))]
    modules = [m for part in parts if isinstance(part, nn.Module) for m in part.modules() if m.training]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module in modules:
            module.training = True
