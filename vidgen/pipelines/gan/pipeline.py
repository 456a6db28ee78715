"""GANPipeline: a prompt and noise to a clip, in one pass of a generator."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vidgen.data.frames import clamp_to_uint8
from vidgen.diffusion.noise import draw_per_sample
from vidgen.errors import VidgenError
from vidgen.interfaces import ClipFormat
from vidgen.models.gan.split_generator import SplitGenerator
from vidgen.models.placement import device_of
from vidgen.models.text.encoders import ByteTextEncoder
from vidgen.pipelines.call_arguments import check_numbers, read_generators
from vidgen.pipelines.components import open_components, write_components
from vidgen.pipelines.output import PipelineOutput, check_output_type, convert_frames


class GANPipeline:
    """A generator, and the text encoder that it reads, if it reads any.

    Raises VidgenError for a text encoder that is not the generator's.

    Args:
        generator: Noise and text to clips.
        text_encoder: Prompts to tokens, or None.
    """

    def __init__(self, generator: SplitGenerator, text_encoder: ByteTextEncoder | None) -> None:
        width = 0 if text_encoder is None else text_encoder.width
        if width != generator.config.text_width:
            raise VidgenError(
                f"a generator that reads text of width {generator.config.text_width} has no use for an encoder of "
                f"width {width}"
            )
        self.generator, self.text_encoder = generator, text_encoder

    @property
    def scheduler(self) -> ClipFormat:
        """The size of the clips, which is the generator's own."""
        return self.generator.config

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str] = "",
        *,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        num_videos_per_prompt: int = 1,
        seed: int = 0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        output_type: str = "np",
        callback_on_step_end: Callable[[int, Tensor], object] | None = None,
    ) -> PipelineOutput:
        """Return clips of prompts; `latents` are their noise (b, z, 1, 1, 1).

        Raises VidgenError for a prompt to a generator that reads none, and for a size that is not its own.

        Args:
            prompt: One or several.
            num_frames, height, width: Of the clips, in pixels: the generator's, or None.
            num_videos_per_prompt: Clips of each prompt.
            seed: Of the noise, one stream a clip; `generator`, one a clip or one for all, takes its place.
            output_type: As of `PipelineOutput`, or "latent".
            callback_on_step_end: Called as (0, clips) after the one pass.
        """
        check_output_type(output_type)
        check_numbers(num_videos_per_prompt=num_videos_per_prompt)
        config = self.generator.config
        for name, value in {"num_frames": num_frames, "height": height, "width": width}.items():
            if value not in (None, config[name]):
                raise VidgenError(f"{name} is {value}, and this generator makes clips of {config[name]} alone")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        streams = read_generators(generator, seed, len(prompts), num_videos_per_prompt)
        prompts = [text for text in prompts for _ in range(num_videos_per_prompt)]
        if self.text_encoder is None and any(prompts):
            raise VidgenError("this generator reads no text; leave the prompt empty")
        noise = draw_per_sample((config.noise_channels,), streams).to(device_of(self.generator))
        latents = noise[:, :, None, None, None]
        if output_type == "latent":
            return PipelineOutput(frames=None, latents=latents, fps=config.fps)
        video = self.generator(noise, self.read_text(prompts)).video.float()
        if callback_on_step_end is not None:
            callback_on_step_end(0, video)
        clips = list(clamp_to_uint8(video))
        return PipelineOutput(frames=convert_frames(clips, output_type), latents=latents, fps=config.fps)

    def steps_of(self, size: tuple[int, int, int]) -> int:
        """Return after how many steps a clip of `size` (frames, height, width) is there."""
        return 1

    def read_text(self, prompts: Sequence[str]) -> Float[Tensor, "b d"] | None:
        """Return each prompt as one vector, the mean of its tokens; None where the generator reads none."""
        return None if self.text_encoder is None else self.text_encoder(prompts).pooled()

    @property
    def components(self) -> dict[str, Any]:
        """The parts by name, those that are there."""
        parts = {"generator": self.generator, "text_encoder": self.text_encoder}
        return {name: part for name, part in parts.items() if part is not None}

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Write the whole pipeline: model_index.json and a folder a component, all or nothing."""
        with write_components(folder, type(self).__name__, self.components, dtype):
            pass

    @classmethod
    def from_pretrained(
        cls, name: str | os.PathLike, *, dtype: torch.dtype | None = torch.float32, device: str = "cpu"
    ) -> GANPipeline:
        """Return the pipeline of a folder. Raises VidgenError if it is not whole, or of another class."""
        folder, index = open_components(name, cls.__name__, "a generator")
        settings = {"dtype": dtype, "device": device}
        text: ByteTextEncoder | None = None
        if "text_encoder" in index:
            text = ByteTextEncoder.from_pretrained(folder / "text_encoder", **settings)
        return cls(SplitGenerator.from_pretrained(folder / "generator", **settings), text)
