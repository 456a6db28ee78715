"""Checkpoints of a run: `checkpoint-N/` holds all that step N + 1 needs; written aside, renamed, the oldest removed.

The main model's files lie in the folder itself, those of each other role in a folder below it of the role's name.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from vidgen.checkpoints.atomic import atomic_write
from vidgen.checkpoints.bounded_files import read_json
from vidgen.errors import VidgenError
from vidgen.train.runtime.roles import MAIN, RunningRole


@dataclass(frozen=True, kw_only=True)
class RunState:
    """What a run holds at a step beside its roles: two `state_dict`s, of the task (tensors and plain values) and of the
    divergence monitor (plain values)."""

    step: int
    task: dict[str, Any]
    monitor: dict[str, Any]


def checkpoint_steps(run: Path) -> list[int]:
    """Return the steps that `run` has a checkpoint of, ascending."""
    return sorted(int(m[1]) for p in run.glob("checkpoint-*") if (m := re.fullmatch(r"checkpoint-(\d+)", p.name)))


def save_checkpoint(run: Path, roles: Sequence[RunningRole], state: RunState, keep: int) -> Path:
    """Write `checkpoint-{step}` and return it; there is never a moment without a whole checkpoint on disk."""
    folder = run / f"checkpoint-{state.step}"
    with atomic_write(folder) as target:
        target.mkdir()
        ema_steps = {}
        for role in roles:
            if role.is_saved:
                save_role(folder_of(target, role), role)
            if role.ema is not None:
                ema_steps[role.name] = role.ema.optimization_step
        if state.task:
            torch.save(state.task, target / "task.pt")
        # "guard" is what the monitor was called when the file was first written.
        write_progress(target, {"step": state.step, "ema_steps": ema_steps, "guard": state.monitor})
    for old in checkpoint_steps(run)[:-keep]:
        drop_checkpoint(run, old)
    return folder


def folder_of(checkpoint: Path, role: RunningRole) -> Path:
    """Return where a checkpoint holds a role's files."""
    return checkpoint if role.name == MAIN else checkpoint / role.name


def save_role(folder: Path, role: RunningRole) -> None:
    """Write a role's weights and, where it has them, its averaged weights and its optimizer."""
    folder.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in role.module.state_dict().items()}, folder / "model.safetensors")
    if role.ema is not None:
        averages = {f"{i}": p.contiguous() for i, p in enumerate(role.ema.shadow_params)}
        save_file(averages, folder / "ema.safetensors")
    if role.optimizer is not None:
        torch.save(role.optimizer.state_dict(), folder / "optimizer.pt")


def load_role(folder: Path, role: RunningRole, ema_step: int) -> None:
    """Restore what `save_role` wrote."""
    role.module.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
    if role.ema is not None:
        averages = load_file(folder / "ema.safetensors")
        role.ema.shadow_params = [averages[str(i)].to(p.device) for i, p in enumerate(role.ema.shadow_params)]
        role.ema.optimization_step = ema_step
    if role.optimizer is not None:
        role.optimizer.load_state_dict(torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True))


def drop_checkpoint(run: Path, step: int) -> None:
    """Remove the checkpoint of a step."""
    shutil.rmtree(run / f"checkpoint-{step}")


def load_checkpoint(folder: Path, roles: Sequence[RunningRole]) -> RunState:
    """Restore all roles from `folder`, and return the rest; VidgenError if it does not fit them or is damaged."""
    try:
        progress = read_json(folder / "progress.json")
        ema_steps = progress["ema_steps"] if "ema_steps" in progress else {MAIN: progress["ema_step"]}
        path = folder / "task.pt"
        task = torch.load(path, map_location="cpu", weights_only=True) if path.is_file() else {}
        for role in roles:
            if role.is_saved and role.name == "discriminator" and not folder_of(folder, role).is_dir():
                load_former_game(role, task["adversary"])
            elif role.is_saved:
                load_role(folder_of(folder, role), role, ema_steps.get(role.name, 0))
        return RunState(step=progress["step"], task=task, monitor=progress.get("guard", {}))
    except (RuntimeError, KeyError, ValueError, OSError, SafetensorError, pickle.UnpicklingError) as error:
        raise misfit(folder, error) from None


def load_former_game(role: RunningRole, game: dict[str, Any]) -> None:
    """Restore discriminators from a checkpoint of before there were roles, where the task's state held them."""
    parts = ("discriminators", "anchors")
    weights = {f"{part}.{name}": value for part in parts for name, value in game[part].items()}
    role.module.load_state_dict(weights, strict=True)
    positions = {id(p): i for i, p in enumerate(role.parameters)}  # their optimizer had one group, in this order
    former = game["optimizer"]["state"]
    state = role.optimizer.state_dict()
    grouped = [p for group in role.optimizer.param_groups for p in group["params"]]
    state["state"] = {i: former[positions[id(p)]] for i, p in enumerate(grouped) if positions[id(p)] in former}
    role.optimizer.load_state_dict(state)


def misfit(folder: Path, error: Exception) -> VidgenError:
    """Return what to tell the user of a checkpoint that cannot be used."""
    reason = " ".join(str(error).split())[:200]
    return VidgenError(f"{folder} does not fit this recipe or is damaged ({reason}); use another `out`")


def write_progress(folder: Path, progress: dict[str, Any]) -> None:
    """Write `progress.json` of a checkpoint."""
    with atomic_write(folder / "progress.json") as target:
        target.write_text(json.dumps(progress) + "\n", encoding="utf-8")


def record_monitor(folder: Path, monitor: dict[str, Any]) -> None:
    """Put another monitor state into a checkpoint: that a run came back to it outlasts the run's being killed."""
    write_progress(folder, {**read_json(folder / "progress.json"), "guard": monitor})
