"""A run from outside: its folder and resolved recipe, whether a command may go on with it, and Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vidgen.errors import VidgenError
from vidgen.train.config import LoopConfig
from vidgen.train.config.aliases import read_former_words
from vidgen.train.runtime.checkpoints import checkpoint_steps

# What may differ when a run goes on: where and how often it writes and when it gives up, not what it computes.
FREE_KEYS = ("out", "log_every", "validate_every", "checkpoint_every", "keep_checkpoints", "max_minutes", "guard")


def open_run(config: LoopConfig) -> Path:
    """Return the run's folder with its resolved recipe in it.

    Raises VidgenError for the folder of another recipe: no run is overwritten.
    """
    run = Path(config.out)
    recorded = run / "config.yaml"
    written = OmegaConf.create(OmegaConf.to_yaml(OmegaConf.structured(config)))
    now = read_former_words(written, recorded, warn=False)
    try:
        run.mkdir(parents=True, exist_ok=True)
        if recorded.exists() and checkpoint_steps(run):
            before = read_former_words(OmegaConf.load(recorded), recorded, warn=False)
            try:  # keys that the recorded recipe is too old to have stand at their defaults
                whole = OmegaConf.merge(OmegaConf.structured(type(config)), before)
                before = OmegaConf.create(OmegaConf.to_yaml(whole))
            except OmegaConfBaseException:
                pass
            changed = [k for k in now if k not in FREE_KEYS and before.get(k) != now[k]]
            if changed:
                keys = ", ".join(changed)
                raise VidgenError(f"{run} holds a run with another {keys} (see {recorded}); choose another out=FOLDER")
        recorded.write_text(OmegaConf.to_yaml(now), encoding="utf-8")
    except OSError as error:
        raise VidgenError(f"cannot write the run to {run}: {error.strerror}; choose another out=FOLDER") from None
    return run


@contextmanager
def interruptible() -> Iterator[list[bool]]:
    """Turn the first Ctrl-C into a flag, so that a step is finished and saved; the second one interrupts at once."""
    stops: list[bool] = []

    def stop(*_: object) -> None:
        if stops:
            raise KeyboardInterrupt
        stops.append(True)

    try:
        before = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not in the main thread: Ctrl-C does not arrive here
        yield stops
        return
    try:
        yield stops
    finally:
        signal.signal(signal.SIGINT, before)
