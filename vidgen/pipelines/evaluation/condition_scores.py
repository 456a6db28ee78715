"""One model, every condition: what a clip is made from is compared with what comes out; the checker judges the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from vidgen.data.frames import clamp_to_uint8, to_tensor
from vidgen.data.shapes import ShapeClip, ShapeWorld
from vidgen.diffusion.noise import sample_generator
from vidgen.metrics import mean_interval
from vidgen.metrics.fidelity import decibels
from vidgen.models.placement import device_of
from vidgen.pipelines.evaluation.adherence import Progress, score_clips
from vidgen.pipelines.evaluation.conditions import CONDITIONS, Case, Video, prompt_for
from vidgen.pipelines.restoration import Method, available_methods, choose_guidance, restore
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.degradations import Degradation

Look = Callable[[Video, Video, Video], None]  # the world's clip, what the model sees of it, what comes out
PSNRS = ("kept_psnr", "ceiling_psnr", "degraded_psnr", "rest_psnr", "gain_psnr")
STRENGTH = 0.7  # of video to video, unless said otherwise: enough noise for another colour


def render_inputs(clip: ShapeClip, case: Case) -> Video:
    """Return what the model sees, on gray; of an edit, the whole clip that it starts from."""
    gray = np.full_like(clip.video, 128)
    if "reference" in case.inputs:
        gray[0] = case.inputs["reference"]
        return gray
    if "strength" in case.inputs:
        return case.inputs["video"]
    return np.where(case.keep[..., None], clip.video, gray)


def masked_psnr(video: Video, truth: Video, where: Bool[np.ndarray, "T h w"]) -> float | None:
    """Return the PSNR of the pixels `where`, in dB; None if there are none."""
    if not where.any():
        return None
    error = (video[where].astype(np.float64) - truth[where]) / 127.5
    return float(decibels(torch.tensor(np.square(error).mean())))


def degrade(video: Video, degradation: Degradation) -> Tensor:
    """Return what is left of a clip, in the 256 levels that a file has."""
    return ((degradation.apply(to_tensor(video)[None]) + 1.0) * 127.5).round() / 127.5 - 1.0


@torch.inference_mode()
def reconstruct(pipe: VideoPipeline, video: Video) -> Video:
    """Return the clip as the tokenizer codes it."""
    encoded = pipe.vae.encode(to_tensor(video)[None].to(device_of(pipe.vae)))
    return pipe.decode(encoded.latents, *video.shape[:3])[0]


def score_condition(
    pipe: VideoPipeline,
    world: ShapeWorld,
    name: str,
    n: int,
    *,
    by: Method | None = None,
    seed: int = 0,
    strength: float = STRENGTH,
    progress: Progress | None = None,
    look: Look | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Make one clip for each of the world's first n from what CONDITIONS[name] takes of it, and score them.

    Adds to `summarize`, as mean, 95% interval and number of clips: `kept_psnr` of the kept pixels against the clip,
    `ceiling_psnr` of the same pixels as the tokenizer codes them, and `rest_psnr` of all others. That is low where
    a prompt leaves open what happens; of an edit it is how close the result comes to what was to be made, and of a
    restoration it stands beside `degraded_psnr`, that of A^+ y, and `gain_psnr` is what it is above that clip by clip.
    The noise of clip i is a function of (seed, i) alone, and that of `score_generation`.

    Args:
        pipe: The model; one that reads reference images for the conditions of UNNAMED.
        world: Its held-out stream.
        name: One of CONDITIONS.
        n: Clips.
        by: Of a restoration: how, see `restore`. The row has it, or what is chosen for None; None of other conditions.
            It has the `guidance_scale` too, None for the model's own.
        seed: Of the noise.
        strength: Of video to video.
        progress: Called with the number of clips that are done.
        look: Shown the first clip, what the model sees of it, and what comes out.
        settings: Go to the pipeline's call.
    """
    scores: dict[str, list[float]] = {key: [] for key in PSNRS}
    prompts = [prompt_for(world, i, name) for i in range(n)]
    f_t = pipe.vae.config.temporal_compression_ratio
    if CONDITIONS[name].is_restoration:
        by = by or available_methods(pipe, CONDITIONS[name].task)[-1]
        settings["guidance_scale"] = choose_guidance(by, CONDITIONS[name].task, settings.get("guidance_scale"))

    def clips() -> Iterator[Video]:
        for i in range(n):
            clip = world[i]
            case = CONDITIONS[name].make(clip, world, f_t, strength)
            call, inputs = partial(pipe, prompts[i].caption, **case.inputs), render_inputs(clip, case)
            psnr: dict[str, float | None] = {}
            if case.degradation is not None:
                degraded = degrade(clip.video, case.degradation)
                call = partial(restore, pipe, prompts[i].caption, degraded, case.degradation, by=by)
                inputs = clamp_to_uint8(case.degradation.invert(degraded))[0]
                psnr["degraded_psnr"] = masked_psnr(inputs, clip.video, ~case.keep)
            video = call(generator=[sample_generator(seed, i)], **settings).frames[0]
            psnr["kept_psnr"] = masked_psnr(video, clip.video, case.keep)
            if case.keep.any():
                psnr["ceiling_psnr"] = masked_psnr(reconstruct(pipe, clip.video), clip.video, case.keep)
            psnr["rest_psnr"] = masked_psnr(video, clip.video, ~case.keep)
            if psnr.get("degraded_psnr") is not None:
                psnr["gain_psnr"] = psnr["rest_psnr"] - psnr["degraded_psnr"]
            for key, value in psnr.items():
                if value is not None:
                    scores[key].append(value)
            if look is not None and i == 0:
                look(clip.video, inputs, video)
            yield video

    report = score_clips(clips(), prompts, progress)
    means = {key: asdict(mean_interval(values)) if values else None for key, values in scores.items()}
    used = {"condition": name, "by": by, "guidance_scale": settings.get("guidance_scale")}
    return {**used, **means, **report}
