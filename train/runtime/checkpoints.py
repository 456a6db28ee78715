"""Checkpoints of a run: `checkpoint-N/` holds all that step N + 1 needs; written aside, renamed, the oldest removed.

Its progress.json says which files belong to it, by size and SHA-256: one that is damaged is set aside, and the run goes
on from the one before.
The main model's files lie in the folder itself, those of each other role in a folder below it of the role's name.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vidgen.checkpoints.hashing import json_hash
from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.files.bounded_files import read_json
from vidgen.files.checksums import sum_file
from vidgen.files.interrupts import signals_held
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
        progress = {"step": state.step, "ema_steps": ema_steps, "guard": state.monitor}
        write_progress(target, progress | {"files": list_files(target)})
    for old in checkpoint_steps(run)[:-keep]:
        drop_checkpoint(run, old)
    return folder


def folder_of(checkpoint: Path, role: RunningRole) -> Path:
    """Return where a checkpoint holds a role's files."""
    return checkpoint if role.name == MAIN else checkpoint / role.name


def save_role(folder: Path, role: RunningRole) -> None:
    """Write a role's weights and, where it has them, its averaged weights and its optimizer."""
    folder.mkdir(exist_ok=True)
    save_file(unshared(role.module.state_dict()), folder / "model.safetensors")
    if role.ema is not None:
        averages = {f"{i}": p.contiguous() for i, p in enumerate(role.ema.shadow_params)}
        save_file(averages, folder / "ema.safetensors")
    if role.optimizer is not None:
        torch.save(role.optimizer.state_dict(), folder / "optimizer.pt")


def unshared(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a module's state with a copy of what it has under a second name, as files of safetensors need it."""
    memory: set[int] = set()
    tensors = {}
    for name, value in state.items():
        place = value.untyped_storage().data_ptr()
        tensors[name] = value.clone(memory_format=torch.contiguous_format) if place in memory else value.contiguous()
        memory.add(place)
    return tensors


def load_role(folder: Path, role: RunningRole, ema_step: int) -> None:
    """Restore what `save_role` wrote."""
    with signals_held():
        weights = load_file(folder / "model.safetensors")
        averages = load_file(folder / "ema.safetensors") if role.ema is not None else {}
    role.module.load_state_dict(weights, strict=True)
    if role.ema is not None:
        role.ema.shadow_params = [averages[str(i)].to(p.device) for i, p in enumerate(role.ema.shadow_params)]
        role.ema.optimization_step = ema_step
    if role.optimizer is not None:
        role.optimizer.load_state_dict(torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True))


def list_files(folder: Path) -> dict[str, list]:
    """Return [size, SHA-256] of every file in a folder, by its path there."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): [file.stat().st_size, sum_file(file)] for file in files}


def find_damage(folder: Path) -> str:
    """Return what is wrong with the files of a checkpoint; "" where they are as they were written.

    Those of earlier versions, which have no sums, are only looked at for being cut short.
    """
    try:
        progress = read_json(folder / "progress.json")
        if progress["step"] != int(folder.name.rpartition("-")[2]):
            return "progress.json is of another step"
        if "hash" in progress and progress.pop("hash") != json_hash(progress):
            return "progress.json is not as it was written"
        present = list_files(folder) if "files" in progress else {}
    except (VidgenError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return "progress.json cannot be read"
    for name, stamp in progress.get("files", {}).items():
        if present.get(name) != stamp:
            return f"{name} is {'not as it was written' if name in present else 'missing'}"
    if "files" not in progress:
        for file in folder.rglob("*"):
            if file.suffix == ".pt" and not zipfile.is_zipfile(file):
                return f"{file.name} is cut short"
            if file.suffix == ".safetensors" and not is_whole(file):
                return f"{file.name} is cut short"
        if not (folder / "model.safetensors").is_file():
            return "model.safetensors is missing"
    return ""


def is_whole(file: Path) -> bool:
    """Return whether a safetensors file is as long as its header says."""
    try:
        with safe_open(file, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False


def set_damaged_aside(run: Path) -> list[str]:
    """Rename the newest checkpoints as far as they are damaged, and return a line on each.

    Raises VidgenError, and renames none, where no other is left.
    """
    damage: dict[int, str] = {}
    steps = checkpoint_steps(run)
    for step in reversed(steps):
        problem = find_damage(run / f"checkpoint-{step}")
        if not problem:
            break
        damage[step] = problem
    if damage and len(damage) == len(steps):
        step, problem = next(iter(damage.items()))
        raise VidgenError(
            f"{run}/checkpoint-{step} is damaged ({problem}), and there is no good one before it; put it back from a "
            "copy, or choose another out=FOLDER"
        )
    lines: list[str] = []
    for step, problem in damage.items():
        folder = run / f"checkpoint-{step}"
        aside = run / f"damaged-{folder.name}"
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        lines.append(f"{folder} is damaged ({problem}); it is now {aside.name}, and the run goes on from one before")
    return lines


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
    """Write `progress.json` of a checkpoint, with a hash of what it says."""
    progress = {key: value for key, value in progress.items() if key != "hash"}
    progress = json.loads(json.dumps(progress))
    progress |= {"hash": json_hash(progress)}
    with atomic_write(folder / "progress.json") as target:
        target.write_text(json.dumps(progress) + "\n", encoding="utf-8")


def record_monitor(folder: Path, monitor: dict[str, Any]) -> None:
    """Put another monitor state into a checkpoint: that a run came back to it outlasts the run's being killed."""
    write_progress(folder, {**read_json(folder / "progress.json"), "guard": monitor})
