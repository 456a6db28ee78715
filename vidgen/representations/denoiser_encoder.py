"""A pipeline's denoiser as an encoder: features of its blocks for clips brought to noise levels."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.diffusion.paths import expand_level
from vidgen.errors import VidgenError
from vidgen.interfaces import Pipeline
from vidgen.models.dit.label_embedding import TEXT_TO_VIDEO, task_labels
from vidgen.models.feature_layers import FeatureInfo, FeatureMixin
from vidgen.models.placement import device_of
from vidgen.models.text.encoders import TextEncoding
from vidgen.representations.feature_keys import feature_key
from vidgen.representations.noising import Noising, PredictedNoise, RandomNoise, level_of, predict_by_denoiser

NOISES = ("random", "predicted")


class DenoiserEncoder(FeatureMixin):
    """The blocks of a pipeline's denoiser, read at noise levels; an `Encoder` of clips.

    Its layers are "blocks.<i>@t=<level>", every block at the first level, then at the next. Their reductions are in
    frames and pixels of the clip.

    Args:
        pipe: the pipeline whose tokenizer, denoiser, text encoder and path are used.
        noise_levels: in [0, 1]; 0 is the clean latents.
        seed: the noise of a clip is a function of (seed, id) alone, the same for every layer and level.
        prompt: the text that the denoiser is conditioned on; "" is the null condition.
        noise: "random", "predicted" (by the denoiser itself, see `predict_by_denoiser`), or any `Noising`.
        ensemble: features are the mean over so many draws of random noise (Tang et al. 2023, DIFT, section 4.2).

    Raises VidgenError for a level outside [0, 1], an unknown noise, and an ensemble of none.
    """

    def __init__(
        self,
        pipe: Pipeline,
        noise_levels: Sequence[float] = (0.1,),
        *,
        seed: int = 0,
        prompt: str = "",
        noise: str | Noising = "random",
        ensemble: int = 1,
    ) -> None:
        check_noise(noise_levels, ensemble)
        self.pipe = pipe
        self.noise_levels = [float(level) for level in dict.fromkeys(noise_levels)]
        self.prompt = prompt
        self.noise = make_noising(pipe, noise, seed, prompt)
        self.ensemble = ensemble

    @property
    def blocks(self) -> list[FeatureInfo]:
        """The denoiser's layers, whatever the level, with reductions in frames and pixels."""
        (cell,) = [info.reduction for info in self.pipe.vae.feature_info if info.name == "latents"]
        return [
            replace(info, reduction=tuple(a * b for a, b in zip(info.reduction, cell, strict=True)))
            for info in self.pipe.transformer.feature_info
        ]

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """Every block at every level."""
        return [replace(info, name=feature_key(info.name, t)) for t in self.noise_levels for info in self.blocks]

    def iter_features(self, video: Float[Tensor, "b 3 T H W"]) -> Iterator[tuple[str, Float[Tensor, "b t h w c"]]]:
        """Yield (name, features) of every block at every level; a clip's noise is that of its pixels' hash."""
        latents = self.pipe.vae.encode(video.to(device_of(self.pipe.vae))).latents
        yield from self.iter_latents(latents, [content_id(clip) for clip in video])

    def iter_latents(
        self,
        latents: Float[Tensor, "b c t h w"],
        ids: Sequence[int | str],
        prompts: Sequence[str] | None = None,
        blocks: Collection[str] | None = None,
    ) -> Iterator[tuple[str, Float[Tensor, "b t h w c"]]]:
        """Yield (name, features) for clean latents, of all blocks or of `blocks`; nothing runs beyond the last of them.

        ids: one a clip, for its noise. prompts: one a clip; None takes the encoder's for all. Gradients flow where
        they are on.
        """
        x0 = latents.to(device_of(self.pipe.transformer), torch.float32)
        text = self._encode_prompts(len(ids), prompts)
        names = [info.name for info in self.blocks] if blocks is None else blocks
        count = self.ensemble if self.noise.random else 1
        draws = [self.noise(x0, self.noise_levels, ids, draw) for draw in range(count)]
        for i, level in enumerate(self.noise_levels):
            used = draws if level > 0 else draws[:1]  # clean latents are the same in every draw
            for name, h in self._average([draw[i] for draw in used], level, text, names):
                yield feature_key(name, level), h

    def _average(
        self, noised: Sequence[Tensor], level: float, text: TextEncoding, blocks: Collection[str]
    ) -> Iterator[tuple[str, Float[Tensor, "b t h w c"]]]:
        """Yield (block, features) at a level, averaged over the latents `noised`."""
        total: dict[str, Tensor] = {}
        labels = task_labels(self.pipe.transformer, [TEXT_TO_VIDEO] * len(noised[0]))
        for x in noised:
            t = level_of(x, level)
            inputs = self.pipe.path.input_scale(expand_level(t, x)) * x
            for name, h in up_to_last(self.pipe.transformer.iter_features(inputs, t, text, **labels), blocks):
                if len(noised) == 1:
                    yield name, h
                else:
                    total[name] = total[name].add_(h) if name in total else h.float().clone()
        for name, h in total.items():
            yield name, h / len(noised)

    def _encode_prompts(self, count: int, prompts: Sequence[str] | None) -> TextEncoding:
        """Return every clip's own prompt, or the encoder's for all `count`."""
        if prompts is not None:
            with torch.no_grad():
                return self.pipe.text_encoder(list(prompts))
        tokens, mask = self._text.tokens, self._text.mask
        return TextEncoding(tokens=tokens.expand(count, -1, -1), mask=mask.expand(count, -1))

    @cached_property
    def _text(self) -> TextEncoding:
        with torch.no_grad():  # it is no part of what may be trained through `iter_latents`
            return self.pipe.text_encoder([self.prompt])


def check_noise(noise_levels: Sequence[float], ensemble: int) -> None:
    """Raise VidgenError for a level outside [0, 1] and for an ensemble of no draws."""
    if bad := [level for level in noise_levels if not 0.0 <= level <= 1.0]:
        raise VidgenError(f"noise level {bad[0]} is outside [0, 1]; 0 is clean and 1 pure noise")
    if ensemble < 1:
        raise VidgenError(f"an ensemble of {ensemble} draws is none; give 1 or more")


def make_noising(pipe: Pipeline, noise: str | Noising, seed: int, prompt: str) -> Noising:
    """Return what brings a pipeline's latents to a noise level. Raises VidgenError for an unknown name."""
    if not isinstance(noise, str):
        return noise
    if noise == "random":
        return RandomNoise(path=pipe.path, seed=seed)
    if noise == "predicted":
        return PredictedNoise(path=pipe.path, predict=predict_by_denoiser(pipe, prompt))
    raise VidgenError(f"noise {noise!r} is unknown; choose one of {', '.join(NOISES)}, or give a function")


def up_to_last(features: Iterator[tuple[str, Tensor]], names: Collection[str]) -> Iterator[tuple[str, Tensor]]:
    """Yield the items of `features` with those names; it is not advanced beyond the last of them."""
    left = set(names)
    while left:
        name, x = next(features)
        if name in left:
            left.remove(name)
            yield name, x


def content_id(clip: Float[Tensor, "3 T H W"]) -> str:
    """Return a clip's identity where it has no name: a hash of its pixels."""
    return hashlib.sha256(clip.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()
