"""Checkpoints of a run: `checkpoint-N/` holds all that step N + 1 needs; written aside, renamed, the oldest removed."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from vidgen.checkpoints.atomic import atomic_write
from vidgen.checkpoints.pretrained import read_json
from vidgen.errors import VidgenError


@dataclass(kw_only=True)
class RunState:
    """What a run is made of at a step: `model`, its averages `ema` and its `optimizer`, and two `state_dict`s, of the
    task (tensors and plain values) and of the guard (plain values)."""

    model: nn.Module
    ema: EMAModel
    optimizer: Any
    step: int
    task: dict[str, Any]
    guard: dict[str, Any]


def checkpoint_steps(run: Path) -> list[int]:
    """The steps that `run` has a checkpoint of, ascending."""
    return sorted(int(m[1]) for p in run.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", p.name)))


def save_checkpoint(run: Path, state: RunState, keep: int) -> Path:
    """Writes `checkpoint-{step}`; there is never a moment without a whole checkpoint on disk."""
    folder = run / f"checkpoint-{state.step}"
    with atomic_write(folder) as target:
        target.mkdir()
        save_file({k: v.contiguous() for k, v in state.model.state_dict().items()}, target / "model.safetensors")
        shadow = {f"{i}": p.contiguous() for i, p in enumerate(state.ema.shadow_params)}
        save_file(shadow, target / "ema.safetensors")
        torch.save(state.optimizer.state_dict(), target / "optimizer.pt")
        if state.task:
            torch.save(state.task, target / "task.pt")
        write_progress(target, {"step": state.step, "ema_step": state.ema.optimization_step, "guard": state.guard})
    for old in checkpoint_steps(run)[:-keep]:
        drop_checkpoint(run, old)
    return folder


def drop_checkpoint(run: Path, step: int) -> None:
    """Removes the checkpoint of a step."""
    shutil.rmtree(run / f"checkpoint-{step}")


def load_checkpoint(folder: Path, model: nn.Module, ema: EMAModel, optimizer: Any) -> RunState:
    """Restores model, EMA and optimizer from `folder`; VidgenError if it does not fit the model or is damaged."""
    try:
        progress = read_json(folder / "progress.json")
        model.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
        shadow = load_file(folder / "ema.safetensors")
        ema.shadow_params = [shadow[str(i)].to(old.device) for i, old in enumerate(ema.shadow_params)]
        ema.optimization_step = progress["ema_step"]
        optimizer.load_state_dict(torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True))
        task = folder / "task.pt"
        return RunState(
            model=model,
            ema=ema,
            optimizer=optimizer,
            step=progress["step"],
            task=torch.load(task, map_location="cpu", weights_only=True) if task.is_file() else {},
            guard=progress.get("guard", {}),
        )
    except (RuntimeError, KeyError, ValueError, OSError, SafetensorError, pickle.UnpicklingError) as error:
        raise misfit(folder, error) from None


def misfit(folder: Path, error: Exception) -> VidgenError:
    """What to tell the user of a checkpoint that cannot be used."""
    reason = " ".join(str(error).split())[:200]
    return VidgenError(f"{folder} does not fit this recipe or is damaged ({reason}); use another `out`")


def write_progress(folder: Path, progress: dict[str, Any]) -> None:
    """Writes `progress.json` of a checkpoint."""
    with atomic_write(folder / "progress.json") as target:
        target.write_text(json.dumps(progress) + "\n", encoding="utf-8")


def record_guard(folder: Path, guard: dict[str, Any]) -> None:
    """Puts another guard state into a checkpoint: that a run came back to it outlasts the run's being killed."""
    write_progress(folder, {**read_json(folder / "progress.json"), "guard": guard})
