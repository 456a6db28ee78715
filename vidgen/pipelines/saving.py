"""A pipeline on disk, in diffusers' layout: model_index.json and a folder a component."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from vidgen.checkpoints.atomic import atomic_write
from vidgen.interfaces import Pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig

INDEX_NAME = "model_index.json"
PARTS = ("vae", "transformer", "text_encoder", "image_prompt")


def save_pipeline(pipe: Pipeline, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
    """Write a whole pipeline, its weights in `dtype` if there is one, all or nothing."""
    parts = {name: getattr(pipe, name) for name in PARTS if getattr(pipe, name) is not None}
    Path(folder).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder) as target:
        target.mkdir()
        index: dict[str, Any] = {"_class_name": type(pipe).__name__}
        for name, part in parts.items():
            part.save_pretrained(target / name, dtype=dtype)
            index[name] = [type(part).__module__, type(part).__name__]
        (target / "scheduler").mkdir()
        text = json.dumps({"_class_name": "SchedulerConfig", **asdict(pipe.scheduler)}, indent=2)
        (target / "scheduler" / "scheduler_config.json").write_text(text + "\n", encoding="utf-8")
        index["scheduler"] = [SchedulerConfig.__module__, "SchedulerConfig"]
        (target / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
