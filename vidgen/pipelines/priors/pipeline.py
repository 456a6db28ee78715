"""PriorPipeline: a prompt to tokens by a prior, and these to a clip by their tokenizer."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vidgen.data.frames import to_tensor
from vidgen.errors import VidgenError
from vidgen.models.attention_patterns import Grid
from vidgen.models.placement import device_of, dtype_of
from vidgen.models.priors.token_grid import (
    flatten_indices,
    flatten_latents,
    join_digits,
    split_digits,
    unflatten_latents,
    unflatten_tokens,
)
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import Tokens
from vidgen.models.text.encoders import ByteTextEncoder
from vidgen.pipelines.call_arguments import check_numbers, read_generators
from vidgen.pipelines.components import open_components, write_components
from vidgen.pipelines.output import PipelineOutput, check_output_type, convert_frames, decode_clips
from vidgen.pipelines.priors.conditions import read_actions, read_classes, read_texts
from vidgen.pipelines.priors.decoding import Callback, TokenRequest, count_steps, decode_tokens
from vidgen.pipelines.priors.schedule import SCHEDULE_FILE, PriorSchedule, read_prior_schedule
from vidgen.pipelines.priors.token_draws import read_draws
from vidgen.pipelines.priors.words import check_call, join_words
from vidgen.samplers.autoregressive.guidance import Interval
from vidgen.samplers.masked.maskgit import MaskGITConfig
from vidgen.tokenizers.encoded import latent_size
from vidgen.tokenizers.files.token_files import tokenizer_hash
from vidgen.tokenizers.model import VideoTokenizer


class PriorPipeline:
    """A prior with the tokenizer whose indices or latents it knows, and the text encoder that it reads, if any.

    Raises VidgenError for a prior of another tokenizer's indices, or of other codebooks or channels.

    Args:
        vae: The tokenizer.
        prior: The law of its indices, or of its latents.
        text_encoder: Prompts to tokens, or None.
        scheduler: The defaults of a call.
    """

    def __init__(
        self, vae: VideoTokenizer, prior: TokenPrior, text_encoder: ByteTextEncoder | None, scheduler: PriorSchedule
    ) -> None:
        self.vae, self.prior, self.text_encoder, self.scheduler = vae, prior, text_encoder, scheduler
        self.is_continuous = prior.config.channels > 0
        self.check_tokens()

    def check_tokens(self) -> None:
        """Raise VidgenError for a prior of other tokens than the tokenizer's; see whether they are digits."""
        vae, prior = self.vae, self.prior
        known = prior.config.tokenizer_hash
        if known and (own_hash := tokenizer_hash(vae)) != known:
            raise VidgenError(
                f"a prior over tokens of the tokenizer {known[:12]} is not for {vae.config.name} ({own_hash[:12]}); "
                "name the tokenizer that it was trained on"
            )
        if self.is_continuous:
            self.has_digits = False
            if prior.config.channels != vae.config.latent_channels:
                raise VidgenError(
                    f"a prior over latents of {prior.config.channels} channels is not for the tokenizer "
                    f"{vae.config.name}, which has {vae.config.latent_channels}"
                )
            return
        codebook, sizes = vae.bottleneck, prior.config.codebook_sizes
        quantizers = getattr(codebook, "quantizers", None)
        self.has_digits = quantizers is None and len(sizes) > 1
        expected = getattr(codebook, "codebook_size", None)
        own = int(np.prod(sizes)) if self.has_digits else sizes[0]
        if own != expected or (quantizers or 1) != (1 if self.has_digits else len(sizes)):
            raise VidgenError(f"a prior over codebooks of {sizes} is not for the tokenizer {vae.config.name}")

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str] = "",
        *,
        negative_prompt: str = "",
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_interval: Interval | None = None,
        decoder: str = "",
        masking: MaskGITConfig | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        image: UInt8[np.ndarray, "H W 3"] | None = None,
        num_diffusion_steps: int | None = None,
        video: UInt8[np.ndarray, "k H W 3"] | None = None,
        actions: Float[np.ndarray, "b T a"] | None = None,
        class_id: int | Sequence[int] | None = None,
        num_videos_per_prompt: int = 1,
        seed: int = 0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "np",
        callback_on_step_end: Callback | None = None,
    ) -> PipelineOutput:
        """Return clips of prompts. What is None has the checkpoint's default.

        A clip longer than those of training is made in a window that rolls on, one latent frame at a time.
        Raises VidgenError for a prompt to a prior that reads none, for a longer clip from one that knows all of a clip
        at once, and for sizes and settings that cannot be.

        Args:
            prompt: One or several.
            negative_prompt: What guidance leads away from.
            num_frames, height, width: Of the clips, in pixels.
            num_inference_steps: Of a prior that predicts masked tokens; a causal one takes one a token.
            guidance_scale: Of the logits, or of the velocity of continuous tokens; 1 for none.
            guidance_interval: Guidance of codes acts where the share of tokens that are done, 0 to 1, lies in it (not
                noise levels, as of denoisers): of a clip's tokens, of order "frames" of each latent frame's.
            decoder: One of `decoding.DECODERS` of the prior's order; empty is the usual one.
            masking: Schedule, order, choice temperature and revision of the decoder maskgit; its steps are
                `num_inference_steps`.
            temperature, top_k, top_p, min_p, repetition_penalty: How tokens are drawn, see `TokenSampling`; continuous
                ones by their temperature alone. Repeated are ids of any codebook, of order "frames" within a frame.
            num_diffusion_steps: Of the solver that draws a continuous token.
            image, video: The first frame of every clip, or frames that it goes on from, at its size.
            actions: Of the clips of each prompt, what leads into each frame; for a prior that was trained with them.
            class_id: Of all prompts, or of each; for a prior with classes, whose number stands for none.
            num_videos_per_prompt: Clips of each prompt.
            seed: Of the draws, one stream a clip; `generator`, one a clip or one for all, takes its place.
            output_type: As of `PipelineOutput`, or "latent".
            callback_on_step_end: Called as (step, tokens), after each of the `steps_of` a clip.
        """
        check_output_type(output_type)
        s = self.scheduler
        check_numbers(num_frames=num_frames, height=height, width=width, num_videos_per_prompt=num_videos_per_prompt)
        check_numbers(num_inference_steps=num_inference_steps, guidance_scale=guidance_scale)
        misfits = {"guidance_scale": guidance_scale, "guidance_interval": guidance_interval}
        misfits |= {"negative_prompt": negative_prompt, "repetition_penalty": repetition_penalty}
        check_call(self.prior.config, misfits)
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        generators = read_generators(generator, seed, len(prompts), num_videos_per_prompt)
        prompts = [text for text in prompts for _ in range(num_videos_per_prompt)]
        text, negative = read_texts(self.prior, self.text_encoder, prompts, negative_prompt)
        if image is not None and video is not None:
            raise VidgenError("an image and a video both say how the clip begins; give one of them")
        size = (num_frames or s.num_frames, height or s.height, width or s.width)
        if self.prior.config.words and size[1:] != (s.height, s.width):
            raise VidgenError(f"a prior with words makes clips of {s.height}x{s.width}, as in training, alone")
        grid = self.grid_of(size)
        prefix = self.read_prefix(video if image is None else image[None], size).repeat_interleave(len(prompts), dim=0)
        prefix, whole = join_words(self.prior.config, prompts, prefix, grid)
        scale = s.guidance_scale if guidance_scale is None else guidance_scale
        scale = scale if self.text_encoder is not None else 1.0  # there is nothing to lead away from
        filters = {"top_k": top_k, "top_p": top_p, "min_p": min_p, "repetition_penalty": repetition_penalty}
        filters |= {"temperature": temperature, "num_diffusion_steps": num_diffusion_steps}
        told = self.read_conditions(actions, class_id, len(prompts) // num_videos_per_prompt, size[0])
        request = TokenRequest(
            grid=whole,
            usual_frames=self.vae.latent_frames(s.num_frames),
            words=self.prior.config.words,
            text=text,
            negative=negative,
            scale=scale,
            interval=guidance_interval,
            sampling=read_draws(self.prior, s, scale, **filters),
            generators=generators,
            steps=num_inference_steps or s.num_inference_steps,
            decoder=decoder,
            masking=masking,
            prefix=prefix,
            callback=callback_on_step_end,
            conditions={name: x.repeat_interleave(num_videos_per_prompt, dim=0) for name, x in told.items()},
        )
        tokens = decode_tokens(self.prior, request)[:, self.prior.config.words :]
        return self.finish(tokens, grid, size, output_type)

    def read_conditions(
        self,
        actions: Float[np.ndarray, "b T a"] | None,
        class_id: int | Sequence[int] | None,
        prompts: int,
        num_frames: int,
    ) -> dict[str, Tensor]:
        """Return what the prior is told of each prompt beside its text. Raises as `read_actions` and `read_classes`."""
        told = read_actions(self.prior, actions, prompts, num_frames, self.vae.config.temporal_compression_ratio)
        return told | read_classes(self.prior, class_id, prompts)

    def grid_of(self, size: tuple[int, int, int]) -> Grid:
        """Return the cells (t, h, w) of clips of `size` (frames, height, width)."""
        rows, columns = latent_size(*size[1:], self.vae.config.spatial_compression_ratio)
        return self.vae.latent_frames(size[0]), rows, columns

    def tokens_of(self, indices: Tensor) -> Tokens:
        """Return the tokens of the tokenizer's indices; of latents, where tokens are continuous."""
        if self.is_continuous:
            return flatten_latents(indices)
        return flatten_indices(split_digits(indices, self.prior.config.codebook_sizes) if self.has_digits else indices)

    def indices_of(self, tokens: Int[Tensor, "b n"], grid: Grid) -> Tensor:
        """Return the tokenizer's indices of tokens."""
        indices = unflatten_tokens(tokens, grid, self.prior.config.codes)
        return join_digits(indices, self.prior.config.codebook_sizes) if self.has_digits else indices

    def read_prefix(self, video: UInt8[np.ndarray, "k H W 3"] | None, size: tuple[int, int, int]) -> Tokens:
        """Return the tokens of the latent frames that a video fills. Raises VidgenError for one of another size."""
        device = device_of(self.prior)
        if video is None:
            return self.prior.unknown(1, 0)
        if len(video) > size[0] or video.shape[1:3] != size[1:]:
            raise VidgenError(f"a video of {video.shape[:3]} frames, height and width does not begin a clip of {size}")
        ratio = self.vae.config.temporal_compression_ratio
        whole = video[: 1 + (len(video) - 1) // ratio * ratio]
        encoded = self.vae.encode(to_tensor(whole)[None].to(device_of(self.vae), dtype_of(self.vae)))
        if self.is_continuous:
            return self.tokens_of(encoded.latents.to(device, dtype_of(self.prior)))
        return self.tokens_of(encoded.indices.to(device))

    def finish(self, tokens: Tokens, grid: Grid, size: tuple[int, int, int], output_type: str) -> PipelineOutput:
        """Return the clips of tokens."""
        tokens = tokens.to(device_of(self.vae))
        if self.is_continuous:
            latents = unflatten_latents(tokens, grid)
        else:
            latents = self.vae.latents_from_indices(self.indices_of(tokens, grid))
        clips = None if output_type == "latent" else convert_frames(self.decode(latents, *size), output_type)
        return PipelineOutput(frames=clips, latents=latents, fps=self.scheduler.fps)

    def decode(
        self, latents: Float[Tensor, "b c t h w"], num_frames: int, height: int, width: int
    ) -> list[UInt8[np.ndarray, "t H W 3"]]:
        """Return the clips of latents, cropped to their size."""
        return decode_clips(self.vae, latents, num_frames, height, width)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the shape (c, t, h, w) of a clip's latents."""
        return (self.vae.config.latent_channels, *self.grid_of((num_frames, height, width)))

    def steps_of(self, size: tuple[int, int, int], num_inference_steps: int | None = None, decoder: str = "") -> int:
        """Return after how many steps a clip of `size` is there."""
        steps = num_inference_steps or self.scheduler.num_inference_steps
        return count_steps(self.prior, self.grid_of(size), steps, decoder)

    @property
    def components(self) -> dict[str, Any]:
        """The parts by name, those that are there."""
        parts = {"vae": self.vae, "prior": self.prior, "text_encoder": self.text_encoder}
        return {name: part for name, part in parts.items() if part is not None}

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Write the whole pipeline: model_index.json and a folder a component, all or nothing. The prior's config says
        whose indices it is over."""
        vae = self.vae if dtype is None else copy.deepcopy(self.vae).to(dtype)  # as it will be loaded
        prior = copy.copy(self.prior)  # shares the weights
        prior.config = replace(prior.config, tokenizer_hash=tokenizer_hash(vae))
        with write_components(folder, type(self).__name__, self.components | {"prior": prior}, dtype) as target:
            file = target / SCHEDULE_FILE
            file.parent.mkdir()
            values = {"_class_name": PriorSchedule.__name__, **asdict(self.scheduler)}
            file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike, *, dtype: torch.dtype | None = torch.float32, device: str = "cpu"
    ) -> PriorPipeline:
        """Return the pipeline of a folder. Raises VidgenError if it is not whole, or of another class."""
        folder, index = open_components(name, cls.__name__, "a prior")
        settings = {"dtype": dtype, "device": device}
        as_hashed = settings | {"dtype": torch.float32}
        parts = {
            "vae": VideoTokenizer.from_pretrained(folder / "vae", **as_hashed),
            "prior": TokenPrior.from_pretrained(folder / "prior", **settings),
            "text_encoder": None,
        }
        if "text_encoder" in index:
            parts["text_encoder"] = ByteTextEncoder.from_pretrained(folder / "text_encoder", **settings)
        pipe = cls(**parts, scheduler=read_prior_schedule(folder))
        pipe.vae.to(dtype)
        return pipe
