"""One model, every condition: what of a clip is given is compared with what comes out, and the checker judges the
rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from vidgen.data.frames import to_tensor, to_uint8
from vidgen.data.shapes import COLOURS, ShapeClip, ShapeWorld, describe_unnamed, portray, render
from vidgen.data.shapes.outlines import REACH
from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.metrics import mean_interval
from vidgen.metrics.fidelity import decibels
from vidgen.pipelines.evaluation.adherence import Asked, Progress, score_clips
from vidgen.pipelines.restoration import restore
from vidgen.pipelines.video import VideoPipeline
from vidgen.samplers.conditioning.degradations import Blur, Degradation, Downsample, Grayscale, Mask

Video = UInt8[np.ndarray, "T h w 3"]
Look = Callable[[Video, Video, Video], None]  # the world's clip, what is given of it, what comes out
STRENGTH = 0.7  # of video to video, unless said otherwise: enough noise for another colour


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a clip is made from: arguments of the pipeline's call, and the pixels that these ask to be kept; or what is
    left of it after a degradation."""

    given: dict[str, Any] = field(default_factory=dict)
    kept: Bool[np.ndarray, "T h w"]
    degradation: Degradation | None = None


def keep_frames(video: Video, *places: int | slice) -> Bool[np.ndarray, "T h w"]:
    kept = np.zeros(video.shape[:3], bool)
    for place in places:
        kept[place] = True
    return kept


def half_length(num_frames: int, temporal_compression_ratio: int) -> int:
    """About half of a clip, in whole latent frames: 1 + k `temporal_compression_ratio` frames, fewer than all."""
    return 1 + temporal_compression_ratio * (-(-(num_frames - 1) // temporal_compression_ratio) // 2)


def outside_of_objects(clip: ShapeClip) -> Bool[np.ndarray, "T h w"]:
    """Pixels outside of the smallest boxes that hold each object throughout."""
    kept = np.ones(clip.video.shape[:3], bool)
    for thing in clip.labels.objects:
        reach = REACH[thing.shape] * thing.radius[:, None] + 1.0  # and the pixel that its edge fades out over
        low = np.floor((thing.position - reach).min(0)).astype(int).clip(0)
        high = np.ceil((thing.position + reach).max(0)).astype(int)
        kept[:, low[1] : high[1], low[0] : high[0]] = False
    return kept


def recolour(clip: ShapeClip, world: ShapeWorld) -> Video:
    """The same clip with every object in the next colour of the world's list."""
    names = list(COLOURS)
    other = [replace(o, colour=names[(names.index(o.colour) + 1) % len(names)]) for o in clip.labels.objects]
    return render(replace(clip.labels, objects=tuple(other)), world.config)


def image_case(clip: ShapeClip, world: ShapeWorld, temporal_compression_ratio: int, strength: float) -> Case:
    return Case(given={"image": clip.video[0]}, kept=keep_frames(clip.video, 0))


def ends_case(clip: ShapeClip, world: ShapeWorld, temporal_compression_ratio: int, strength: float) -> Case:
    given = {"image": clip.video[0], "last_image": clip.video[-1]}
    return Case(conditioning=given, kept=keep_frames(clip.video, 0, -1))


def continuation_case(clip: ShapeClip, world: ShapeWorld, temporal_compression_ratio: int, strength: float) -> Case:
    count = half_length(len(clip.video), temporal_compression_ratio)
    return Case(given={"video": clip.video[:count]}, kept=keep_frames(clip.video, slice(count)))


def inpainting_case(clip: ShapeClip, world: ShapeWorld, temporal_compression_ratio: int, strength: float) -> Case:
    kept = outside_of_objects(clip)
    return Case(given={"video": clip.video, "mask": ~kept}, kept=kept)


def editing_case(clip: ShapeClip, world: ShapeWorld, temporal_compression_ratio: int, strength: float) -> Case:
    given = {"video": recolour(clip, world), "strength": strength}
    return Case(conditioning=given, kept=keep_frames(clip.video))


def filling_case(clip: ShapeClip, world: ShapeWorld, temporal_compression_ratio: int, strength: float) -> Case:
    kept = outside_of_objects(clip)
    return Case(kept=kept, degradation=Mask(torch.from_numpy(~kept)))


def restoring(degradation: Degradation) -> Callable[[ShapeClip, ShapeWorld, int, float], Case]:
    return lambda clip, world, temporal_compression_ratio, strength: Case(
        kept=keep_frames(clip.video), degradation=degradation
    )


def text_case(clip: ShapeClip, world: ShapeWorld, temporal_compression_ratio: int, strength: float) -> Case:
    return Case(kept=keep_frames(clip.video))


def reference_case(clip: ShapeClip, world: ShapeWorld, temporal_compression_ratio: int, strength: float) -> Case:
    rng = np.random.default_rng(clip.labels.background.seed)
    return Case(given={"reference": portray(clip.labels, rng, world.config).video[0]}, kept=keep_frames(clip.video))


# By name: of a clip of the world, what is given. The prompt is the clip's own, without the words for colour, shape and
# size where it is one of UNNAMED.
CONDITIONS: dict[str, Callable[[ShapeClip, ShapeWorld, int, float], Case]] = {
    "text": text_case,
    "image": image_case,
    "first_last": ends_case,
    "continuation": continuation_case,  # of the first half
    "inpainting": inpainting_case,  # of what the objects go through
    "video_to_video": editing_case,  # from the same clip in another colour
    "reference": reference_case,  # a picture of its object in another clip
    "no_reference": text_case,  # the same words alone: chance
    "filling": filling_case,  # of the same gaps as "inpainting", by restoration
    "super_resolution": restoring(Downsample(4)),
    "deblurring": restoring(Blur(1.5)),
    "colourising": restoring(Grayscale()),
}
UNNAMED = ("reference", "no_reference")


def ask(world: ShapeWorld, index: int, name: str) -> Asked:
    """The prompt for clip `index` under a condition, and the labels that what is made of it is checked against."""
    caption, labels = world.sample_prompt(index)
    return Asked(caption=describe_unnamed(labels) if name in UNNAMED else caption, labels=labels)


def render_inputs(clip: ShapeClip, case: Case) -> Video:
    """What the model is given to see, on grey; of an edit, the whole clip that it starts from."""
    if "reference" in case.given:
        grey = np.full_like(clip.video, 128)
        grey[0] = case.given["reference"]
        return grey
    given = case.given.get("video") if "strength" in case.given else clip.video
    seen = case.kept if "strength" not in case.given else np.ones_like(case.kept)
    return np.where(seen[..., None], given, np.uint8(128))


def masked_psnr(video: Video, truth: Video, where: Bool[np.ndarray, "T h w"]) -> float | None:
    """PSNR of the pixels `where`, in dB; None if there are none."""
    if not where.any():
        return None
    error = (video[where].astype(np.float64) - truth[where]) / 127.5
    return float(decibels(torch.tensor(np.square(error).mean())))


def degrade(video: Video, degradation: Degradation) -> Tensor:
    """What is left of a clip, in the 256 levels that a file has."""
    return ((degradation.apply(to_tensor(video)[None]) + 1.0) * 127.5).round() / 127.5 - 1.0


@torch.inference_mode()
def reconstruct(pipe: VideoPipeline, video: Video) -> Video:
    """The clip as the tokenizer codes it."""
    encoded = pipe.vae.encode(to_tensor(video)[None].to(next(pipe.vae.parameters()).device))
    return pipe.decode(encoded.latents, *video.shape[:3])[0]


def score_condition(
    pipe: VideoPipeline,
    world: ShapeWorld,
    name: str,
    n: int,
    *,
    seed: int = 0,
    strength: float = STRENGTH,
    progress: Progress | None = None,
    look: Look | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """One clip for each of the world's first n, made from what `ask` says and CONDITIONS[name] gives of it.

    Adds to `summarize`, as mean, 95% interval and number of clips: `kept_psnr` of what is given against the clip,
    `ceiling_psnr` of the same pixels as the tokenizer codes them, and `rest_psnr` of all others. That is low where
    a prompt leaves open what happens; of an edit it is how close the result comes to what was to be made, and of a
    restoration it stands beside `degraded_psnr`, that of A^+ y.
    The noise of clip i is a function of (seed, i) alone, and that of `score_generation`. `look` is shown the first.
    """
    found: dict[str, list[float]] = {key: [] for key in ("kept_psnr", "ceiling_psnr", "degraded_psnr", "rest_psnr")}
    asked = [ask(world, i, name) for i in range(n)]

    def clips() -> Iterator[Video]:
        for i in range(n):
            clip = world[i]
            case = CONDITIONS[name](clip, world, pipe.vae.config.temporal_compression_ratio, strength)
            prompt, generator = asked[i].caption, [sample_generator(seed, i)]
            measured, call, shown = {}, partial(pipe, prompt, **case.given), render_inputs(clip, case)
            if case.degradation is not None:
                left = degrade(clip.video, case.degradation)
                call = partial(restore, pipe, prompt, left, case.degradation)
                shown = to_uint8(case.degradation.invert(left)[0].clamp(-1.0, 1.0))
                measured["degraded_psnr"] = masked_psnr(shown, clip.video, ~case.kept)
            video = call(generator=generator, **settings).frames[0]
            measured["kept_psnr"] = masked_psnr(video, clip.video, case.kept)
            if case.kept.any():
                measured["ceiling_psnr"] = masked_psnr(reconstruct(pipe, clip.video), clip.video, case.kept)
            measured["rest_psnr"] = masked_psnr(video, clip.video, ~case.kept)
            for measure, value in measured.items():
                if value is not None:
                    found[measure].append(value)
            if look is not None and i == 0:
                look(clip.video, shown, video)
            yield video

    report = score_clips(clips(), asked, progress)
    means = {name: asdict(mean_interval(values)) if values else None for name, values in found.items()}
    return {"condition": name, **means, **report}


def choose_conditions(names: Sequence[str]) -> list[str]:
    """The names, all if there are none. Raises VidgenError for one that is no condition."""
    if unknown := [name for name in names if name not in CONDITIONS]:
        raise VidgenError(f"condition {unknown[0]!r} is unknown; choose of {', '.join(CONDITIONS)}")
    return list(names) or list(CONDITIONS)


def served_conditions(pipe: VideoPipeline) -> list[str]:
    """All that the model serves: without those of reference images where it reads none."""
    return [name for name in CONDITIONS if pipe.image_prompt is not None or name not in UNNAMED]
