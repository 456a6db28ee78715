"""The parts of a pipeline: what they are, where they lie, and how they are saved."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidgen.checkpoints.hashing import model_hash
from vidgen.checkpoints.hub import find_model
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.bounded_files import read_json
from vidgen.interfaces import NoiseSchedule, TextEncoder, Tokenizer
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.ip_adapter import IPAdapterEncoder
from vidgen.models.placement import device_of, dtype_of
from vidgen.models.text.cache import find_text_cache
from vidgen.pipelines.call_arguments import suits_student
from vidgen.pipelines.scheduler_config import SchedulerConfig

INDEX_NAME = "model_index.json"


class PipelineComponents:
    """The parts that a call runs.

    Args:
        vae: The tokenizer.
        transformer: The denoising network.
        text_encoder: Prompts to tokens. `text_cache` keeps encoded prompts on disk, if the encoder is large; set
            another, or None for none.
        scheduler: A SchedulerConfig, or what stands in its place for a published model, a PublishedSchedule.
        image_prompt: Pictures to tokens beside the prompt's, where the model reads reference images.

    `student` is a pipeline of the same tokenizer and text encoder that makes clips of prompts in a few steps, or None.
    Commands choose between the two by `maker`; in Python each makes its own clips, `pipe(...)` and `pipe.student(...)`.
    """

    _student: PipelineComponents | None = None

    def __init__(
        self,
        vae: Tokenizer,
        transformer: VideoDiT,
        text_encoder: TextEncoder,
        scheduler: NoiseSchedule,
        image_prompt: IPAdapterEncoder | None = None,
    ) -> None:
        self.vae, self.transformer, self.text_encoder, self.scheduler = vae, transformer, text_encoder, scheduler
        self.image_prompt = image_prompt
        self.text_cache = find_text_cache(text_encoder)
        self.path = scheduler.make_path()

    @property
    def student(self) -> PipelineComponents | None:
        """The student, which runs this pipeline's own tokenizer and text encoder."""
        return self._student

    @student.setter
    def student(self, other: PipelineComponents | None) -> None:
        """Take the transformer and the schedule of a student. Raises VidgenError where it is of other latents or of
        another text encoder."""
        if other is None:
            self._student = None
            return
        for name in ("latent_channels", "text_width"):
            own, another = (getattr(pipe.transformer.config, name, None) for pipe in (self, other))
            if own != another:
                raise VidgenError(f"a student with {name} {another}, of a model with {own}: it is not this one's")
        if other.text_encoder is not self.text_encoder and model_hash(other.text_encoder) != model_hash(
            self.text_encoder
        ):
            raise VidgenError("a student with a text encoder of its own, which is not this model's")
        self._student = type(self)(self.vae, other.transformer, self.text_encoder, other.scheduler)

    @property
    def components(self) -> dict[str, Any]:
        """The parts by name, those that are there."""
        parts = {"vae": self.vae, "transformer": self.transformer, "text_encoder": self.text_encoder}
        parts |= {"scheduler": self.scheduler, "image_prompt": self.image_prompt}
        parts["student"] = None if self.student is None else self.student.transformer
        return {name: part for name, part in parts.items() if part is not None}

    def maker(self, **settings: Any) -> PipelineComponents:
        """Return what makes clips under these arguments of a call: the student where they are what it is for (see
        `suits_student`), else this pipeline."""
        student = self.student
        return self if student is None or not suits_student(student.scheduler, settings) else student

    def steps_of(self, size: tuple[int, int, int], num_inference_steps: int | None = None) -> int:
        """Return after how many steps a clip of `size` (frames, height, width) is there: one number for all sizes."""
        return num_inference_steps or self.scheduler.num_inference_steps

    @property
    def device(self) -> torch.device:
        """The device of the transformer."""
        return device_of(self.transformer)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the transformer."""
        return dtype_of(self.transformer)

    def to(self, *target: Any, **named: Any) -> PipelineComponents:
        """Move all parts to a device or a dtype, as torch's `Module.to` does, and return the pipeline."""
        for part in self.components.values():
            if isinstance(part, nn.Module):
                part.to(*target, **named)
        return self

    def __repr__(self) -> str:
        s = self.scheduler
        modules = {name: part for name, part in self.components.items() if isinstance(part, nn.Module)}
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in modules.items()}
        parts = [
            f"  {name}: {type(part).__name__}, {counts[name]:,} parameters, {dtype_of(part)}"
            for name, part in modules.items()
        ]
        clips = f"  clips: {s.num_frames} frames, {s.height}x{s.width}, {s.fps:g} fps, guidance {s.guidance_scale:g}"
        return "\n".join([f"{type(self).__name__} on {self.device}", *parts, clips])

    def save_pretrained(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Write the whole pipeline in diffusers' layout: model_index.json and a folder a component, all or nothing."""
        with write_components(folder, type(self).__name__, self.components, dtype) as target:
            save_scheduler(self.scheduler, target)
            if self.student is not None:
                save_scheduler(self.student.scheduler, target / "student")


@contextmanager
def write_components(
    folder: str | os.PathLike, class_name: str, parts: Mapping[str, Any], dtype: torch.dtype | None
) -> Iterator[Path]:
    """Write model_index.json and a folder a component, all or nothing; yield the folder, for the schedule to be written
    into it."""
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as target:
        target.mkdir()
        index: dict[str, Any] = {"_class_name": class_name}
        for name, part in parts.items():
            index[name] = [type(part).__module__, type(part).__name__]
            if name != "scheduler":
                part.save_pretrained(target / name, dtype=dtype)
        yield target
        (target / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def save_scheduler(scheduler: SchedulerConfig, folder: Path) -> None:
    """Write a schedule to where `read_scheduler` finds it."""
    (folder / "scheduler").mkdir()
    text = json.dumps({"_class_name": SchedulerConfig.__name__, **asdict(scheduler)}, indent=2)
    (folder / "scheduler" / "scheduler_config.json").write_text(text + "\n", encoding="utf-8")


def open_components(name: str | os.PathLike, class_name: str, wanted: str) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a pipeline and its index. Raises VidgenError, with what is `wanted`, for one of another
    class."""
    folder = find_model(str(name))
    index = read_json(folder / INDEX_NAME)
    if index.get("_class_name") != class_name:
        raise VidgenError(f"{folder} holds a {index.get('_class_name')}, and {wanted} is wanted")
    return folder, index
