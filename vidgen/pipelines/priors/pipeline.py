"""PriorPipeline: a prompt to tokens by a prior, and these to a clip by their tokenizer."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from vidgen.bounds import Count, GuidanceScale, InferenceSteps, check_value
from vidgen.checkpoints.hub import find_model
from vidgen.data.frames import clamp_to_uint8, to_tensor
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import read_json
from vidgen.interfaces import TokenDraws
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
from vidgen.pipelines.components import INDEX_NAME, write_components
from vidgen.pipelines.output import PipelineOutput, check_output_type, convert_frames
from vidgen.pipelines.priors.decoding import Callback, TokenRequest, decode_tokens, generators_of
from vidgen.pipelines.priors.schedule import SCHEDULE_FILE, PriorSchedule, read_prior_schedule
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.samplers.autoregressive.continuous import HeadSampling
from vidgen.tokenizers.encoded import Encoded, latent_size
from vidgen.tokenizers.model import VideoTokenizer


class PriorPipeline:
    """A prior with the tokenizer whose indices or latents it knows, and the text encoder that it reads, if any.

    Raises VidgenError for a prior of other codebooks or channels than the tokenizer's.

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
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        num_diffusion_steps: int | None = None,
        video: UInt8[np.ndarray, "k H W 3"] | None = None,
        num_videos_per_prompt: int = 1,
        seed: int = 0,
        generators: Sequence[torch.Generator] | None = None,
        output_type: str = "np",
        callback: Callback | None = None,
    ) -> PipelineOutput:
        """Return clips of prompts. What is None has the checkpoint's default.

        Raises VidgenError for a prompt to a prior that reads none, and for sizes and settings that cannot be.

        Args:
            prompt: One or several.
            negative_prompt: What guidance leads away from.
            num_frames, height, width: Of the clips, in pixels.
            num_inference_steps: Of a prior that predicts masked tokens; a causal one takes one a token.
            guidance_scale: Of the logits, or of the velocity of continuous tokens; 1 for none.
            temperature, top_k, top_p: How tokens are drawn; continuous ones by their temperature alone.
            num_diffusion_steps: Of the solver that draws a continuous token.
            video: Frames that every clip goes on from, at its size.
            num_videos_per_prompt: Clips of each prompt.
            seed: Of the draws, one stream a clip; `generators` take its place.
            output_type: As of `PipelineOutput`, or "latent".
            callback: Called with the number of tokens, or steps, that are done, and the tokens so far.
        """
        check_output_type(output_type)
        s = self.scheduler
        check_value(num_videos_per_prompt, Count, "num_videos_per_prompt")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        prompts = [text for text in prompts for _ in range(num_videos_per_prompt)]
        if self.text_encoder is None and any(prompts):
            raise VidgenError("this prior reads no text; leave the prompt empty")
        size = (num_frames or s.num_frames, height or s.height, width or s.width)
        scale = s.guidance_scale if guidance_scale is None else guidance_scale
        check_value(scale, GuidanceScale, "guidance_scale")
        steps = num_inference_steps or s.num_inference_steps
        check_value(steps, InferenceSteps, "num_inference_steps")
        request = TokenRequest(
            grid=self.grid_of(size),
            text=None if self.text_encoder is None else self.text_encoder(prompts),
            negative=None if self.text_encoder is None else self.text_encoder([negative_prompt] * len(prompts)),
            scale=scale,
            sampling=self.sampling(temperature, top_k, top_p, num_diffusion_steps, scale),
            generators=generators or generators_of(seed, len(prompts)),
            steps=steps,
            prefix=self.read_prefix(video, size).repeat_interleave(len(prompts), dim=0),
            callback=callback,
        )
        tokens = decode_tokens(self.prior, request)
        return self.finish(tokens, request.grid, size, output_type)

    def sampling(
        self,
        temperature: float | None,
        top_k: int | None,
        top_p: float | None,
        num_diffusion_steps: int | None,
        scale: float,
    ) -> TokenDraws:
        """Return how tokens are drawn. Raises VidgenError for settings that this prior's tokens do not have."""
        s = self.scheduler
        temperature = s.temperature if temperature is None else temperature
        if not self.is_continuous:
            if num_diffusion_steps is not None:
                raise VidgenError(
                    "num_diffusion_steps is for continuous tokens, and this prior's are codes; leave it out"
                )
            filters = {"top_k": top_k or s.top_k, "top_p": s.top_p if top_p is None else top_p}
            return TokenSampling(temperature=temperature, **filters)
        if top_k is not None or top_p is not None:
            raise VidgenError("top_k and top_p are for codes, and this prior's tokens are continuous; use temperature")
        return HeadSampling(
            head=self.prior.head,
            channels=self.prior.config.channels,
            time=s.time_distribution,
            num_diffusion_steps=s.num_diffusion_steps if num_diffusion_steps is None else num_diffusion_steps,
            sampler=s.sampler,
            scale=1.0 if self.text_encoder is None else scale,
            temperature=temperature,
        )

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
        if output_type == "latent":
            return PipelineOutput(frames=None, latents=latents, fps=self.scheduler.fps)
        names = dict(zip(("num_frames", "height", "width"), size, strict=True))
        clips = list(clamp_to_uint8(self.vae.decode(Encoded(latents=latents, **names))))
        return PipelineOutput(frames=convert_frames(clips, output_type), latents=latents, fps=self.scheduler.fps)

    @property
    def components(self) -> dict[str, Any]:
        """The parts by name, those that are there."""
        parts = {"vae": self.vae, "prior": self.prior, "text_encoder": self.text_encoder}
        return {name: part for name, part in parts.items() if part is not None}

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Write the whole pipeline: model_index.json and a folder a component, all or nothing."""
        with write_components(folder, type(self).__name__, self.components, dtype) as target:
            file = target / SCHEDULE_FILE
            file.parent.mkdir()
            values = {"_class_name": PriorSchedule.__name__, **asdict(self.scheduler)}
            file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike, *, dtype: torch.dtype | None = torch.float32, device: str = "cpu"
    ) -> PriorPipeline:
        """Return the pipeline of a folder. Raises VidgenError if it is not whole, or of another class."""
        folder = find_model(str(name))
        index = read_json(folder / INDEX_NAME)
        if index.get("_class_name") != cls.__name__:
            raise VidgenError(f"{folder} holds a {index.get('_class_name')}, and a prior is wanted")
        settings = {"dtype": dtype, "device": device}
        parts = {
            "vae": VideoTokenizer.from_pretrained(folder / "vae", **settings),
            "prior": TokenPrior.from_pretrained(folder / "prior", **settings),
            "text_encoder": None,
        }
        if "text_encoder" in index:
            parts["text_encoder"] = ByteTextEncoder.from_pretrained(folder / "text_encoder", **settings)
        return cls(**parts, scheduler=read_prior_schedule(folder))
