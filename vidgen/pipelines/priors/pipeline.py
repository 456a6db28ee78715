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
from jaxtyping import Int, UInt8
from torch import Tensor

from vidgen.bounds import Count, GuidanceScale, InferenceSteps, check_value
from vidgen.checkpoints.hub import find_model
from vidgen.data.frames import clamp_to_uint8, to_tensor
from vidgen.errors import VidgenError
from vidgen.files.bounded_files import read_json
from vidgen.models.attention_patterns import Grid
from vidgen.models.placement import device_of, dtype_of
from vidgen.models.priors.token_grid import flatten_indices, join_digits, split_digits, unflatten_tokens
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.text.encoders import ByteTextEncoder
from vidgen.pipelines.components import INDEX_NAME, write_components
from vidgen.pipelines.output import PipelineOutput, check_output_type, convert_frames
from vidgen.pipelines.priors.decoding import Callback, TokenRequest, decode_tokens, generators_of
from vidgen.pipelines.priors.schedule import SCHEDULE_FILE, PriorSchedule, read_prior_schedule
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.tokenizers.encoded import latent_size
from vidgen.tokenizers.files.token_files import tokenizer_hash
from vidgen.tokenizers.model import VideoTokenizer


class PriorPipeline:
    """A prior with the tokenizer whose indices it knows, and the text encoder that it reads, if it reads any.

    Raises VidgenError for a prior of another tokenizer's indices, or of other codebooks.

    Args:
        vae: The tokenizer.
        prior: The law of its indices.
        text_encoder: Prompts to tokens, or None.
        scheduler: The defaults of a call.
    """

    def __init__(
        self, vae: VideoTokenizer, prior: TokenPrior, text_encoder: ByteTextEncoder | None, scheduler: PriorSchedule
    ) -> None:
        codebook, sizes = vae.bottleneck, prior.config.codebook_sizes
        quantizers = getattr(codebook, "quantizers", None)
        self.has_digits = quantizers is None and len(sizes) > 1
        expected = getattr(codebook, "codebook_size", None)
        own = int(np.prod(sizes)) if self.has_digits else sizes[0]
        if own != expected or (quantizers or 1) != (1 if self.has_digits else len(sizes)):
            raise VidgenError(f"a prior over codebooks of {sizes} is not for the tokenizer {vae.config.name}")
        indices_of = prior.config.tokenizer_hash
        if indices_of and (own_hash := tokenizer_hash(vae)) != indices_of:
            raise VidgenError(
                f"a prior over indices of the tokenizer {indices_of[:12]} is not for {vae.config.name} "
                f"({own_hash[:12]}); name the tokenizer that it was trained on"
            )
        self.vae, self.prior, self.text_encoder, self.scheduler = vae, prior, text_encoder, scheduler

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
            guidance_scale: Of the logits, 1 for none.
            temperature, top_k, top_p: How tokens are drawn.
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
            sampling=TokenSampling(
                temperature=s.temperature if temperature is None else temperature,
                top_k=top_k or s.top_k,
                top_p=s.top_p if top_p is None else top_p,
            ),
            generators=generators or generators_of(seed, len(prompts)),
            steps=steps,
            prefix=self.read_prefix(video, size).expand(len(prompts), -1),
            callback=callback,
        )
        tokens = decode_tokens(self.prior, request)
        return self.finish(tokens, request.grid, size, output_type)

    def grid_of(self, size: tuple[int, int, int]) -> Grid:
        """Return the cells (t, h, w) of clips of `size` (frames, height, width)."""
        rows, columns = latent_size(*size[1:], self.vae.config.spatial_compression_ratio)
        return self.vae.latent_frames(size[0]), rows, columns

    def tokens_of(self, indices: Tensor) -> Int[Tensor, "b n"]:
        """Return the tokens of the tokenizer's indices."""
        return flatten_indices(split_digits(indices, self.prior.config.codebook_sizes) if self.has_digits else indices)

    def indices_of(self, tokens: Int[Tensor, "b n"], grid: Grid) -> Tensor:
        """Return the tokenizer's indices of tokens."""
        indices = unflatten_tokens(tokens, grid, self.prior.config.codes)
        return join_digits(indices, self.prior.config.codebook_sizes) if self.has_digits else indices

    def read_prefix(self, video: UInt8[np.ndarray, "k H W 3"] | None, size: tuple[int, int, int]) -> Int[Tensor, "1 p"]:
        """Return the tokens of the latent frames that a video fills. Raises VidgenError for one of another size."""
        device = device_of(self.prior)
        if video is None:
            return torch.zeros(1, 0, dtype=torch.int64, device=device)
        if len(video) > size[0] or video.shape[1:3] != size[1:]:
            raise VidgenError(f"a video of {video.shape[:3]} frames, height and width does not begin a clip of {size}")
        ratio = self.vae.config.temporal_compression_ratio
        whole = video[: 1 + (len(video) - 1) // ratio * ratio]
        indices = self.vae.encode(to_tensor(whole)[None].to(device_of(self.vae), dtype_of(self.vae))).indices
        return self.tokens_of(indices.to(device))

    def finish(
        self, tokens: Int[Tensor, "b n"], grid: Grid, size: tuple[int, int, int], output_type: str
    ) -> PipelineOutput:
        """Return the clips of tokens."""
        indices = self.indices_of(tokens, grid)
        latents = self.vae.latents_from_indices(indices.to(device_of(self.vae)))
        if output_type == "latent":
            return PipelineOutput(frames=None, latents=latents, fps=self.scheduler.fps)
        names = dict(zip(("num_frames", "height", "width"), size, strict=True))
        clips = list(clamp_to_uint8(self.vae.decode_indices(indices.to(device_of(self.vae)), **names)))
        return PipelineOutput(frames=convert_frames(clips, output_type), latents=latents, fps=self.scheduler.fps)

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
