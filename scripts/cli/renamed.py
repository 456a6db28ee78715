"""Words of the command line that have a new name: the old one still works, and a line on stderr says the new one."""

from __future__ import annotations

from typing import NamedTuple

from vidgen.scripts.cli.printing import note


class Renamed(NamedTuple):
    """An option, an option with a value, or a verb of a group; `verb` says where, None being everywhere."""

    verb: str | None
    old: tuple[str, ...]
    new: tuple[str, ...]


RENAMED = (
    Renamed(None, ("--taps",), ("--layers",)),
    Renamed(None, ("--tap",), ("--layer",)),
    Renamed(None, ("--goal",), ("--target-type",)),
    Renamed(None, ("--skip-unlabelled",), ("--skip-unlabeled",)),
    Renamed(None, ("--lenient",), ("--allow-damaged",)),
    Renamed("steer", ("--neighbours",), ("--neighbors",)),
    Renamed("steer", ("--by", "neighbours"), ("--by", "neighbors")),
    Renamed("restore", ("--task", "colourising"), ("--task", "colorization")),
    Renamed("tokenizer", ("tokenizer", "fit"), ("tokenizer", "nerv")),
    Renamed("tokenizer", ("--labelled",), ("--labeled",)),
    Renamed("bench", ("--only", "taps"), ("--only", "layers")),
)


def with_new_names(arguments: list[str]) -> list[str]:
    """Return a command line with the new name for every old one before a `--`; each is named once on stderr."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words = arguments[:end]
    verb = next((word for word in words if not word.startswith("-")), None)
    for renamed in RENAMED:
        if renamed.verb in (None, verb):
            words, is_used = replace_words(words, renamed.old, renamed.new)
            if is_used:
                note(f"warning: {' '.join(renamed.old)} is now called {' '.join(renamed.new)}")
    return words + arguments[end:]


def replace_words(words: list[str], old: tuple[str, ...], new: tuple[str, ...]) -> tuple[list[str], bool]:
    """Return the words with `new` for every run of `old`, and whether there was one; --name=value is two words."""
    words = [normalize_option(word) for word in words]
    split = words
    if old[0].startswith("--"):
        split = [part for word in words for part in (word.split("=", 1) if word.startswith(f"{old[0]}=") else [word])]
    replaced: list[str] = []
    position = 0
    while position < len(split):
        if tuple(split[position : position + len(old)]) == old:
            replaced += new
            position += len(old)
        else:
            replaced.append(split[position])
            position += 1
    return (replaced, True) if replaced != split else (words, False)


def normalize_option(word: str) -> str:
    """Return an option with dashes in its name, --a_b being --a-b, and any other word as it is."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if word.startswith("--") else word
