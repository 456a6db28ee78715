"""A run from outside: its folder and resolved recipe, whether a command may go on with it, and signals to end it."""

from __future__ import annotations

import re
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vidgen.errors import ENDING_SIGNALS, Interrupted, VidgenError
from vidgen.files.atomic import atomic_write, sweep
from vidgen.files.json_lines import read_json_lines, write_json_lines
from vidgen.models.placement import fast_precision
from vidgen.train.config import LoopConfig
from vidgen.train.config.aliases import read_former_words
from vidgen.train.runtime.checkpoints import checkpoint_steps, set_damaged_aside
from vidgen.train.runtime.distributed import is_rank_zero

# What may differ when a run goes on: where, how and how often it reads and writes and when it gives up, not what it
# computes. Its number of steps may too, as long as it has not made more.
FREE_KEYS = (
    "out",
    "device",
    "log_every",
    "validate_every",
    "checkpoint_every",
    "keep_checkpoints",
    "max_minutes",
    "guard",
)
FREE_DATA = re.compile(r"data\.(workers|sources\.\d+\.path)")


def open_run(config: LoopConfig) -> Path:
    """Return the run's folder with its resolved recipe in it.

    Checkpoints that are damaged are set aside, with a warning each, and the log ends where the newest of the others
    does. Raises VidgenError for the folder of another
    recipe: no run is overwritten.
    """
    run = Path(config.out)
    recorded = run / "config.yaml"
    written = OmegaConf.create(OmegaConf.to_yaml(OmegaConf.structured(config)))
    now = read_former_words(written, recorded, warn=False)
    try:
        run.mkdir(parents=True, exist_ok=True)
        sweep(run)
        if recorded.exists() and checkpoint_steps(run):
            before = read_former_words(OmegaConf.load(recorded), recorded, warn=False)
            try:  # keys that the recorded recipe is too old to have stand at their defaults
                whole = OmegaConf.merge(OmegaConf.structured(type(config)), before)
                before = OmegaConf.create(OmegaConf.to_yaml(whole))
            except OmegaConfBaseException:
                pass
            if changed := list_changes(before, now):
                raise VidgenError(
                    f"{run} holds a run with another {'; '.join(changed)} (see {recorded}): leave that as it was, or "
                    "choose another out=FOLDER"
                )
        if is_rank_zero():
            for line in set_damaged_aside(run):
                warnings.warn(line, stacklevel=2)
        done = max(checkpoint_steps(run), default=0)
        if is_rank_zero():
            cut_log(run, done)
        if config.steps < done:
            warnings.warn(f"{run} has made {done} steps already, and steps={config.steps}: none is left", stacklevel=2)
            return run
        with atomic_write(recorded) as target:
            target.write_text(OmegaConf.to_yaml(now), encoding="utf-8")
    except OSError as error:
        raise VidgenError(f"cannot write the run to {run}: {error.strerror}; choose another out=FOLDER") from None
    return run


def cut_log(run: Path, step: int) -> None:
    """Take off the end of metrics.jsonl what lies behind the checkpoint of `step`: a run that goes on makes it again.

    What a rollback left behind is the run's history, and stays.
    """
    log = run / "metrics.jsonl"
    rows = [row for _, row in read_json_lines(log, cut_short="any")] if log.is_file() else []
    count = len(rows)
    while rows and rows[-1].get("step") not in range(step + 1) and not (step and "event" in rows[-1]):
        rows.pop()
    if log.is_file() and (len(rows) < count or not log.read_bytes().endswith(b"\n")):
        write_json_lines(log, rows)


def settle_autocast(config: LoopConfig) -> None:
    """Replace `autocast` "auto" by what the run in the folder began with, or else by what the device is fast in."""
    if config.autocast != "auto":
        return
    with suppress(Exception):  # a new run has no record, and a damaged one is named later
        config.autocast = OmegaConf.load(Path(config.out) / "config.yaml").autocast
        return
    config.autocast = fast_precision(config.device)


def list_changes(before: DictConfig, now: DictConfig) -> list[str]:
    """Return "key: old value, now new value" for each key of a run that may not change, as far as it has."""
    old, new = (flatten(OmegaConf.to_container(recipe)) for recipe in (before, now))
    keys = [key for key in {**new, **old} if key.split(".")[0] not in (*FREE_KEYS, "steps")]
    changed = [key for key in keys if old.get(key) != new.get(key) and not FREE_DATA.fullmatch(key)]
    return [f"{key}: {old.get(key, 'none')}, now {new.get(key, 'none')}" for key in changed]


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Return the plain values of nested mappings and lists by their dotted names, as recipes are overridden by."""
    if not isinstance(value, dict | list) or not value:
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {k: v for key, item in items for k, v in flatten(item, f"{name}.{key}" if name else str(key)).items()}


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into its number in a list, so that a step is finished and saved; the
    second one interrupts at once."""
    stops: list[int] = []

    def stop(number: int, _: object) -> None:
        stops.append(number)
        if len(stops) > 1:
            raise Interrupted(number)

    try:
        before = {signal.SIGINT: signal.signal(signal.SIGINT, stop)}
        heard = [number for number in ENDING_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        before |= {number: signal.signal(number, stop) for number in heard}
    except ValueError:  # not in the main thread: signals do not arrive here
        yield stops
        return
    try:
        yield stops
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
