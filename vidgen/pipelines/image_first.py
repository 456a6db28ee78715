"""Text to image to video: the first frame is sampled alone, and then given to the clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from vidgen.models.dit.label_embedding import task_labels
from vidgen.pipelines.call_arguments import read_generators
from vidgen.pipelines.output import PipelineOutput
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.frame_conditioning import FrameConditioning
from vidgen.samplers.conditioning.generation_tasks import IMAGE_TO_VIDEO


@torch.inference_mode()
def sample_image_first(
    pipe: VideoPipeline,
    prompt: str | Sequence[str],
    *,
    num_frames: int | None = None,
    num_videos_per_prompt: int = 1,
    seed: int = 0,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    output_type: str = "np",
    **settings: Any,
) -> PipelineOutput:
    """Return clips by way of an image, p(image | text) p(clip | image, text) (Girdhar et al. 2023, Emu Video).

    Both steps are the same model, and the image goes from one to the other as latents. It is a clip of one frame, so
    the model should have been trained on such too; a picture from elsewhere is `pipe(prompt, image=...)`.

    Args:
        pipe: A model with a noise level for each frame.
        prompt: One, or several.
        num_frames: Of a clip; None is the model's own.
        num_videos_per_prompt: Clips of each prompt.
        seed: As in the pipeline's call, of both steps; `generator`, one a clip, takes its place.
        generator: See `seed`.
        output_type: As of the pipeline's call.
        settings: Go to the pipeline's call, both times.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    rows = [p for p in prompts for _ in range(num_videos_per_prompt)]
    generator = read_generators(generator, seed, len(prompts), num_videos_per_prompt)
    task_labels(pipe.transformer, [IMAGE_TO_VIDEO])  # before the image is made: its error
    still = pipe(rows, num_frames=1, generator=generator, output_type="latent", **settings).latents
    t = pipe.latent_shape(num_frames or pipe.scheduler.num_frames, pipe.scheduler.height, pipe.scheduler.width)[1]
    settings |= {"conditioning": FrameConditioning.of_first(still, t), "output_type": output_type}
    return pipe(rows, num_frames=num_frames, generator=generator, **settings)
