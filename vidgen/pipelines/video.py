"""VideoPipeline: prompt in, clips out; tokenizer, denoiser, text encoder and schedule from one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vidgen.data.frames import clamp_to_uint8, latent_frames
from vidgen.deprecation import renamed_keywords
from vidgen.diffusion.noise import TimeDistribution
from vidgen.errors import VidgenError
from vidgen.interfaces import Denoiser
from vidgen.models.dit.label_embedding import TEXT_TO_VIDEO, task_labels, task_names
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.call_arguments import (
    check_numbers,
    draw_noise,
    read_callback,
    read_generators,
    read_text,
    repeat_prompts,
    warn_student,
)
from vidgen.pipelines.components import PipelineComponents
from vidgen.pipelines.output import PipelineOutput, check_output_type, convert_frames, decode_clips, iter_decoded
from vidgen.pipelines.streaming.chunk_sampler import ContextConfig, is_causal, make_chunk_sampler
from vidgen.pipelines.streaming.chunks import PromptSchedule
from vidgen.pipelines.streaming.stream import Stream, stream
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.generation_tasks import INPAINTING, find_task
from vidgen.samplers.conditioning.inpainting import hide_frames, levels_from, sample_conditioned
from vidgen.samplers.conditioning.ip_adapter import Reference, add_image_tokens, encode_reference
from vidgen.samplers.conditioning.read_pixels import Image, Mask, Video, read_frame_conditioning
from vidgen.samplers.guidance.batched_guidance import View
from vidgen.samplers.guidance.guided_denoiser import GuidedDenoiser, Network, encode_prompts
from vidgen.samplers.guidance.registry import Guidance, read_guidance
from vidgen.samplers.solvers import find_solver
from vidgen.samplers.step_cache import StepCacheConfig, take_rows

LatentShape = tuple[int, int, int, int]  # channels, latent frames, height, width


class VideoPipeline(PipelineComponents):
    """Text to video."""

    @renamed_keywords(caching="step_cache", given="conditioning")
    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        negative_prompt: str = "",
        prompt_embeds: TextEncoding | Float[Tensor, "n l d"] | None = None,
        negative_prompt_embeds: TextEncoding | Float[Tensor, "1 l d"] | None = None,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance: str | Guidance = "cfg",
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        guidance_rescale: float | None = None,
        guidance_passes: str | None = None,
        step_cache: StepCacheConfig | None = None,
        sampler: str | Callable[..., Tensor] | None = None,
        num_videos_per_prompt: int = 1,
        seed: int = 0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        latents: Float[Tensor, "b c t h w"] | None = None,
        reference: Reference | None = None,
        image: Image | None = None,
        last_image: Image | None = None,
        video: Video | None = None,
        frames: Mapping[int, Image] | None = None,
        mask: Mask | None = None,
        strength: float | None = None,
        conditioning: FrameConditioning | None = None,
        task: str | None = None,
        output_type: str = "np",
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        return_dict: bool = True,
    ) -> PipelineOutput | tuple[Any, ...]:
        """Generate `num_videos_per_prompt` clips for each prompt; arguments left out take the checkpoint's defaults.

        Clip k of a prompt is a function of (seed, k) and the prompt alone, whatever else is in the batch.
        Raises VidgenError for sizes that the model cannot make, unknown samplers and guidance, prompts too long, a
        reference where there is no `image_prompt` to read it, and a task that a model with tasks lacks.

        Args:
            prompt: One, or several.
            negative_prompt: What guidance leads away from.
            prompt_embeds, negative_prompt_embeds: What `encode_prompt` made, in place of the prompts.
            height, width, num_frames: Of the clips, in pixels and frames.
            num_inference_steps: Steps of the sampler.
            guidance: One of GUIDANCE, or a whole `Guidance`; `guidance_scale` to `guidance_passes` replace its fields.
            step_cache: Skips passes that little has changed since, and counts them.
            sampler: One of SAMPLERS, or a function like those, such as `scheduler_solver` gives.
            seed: Of the noise; `generator`, one a clip or one for all, takes its place.
            latents: Used instead of the initial noise. Noise that stochastic samplers draw later is the
                same as without it.
            reference: Pictures of how the subject looks, or `LearnedTokens`; none becomes a frame. All clips share
                them. They are not added to the negative prompt.
            image, last_image, video, frames, mask, strength: What is known of the clips' pixels, see
                `read_frame_conditioning`; `conditioning` says it in latents.
            task: What a model that was trained for several is told to do; by default what is known says it.
            output_type: "np", "pt" or "pil" for frames, "latent" to skip decoding, see PipelineOutput.
            callback_on_step_end: Called as (step, x, x0), or as (pipe, step, timestep, callback_kwargs) if it takes
                four; may raise to stop. `callback_on_step_end_tensor_inputs` names what is in its kwargs.
            return_dict: False gives a tuple that starts with the frames.
        """
        s = self.scheduler
        check_output_type(output_type)
        check_numbers(num_frames=num_frames, height=height, width=width, num_videos_per_prompt=num_videos_per_prompt)
        check_numbers(num_inference_steps=num_inference_steps, guidance_scale=guidance_scale)
        prompts = read_text(prompt, prompt_embeds, self.text_encoder, "prompt")
        negative = negative_prompt
        if negative_prompt_embeds is not None:
            negative = read_text(negative_prompt or None, negative_prompt_embeds, self.text_encoder, "negative_prompt")
        size = (num_frames or s.num_frames, height or s.height, width or s.width)
        solver = find_solver(sampler or s.sampler)
        count = len(prompts) if isinstance(prompts, list) else len(prompts.mask)
        if not count:
            raise VidgenError("nothing to generate: give a prompt")
        guidance = read_guidance(
            guidance,
            scale=guidance_scale,
            interval=guidance_interval,
            rescale=guidance_rescale,
            passes=guidance_passes,
        )
        shape = self.latent_shape(*size)
        image_tokens = None
        if reference is not None:
            image_tokens = encode_reference(self.image_prompt, self.vae, reference, (s.height, s.width))
        rows = repeat_prompts(prompts, num_videos_per_prompt)
        generator = read_generators(generator, seed, count, num_videos_per_prompt)
        pixels = {"image": image, "last_image": last_image, "video": video, "frames": frames, "mask": mask}
        conditioning = read_frame_conditioning(self.vae, size, **pixels, strength=strength, conditioning=conditioning)
        times = self.times_for(shape, num_inference_steps, guidance.scale)
        levels = times if conditioning is None else levels_from(times, conditioning.strength)
        callback = read_callback(self, callback_on_step_end, callback_on_step_end_tensor_inputs, levels)
        if is_causal(self.transformer):
            run = {"solver": solver, "times": times, "shape": shape, "generators": generator, "latents": latents}
            chunks = make_chunk_sampler(self, ContextConfig(), **run, conditioning=conditioning, callback=callback)
            tokens, past = self.tokens_of(shape) * max(chunks.chunks), chunks.network
            denoise = self.denoiser(rows, negative, guidance, tokens, None, step_cache, image_tokens, levels, past)
            latents = torch.cat(list(chunks.iter_latents(denoise, shape[1])), dim=2)
        else:
            noise = draw_noise((count * num_videos_per_prompt, *shape), generator, latents).to(self.device)
            hide = hide_frames(conditioning, noise, times[0], self.path)
            tokens = self.tokens_of(shape) * shape[1]
            task = task or (TEXT_TO_VIDEO if conditioning is None else find_task(conditioning.known))
            denoise = self.denoiser(rows, negative, guidance, tokens, hide, step_cache, image_tokens, levels, task=task)
            streams = {"generator": generator, "callback": callback}
            streams["shows_known"] = task == INPAINTING and task in task_names(self.transformer)
            latents = sample_conditioned(solver, denoise, noise, times, self.path, conditioning, **streams)
        latents = latents[:, :, -self.latent_frames(size[0]) :]
        clips = None if output_type == "latent" else convert_frames(self.decode(latents, *size), output_type)
        out = PipelineOutput(frames=clips, latents=latents.cpu(), fps=s.fps)
        return out if return_dict else out.to_tuple()

    def stream(self, prompt: str | PromptSchedule, num_frames: int | None = None, **settings: Any) -> Stream:
        """Yield one clip of a causal model chunk by chunk, without end for `num_frames` None: see
        `vidgen.pipelines.streaming.stream`."""
        return stream(self, prompt, num_frames, **settings)

    def encode_prompt(self, prompt: str | Sequence[str]) -> TextEncoding:
        """Return the text of prompts, a row each, for a call's `prompt_embeds`. Raises VidgenError for one too long."""
        return encode_prompts(self.text_encoder, read_text(prompt, None, self.text_encoder, "prompt"), self.text_cache)

    def denoiser(
        self,
        prompts: Sequence[str] | TextEncoding,
        negative_prompt: str | TextEncoding,
        guidance: Guidance,
        tokens: int,
        hide: View | None = None,
        step_cache: StepCacheConfig | None = None,
        image_tokens: Float[Tensor, "n d"] | None = None,
        times: Float[Tensor, " n_plus_1"] | None = None,
        network: Network | None = None,
        task: str = TEXT_TO_VIDEO,
    ) -> Denoiser:
        """Return the guided denoiser for these prompts.

        Raises VidgenError for a negative prompt where guidance leads away from something else, and for a task that the
        transformer lacks.

        Args:
            prompts: One a clip, or their text.
            negative_prompt: For all of them, or its text.
            guidance: Its scale None is the checkpoint's.
            tokens: Of a clip; whether several estimates fit in one pass depends on it.
            hide: Shows known frames as noise, see `hide_frames`.
            step_cache: Skips passes.
            image_tokens: What `encode_reference` made of pictures.
            times: The levels of the run, for guidance that counts its steps.
            network: Stands in place of the transformer, for a causal one that knows the frames before.
            task: What a transformer with tasks is told.
        """
        if negative_prompt and "uncond" not in guidance.method.others:
            raise VidgenError(f"guidance {guidance.name!r} does not lead away from a prompt; leave negative_prompt out")
        task_labels(self.transformer, [task])  # before any work: its error
        text = self.encode_prompt(prompts) if isinstance(prompts, Sequence) else prompts

        @cache
        def negative() -> TextEncoding:
            of_one = self.encode_prompt(negative_prompt) if isinstance(negative_prompt, str) else negative_prompt
            return take_rows(of_one, torch.zeros(len(text.mask), dtype=torch.int64, device=of_one.mask.device))

        guided = GuidedDenoiser(
            network=network or self.transformer,
            path=self.path,
            prediction_type=self.scheduler.prediction_type,
            text=add_image_tokens(image_tokens, text),
            negative=negative,
            hide=hide,
            step_cache=step_cache,
            task=task,
        )
        scale = self.scheduler.guidance_scale if guidance.scale is None else guidance.scale
        return guided.guided(guidance, scale, tokens, times)

    def unguided(self, prompts: Sequence[str]) -> Denoiser:
        """Return the denoiser for these prompts alone: one pass of the network."""
        return self.denoiser(prompts, "", Guidance(scale=1.0), tokens=0)

    @property
    def size_multiple(self) -> int:
        """The pixels that height and width of a clip are multiples of."""
        return self.vae.config.spatial_compression_ratio * self.transformer.config.patch[1]

    def latent_shape(self, num_frames: int, height: int, width: int) -> LatentShape:
        """Return the shape (c, t, h, w) of one clip's latents as they are sampled.

        Where a patch holds several latent frames, some more stand before them to fill the first one, and are dropped in
        the end. Raises VidgenError for a size that tokenizer and patch cannot make.
        """
        config = self.vae.config
        patch_t = self.transformer.config.patch[0]
        f = config.spatial_compression_ratio
        if num_frames < 1:
            raise VidgenError(f"num_frames is {num_frames}; it must be 1 or more")
        multiple = self.size_multiple
        for axis, value in (("height", height), ("width", width)):
            if value < multiple or value % multiple:
                near = max(multiple, round(value / multiple) * multiple)
                raise VidgenError(f"{axis} {value} is not a multiple of {multiple}, which this model needs; try {near}")
        t = self.latent_frames(num_frames)
        return (config.latent_channels, t + -t % patch_t, height // f, width // f)

    def latent_frames(self, num_frames: int) -> int:
        """Return how many latent frames the tokenizer has for so many frames."""
        return latent_frames(num_frames, self.vae.config.temporal_compression_ratio)

    def tokens_of(self, shape: LatentShape) -> int:
        """Return the tokens of one frame of latents (c, t, h, w)."""
        _, p, q = self.transformer.config.patch
        return (shape[2] // p) * (shape[3] // q)

    def time_for(self, shape: LatentShape) -> TimeDistribution:
        """Return the time distribution for latents (c, t, h, w), with which its shift may grow."""
        return self.scheduler.time_distribution.for_size(self.tokens_of(shape), shape[1])

    def times_for(self, shape: LatentShape, steps: int | None, guidance_scale: float | None) -> Float[Tensor, " n"]:
        """Return the noise levels of a run, which for a causal model are those of any length; see `warn_student`."""
        steps = self.scheduler.num_inference_steps if steps is None else steps
        warn_student(self.scheduler, steps, guidance_scale)
        frames = self.latent_frames(self.scheduler.num_frames) if is_causal(self.transformer) else shape[1]
        return self.time_for((shape[0], frames, *shape[2:])).steps(steps)

    @torch.inference_mode()
    def decode(self, latents: Float[Tensor, "b c t h w"], num_frames: int, height: int, width: int) -> list[np.ndarray]:
        """Return the uint8 frames of latents, decoded one clip and one latent frame at a time, to save memory."""
        return decode_clips(self.vae, latents, num_frames, height, width)

    @torch.inference_mode()
    def decode_onwards(
        self, latents: Float[Tensor, "1 c t h w"], state: Any = None
    ) -> Iterator[tuple[UInt8[np.ndarray, "k H W 3"], Any]]:
        """Yield (uint8 frames, the tokenizer's state after them), latent frame by latent frame; see `iter_decoded`."""
        for x, state in iter_decoded(self.vae, latents, state):  # noqa: B020 (the state goes on from the one before)
            yield clamp_to_uint8(x)[0], state
