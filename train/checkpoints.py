"""Checkpoints of a run: `checkpoint-N/` holds all that step N + 1 needs; written aside, renamed, the oldest removed."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vidgen.atomic import written_aside
from vidgen.errors import VidgenError
from vidgen.pretrained import read_json


def checkpoint_steps(run: Path) -> list[int]:
    """The steps that `run` has a checkpoint of, ascending."""
    return sorted(int(m[1]) for p in run.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", p.name)))


def save_checkpoint(run: Path, step: int, model: nn.Module, ema: EMAModel, optimizer: Any, keep: int) -> Path:
    """Writes `checkpoint-{step}`; there is never a moment without a whole checkpoint on disk."""
    folder = run / f"checkpoint-{step}"
    with written_aside(folder) as target:
        target.mkdir()
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, target / "model.safetensors")
        shadow = {f"{i}": p.contiguous() for i, p in enumerate(ema.shadow_params)}
        save_file(shadow, target / "ema.safetensors")
        torch.save(optimizer.state_dict(), target / "optimizer.pt")
        progress = {"step": step, "ema_step": ema.optimization_step}
        (target / "progress.json").write_text(json.dumps(progress) + "\n", encoding="utf-8")
    for old in checkpoint_steps(run)[:-keep]:
        shutil.rmtree(run / f"checkpoint-{old}")
    return folder


def load_checkpoint(folder: Path, model: nn.Module, ema: EMAModel, optimizer: Any) -> int:
    """Restores model, EMA and optimizer from `folder`; returns the step. VidgenError if it does not fit the model."""
    try:
        progress = read_json(folder / "progress.json")
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
        shadow = load_file(folder / "ema.safetensors")
        ema.shadow_params = [shadow[str(i)] for i in range(len(ema.shadow_params))]
        ema.optimization_step = progress["ema_step"]
        optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
    except (RuntimeError, KeyError, ValueError, OSError, SafetensorError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())[:200]
        raise VidgenError(f"{folder} does not fit this recipe or is damaged ({reason}); use another `out`") from None
    return progress["step"]
