"""Folders of strangers through transformers and diffusers: the only calls of theirs that read files are here.

No code of a folder ever runs, pickled files are never opened, nothing is fetched, and whatever the libraries raise over
a damaged file is one line.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from vidgen.checkpoints.empty_weights import init_empty_weights
from vidgen.checkpoints.weight_files import POINTER, SIGNATURES
from vidgen.errors import VidgenError, explained
from vidgen.files.bounded_files import CONFIG_BYTES, check_length, check_regular, read_json

T = TypeVar("T")
CONFIG_NAME = "config.json"
VOCABULARY_BYTES = 2**28
# What a folder has beside weights, which are checked where they are read: settings, and vocabularies and their like.
SETTINGS = ("config.json", "_config.json", "index.json", "_map.json", "added_tokens.json")
NOTES = ("data_config.json",)  # sentence-transformers' list of what a model was trained on, which nobody reads
VOCABULARIES = (".json", ".model", ".txt", ".jinja", ".tiktoken", ".vocab")
# Types of JSON by those of defaults.
TYPES = {bool: bool, int: int | float, float: int | float, str: str, tuple: list | tuple, list: list | tuple}
LARGEST_SETTING = 2**20  # of a whole number; vocabularies come nearest
# Of transformers' configs: what would choose code of other places, or another form of outputs.
DROPPED = (
    *("attn_implementation", "_attn_implementation", "experts_implementation", "auto_map", "name_or_path"),
    *("output_attentions", "output_hidden_states", "return_dict", "use_return_dict", "torchscript"),
)


def check_folder(folder: Path) -> None:
    """Raise VidgenError for a file in a folder that is none, is larger than its kind, or is a git-LFS pointer."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() or path.name in NOTES or not path.name.endswith(VOCABULARIES):
            continue
        size = check_regular(path)
        check_length(path, size, CONFIG_BYTES if path.name.endswith(SETTINGS) else VOCABULARY_BYTES)
        if path.name.endswith("config.json"):
            read_json(path)
        with path.open("rb") as file:
            if file.read(64).startswith(SIGNATURES[0][0]):
                raise VidgenError(f"{path} is {POINTER}")


def from_folder(kind: Any, folder: str | os.PathLike, what: str, **settings: Any) -> Any:
    """Return what transformers' class `kind` reads in a folder; `what` is what errors say is not there.

    Raises VidgenError for a damaged folder, and for a class that is not transformers' own.
    """
    folder = Path(folder)
    check_folder(folder)
    with explained(f"{folder} holds no {what}"), quiet():
        if not folder.is_dir():
            raise VidgenError("no such folder")
        return kind.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, **settings
        )


def read_network_config(folder: Path, kinds: Mapping[str, T]) -> tuple[T, dict[str, Any]]:
    """Return which of `kinds` transformers' config.json in a folder names by its type, and its settings.

    Raises VidgenError for another, named with what its own code would be, and for settings that none has.
    """
    values = read_json(folder / CONFIG_NAME)
    name = values.get("model_type")
    if not isinstance(name, str) or name not in kinds:
        own = ", whose own code is not run" if "auto_map" in values else ""
        raise VidgenError(f"{folder} holds a {str(name)[:60]} model{own}; of its kind are read: {', '.join(kinds)}")
    with explained(str(folder / CONFIG_NAME)):
        check_numbers(values)
    return kinds[name], values


def check_numbers(values: Any, name: str = "") -> None:
    """Raise VidgenError for a number in a network's settings that no network has: it would be made, or counted to."""
    if isinstance(values, dict | list):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            check_numbers(value, f"{name}.{key}" if name else str(key))
    elif isinstance(values, int) and abs(values) > LARGEST_SETTING:
        shown = values if abs(values) < 10**20 else "a number of many digits"
        raise VidgenError(f"{name[:60]}={shown} is beyond {LARGEST_SETTING}; the config is damaged")


def plain_settings(config: Any) -> dict[str, Any]:
    """Return the settings of a class of diffusers, without its own notes, which begin with an underscore."""
    return {name: value for name, value in dict(config).items() if not name.startswith("_")}


def from_settings(kind: Any, values: Mapping[str, Any], where: Path, stored: int | None = None) -> Any:
    """Return diffusers' class `kind` with the settings in a config; a network's weights, of which `stored` are to be
    read, take no memory.

    Raises VidgenError for a setting that the class does not know, which would be lost, for a value of another type than
    its own, and for what it does not take.
    """
    settings = plain_settings(values)
    parameters = inspect.signature(kind.__init__).parameters
    if unknown := sorted(set(settings) - set(parameters)):
        raise VidgenError(f"{where}: the {kind.__name__} that is installed knows no {', '.join(unknown[:5])[:160]}")
    with explained(f"{where} makes no {kind.__name__}"):
        check_numbers(settings)
        for name, value in settings.items():
            check_type(name, value, parameters[name])
        if not issubclass(kind, nn.Module):
            return kind.from_config(settings)
        with init_empty_weights(stored):
            return kind.from_config(settings)


def check_type(name: str, value: Any, parameter: inspect.Parameter) -> None:
    """Raise VidgenError unless a setting is of the type of its default: a truth value, a number, text, or a list."""
    default = parameter.default
    annotation = str(parameter.annotation)
    if type(default) not in TYPES or (value is None and ("None" in annotation or "Optional" in annotation)):
        return
    wanted = TYPES[type(default)]
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise VidgenError(f"{name}={str(value)[:60]!r} is not of the type of {default!r}")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' loading bars and reports off the terminal: what is wrong is raised."""
    from transformers.utils import logging as theirs

    level = theirs.get_verbosity()
    bars = theirs.is_progress_bar_enabled()
    theirs.set_verbosity(logging.CRITICAL)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        theirs.set_verbosity(level)
        if bars:
            theirs.enable_progress_bar()
