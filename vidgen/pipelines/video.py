"""VideoPipeline: prompt in, clips out; tokenizer, denoiser, text encoder and schedule from one folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.checkpoints.atomic import atomic_write
from vidgen.diffusion.denoiser import Denoiser
from vidgen.diffusion.noise import TimeDistribution, draw_per_sample, sample_generator
from vidgen.errors import VidgenError
from vidgen.interfaces import TextEncoder
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.ip_adapter import IPAdapterEncoder
from vidgen.models.text.cache import find_text_cache
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.samplers.conditioning.frames import Image, Mask, Video, read_conditions
from vidgen.samplers.conditioning.inpainting import Conditions, hide_frames, sample_given
from vidgen.samplers.conditioning.ip_adapter import Reference, encode_reference, prompts_with
from vidgen.samplers.guidance.batched_guidance import View
from vidgen.samplers.guidance.guided_denoiser import GuidedDenoiser, encode_prompts
from vidgen.samplers.guidance.registry import Guidance, read_guidance
from vidgen.samplers.solvers import SAMPLERS
from vidgen.samplers.stages import check_stage
from vidgen.samplers.step_cache import Caching

INDEX_NAME = "model_index.json"


@dataclass(frozen=True, kw_only=True)
class PipelineOutput:
    """`frames`: one uint8 array (T, H, W, 3) a clip, or None where only latents were asked for; `latents`; `fps`."""

    frames: list[UInt8[np.ndarray, "t h w 3"]] | None
    latents: Float[Tensor, "b c t h w"]
    fps: float


class VideoPipeline:
    """Text to video. `vae` is a tokenizer, `transformer` a denoising network, `text_encoder` maps prompts to tokens,
    and `image_prompt`, where there is one, pictures to tokens beside them.

    `text_cache` keeps encoded prompts on disk, if the encoder is large; set another, or None for none.
    `scheduler` is a SchedulerConfig, or what stands in its place for a published model: a PublishedSchedule.
    """

    def __init__(
        self,
        vae: Any,
        transformer: VideoDiT,
        text_encoder: TextEncoder,
        scheduler: Any,
        image_prompt: IPAdapterEncoder | None = None,
    ) -> None:
        self.vae, self.transformer, self.text_encoder, self.scheduler = vae, transformer, text_encoder, scheduler
        self.image_prompt = image_prompt
        self.text_cache = find_text_cache(text_encoder)
        self.path = scheduler.make_path()

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str = "",
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance: str | Guidance = "cfg",
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        guidance_rescale: float | None = None,
        guidance_passes: str | None = None,
        caching: Caching | None = None,
        sampler: str | Callable[..., Tensor] | None = None,
        num_videos_per_prompt: int = 1,
        seed: int = 0,
        generator: Sequence[torch.Generator] | None = None,
        latents: Float[Tensor, "b c t h w"] | None = None,
        reference: Reference | None = None,
        image: Image | None = None,
        last_image: Image | None = None,
        video: Video | None = None,
        frames: Mapping[int, Image] | None = None,
        mask: Mask | None = None,
        strength: float | None = None,
        given: Conditions | None = None,
        output_type: str = "np",
        callback_on_step_end: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> PipelineOutput:
        """Generates `num_videos_per_prompt` clips for each prompt; arguments left out take the checkpoint's defaults.

        Clip k of a prompt is a function of (seed, k) and the prompt alone, whatever else is in the batch; `generator`,
        one a clip, takes the place of the seed. `latents` replaces the first noise, and leaves what stochastic samplers
        draw later as it is; `output_type` "latent" skips decoding. `callback_on_step_end(step, x, x0)` may raise to
        stop. `image` to `strength` say what is known of the clips: see `read_conditions`; `given` says it in latents.
        `reference`, a picture or several, shows what the prompt's words leave open: none of the clip's frames, but what
        is in them should look like it. All clips of a call share it; the negative prompt stands without it.
        `guidance` is one of GUIDANCE, or a whole `Guidance`; `guidance_scale` to `guidance_passes` replace its fields.
        `sampler` is one of SAMPLERS, or a function like those, such as `scheduler_solver` gives. `caching` skips passes
        that little has changed since, and counts them.
        Raises VidgenError for sizes that the model cannot make, unknown samplers and guidance, prompts too long, and a
        reference where there is no `image_prompt` to read it.
        """
        s = self.scheduler
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        size = (num_frames or s.num_frames, height or s.height, width or s.width)
        sampler = sampler or s.sampler
        if not callable(sampler) and sampler not in SAMPLERS:
            raise VidgenError(f"sampler {sampler!r} is unknown; choose one of {', '.join(SAMPLERS)}")
        if output_type not in ("np", "latent"):
            raise VidgenError(f"output_type {output_type!r} is unknown; choose 'np' or 'latent'")
        if not prompts or num_videos_per_prompt < 1:
            raise VidgenError("nothing to generate: give a prompt, and num_videos_per_prompt of 1 or more")
        said = {"interval": guidance_interval, "rescale": guidance_rescale, "passes": guidance_passes}
        guidance = read_guidance(guidance, scale=guidance_scale, **said)
        shape = self.latent_shape(*size)
        shown = None
        if reference is not None:
            shown = encode_reference(self.image_prompt, self.vae, reference, (s.height, s.width))
        rows = [p for p in prompts for _ in range(num_videos_per_prompt)]
        if generator is None:
            generator = [sample_generator(seed, k) for _ in prompts for k in range(num_videos_per_prompt)]
        elif len(generator) != len(rows):
            raise VidgenError(f"{len(generator)} generators for {len(rows)} clips; give one a clip")
        drawn = draw_per_sample(shape, generator)  # also where it is not used, so that later noise is not the first
        latents = drawn if latents is None else check_stage(latents, "the latents given hold", "start from others")
        if tuple(latents.shape) != (len(rows), *shape):
            raise VidgenError(f"latents are {tuple(latents.shape)}, {len(rows)} clips of {shape} are asked for")
        pixels = {"image": image, "last_image": last_image, "video": video, "frames": frames, "mask": mask}
        given = read_conditions(self.vae, size, **pixels, strength=strength, given=given)
        steps = s.num_inference_steps if num_inference_steps is None else num_inference_steps
        times = self.time_for(shape).steps(steps)
        latents = latents.to(next(self.transformer.parameters()).device)
        hide = hide_frames(given, latents, times[0], self.path)
        tokens = self.tokens_of(shape) * shape[1]
        denoise = self.denoiser(rows, negative_prompt, guidance, tokens, hide, caching, shown)
        streams = {"generator": generator, "callback": callback_on_step_end}
        solver = sampler if callable(sampler) else SAMPLERS[sampler]
        latents = sample_given(solver, denoise, latents, times, self.path, given, **streams)
        latents = latents[:, :, -self.latent_frames(size[0]) :]
        clips = self.decode(latents, *size) if output_type == "np" else None
        return PipelineOutput(frames=clips, latents=latents.cpu(), fps=s.fps)

    def denoiser(
        self,
        prompts: Sequence[str],
        negative_prompt: str,
        guidance: Guidance,
        tokens: int,
        hide: View | None = None,
        caching: Caching | None = None,
        shown: Float[Tensor, "n d"] | None = None,
    ) -> Denoiser:
        """The guided denoiser for these prompts, of clips that have `tokens` each, with what `encode_reference` made of
        pictures. Raises VidgenError for a negative prompt where guidance leads away from something else."""
        if negative_prompt and "uncond" not in guidance.method.others:
            raise VidgenError(f"guidance {guidance.name!r} does not lead away from a prompt; leave negative_prompt out")
        prompting = GuidedDenoiser(
            network=self.transformer,
            path=self.path,
            prediction_type=self.scheduler.prediction_type,
            text=prompts_with(shown, encode_prompts(self.text_encoder, prompts, self.text_cache)),
            negative=cache(
                lambda: encode_prompts(self.text_encoder, [negative_prompt] * len(prompts), self.text_cache)
            ),
            hide=hide,
            caching=caching,
        )
        scale = self.scheduler.guidance_scale if guidance.scale is None else guidance.scale
        return prompting.guided(guidance, scale, tokens)

    def unguided(self, prompts: Sequence[str]) -> Denoiser:
        """The denoiser for these prompts alone: one pass of the network."""
        return self.denoiser(prompts, "", Guidance(scale=1.0), tokens=0)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(c, t, h, w) of one clip's latents as they are sampled: where a patch holds several latent frames, some more
        stand before them to fill the first one, and are dropped in the end.

        Raises VidgenError for a size that tokenizer and patch cannot make.
        """
        config = self.vae.config
        multiple = config.spatial_compression_ratio * self.transformer.config.patch[1]
        if num_frames < 1:
            raise VidgenError(f"num_frames is {num_frames}; it must be 1 or more")
        for axis, value in (("height", height), ("width", width)):
            if value < multiple or value % multiple:
                near = max(multiple, round(value / multiple) * multiple)
                raise VidgenError(f"{axis} {value} is not a multiple of {multiple}, which this model needs; try {near}")
        t = self.latent_frames(num_frames)
        t += -t % self.transformer.config.patch[0]
        return (
            config.latent_channels,
            t,
            height // config.spatial_compression_ratio,
            width // config.spatial_compression_ratio,
        )

    def latent_frames(self, num_frames: int) -> int:
        """The latent frames that the tokenizer has for so many frames."""
        return 1 + -(-(num_frames - 1) // self.vae.config.temporal_compression_ratio)

    def tokens_of(self, shape: tuple[int, int, int, int]) -> int:
        """Tokens of one frame of latents (c, t, h, w)."""
        _, p, q = self.transformer.config.patch
        return (shape[2] // p) * (shape[3] // q)

    def time_for(self, shape: tuple[int, int, int, int]) -> TimeDistribution:
        """The time distribution for latents (c, t, h, w), with which its shift may grow."""
        return self.scheduler.time().for_size(self.tokens_of(shape), shape[1])

    @torch.inference_mode()
    def decode(self, latents: Float[Tensor, "b c t h w"], num_frames: int, height: int, width: int) -> list[np.ndarray]:
        """uint8 frames of latents, one clip and one latent frame at a time, so memory does not grow with length."""
        clips = []
        for z in latents:
            out, done = np.empty((num_frames, height, width, 3), np.uint8), 0
            for part, _ in self.decode_onwards(z[None]):
                out[done : done + len(part)] = part[: num_frames - done]
                done += len(part)
            clips.append(out)
        return clips

    @torch.inference_mode()
    def decode_onwards(
        self, latents: Float[Tensor, "1 c t h w"], state: Any = None
    ) -> Iterator[tuple[UInt8[np.ndarray, "k H W 3"], Any]]:
        """(uint8 frames, the tokenizer's state after them) of one latent frame after the other; None starts a clip.

        Of a tokenizer that does not stream, of all at once.
        """
        at_once = 1 if getattr(self.vae, "streams", True) else latents.shape[2]
        for z in latents.to(next(self.vae.parameters()).device).split(at_once, dim=2):
            x, state = self.vae.decode_chunk(z, state)
            levels = ((x[0].float().clamp(-1.0, 1.0) + 1.0) * 127.5).round().to(torch.uint8)
            yield levels.permute(1, 2, 3, 0).cpu().numpy(), state

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Writes the whole pipeline in diffusers' layout: model_index.json and a folder a component, all or nothing."""
        parts = {"vae": self.vae, "transformer": self.transformer, "text_encoder": self.text_encoder}
        if self.image_prompt is not None:
            parts["image_prompt"] = self.image_prompt
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as target:
            target.mkdir()
            index: dict[str, Any] = {"_class_name": type(self).__name__}
            for name, part in parts.items():
                part.save_pretrained(target / name, dtype=dtype)
                index[name] = [type(part).__module__, type(part).__name__]
            (target / "scheduler").mkdir()
            text = json.dumps({"_class_name": "SchedulerConfig", **asdict(self.scheduler)}, indent=2)
            (target / "scheduler" / "scheduler_config.json").write_text(text + "\n", encoding="utf-8")
            index["scheduler"] = [SchedulerConfig.__module__, "SchedulerConfig"]
            (target / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
