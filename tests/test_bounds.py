"""Every value of every configuration has a type and a range, and what is outside of them is named in one line."""

import dataclasses
import importlib
import math
import re
import types
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import numpy as np
import pytest

from vidgen.bounds import Choice, Length, Range, annotations_of, check_fields, check_value
from vidgen.errors import VidgenError

ROOT = Path(__file__).resolve().parents[1]
ABSURD = (
    10**18,
    -(10**18),
    10**5000,
    -1,
    0,
    0.5,
    math.nan,
    math.inf,
    -math.inf,
    1e-320,
    "x",
    "",
    True,
    None,
    [],
    [1],
    {},
)
# What other libraries' models say of themselves, whose numbers are theirs.
DERIVED = {"DenoiserConfig", "WholeClipConfig", "ExternalConfig"}


def config_classes() -> list[type]:
    """All dataclasses whose files call them a config, a recipe or settings."""
    classes = {}
    for top in ("vidgen", "tokenizers", "samplers", "train"):
        for file in sorted((ROOT / top).rglob("*.py")):
            if names := re.findall(
                r"^class (\w*(?:Config|Recipe|Settings|Distribution))\b", file.read_text(), re.MULTILINE
            ):
                inner = file.relative_to(ROOT / top).with_suffix("").parts
                prefix = ("vidgen",) if top == "vidgen" else ("vidgen", top)
                module = importlib.import_module(".".join((*prefix, *inner)))
                classes |= {name: getattr(module, name) for name in names}
    return [kind for name, kind in sorted(classes.items()) if dataclasses.is_dataclass(kind) and name not in DERIVED]


CONFIGS = config_classes()


def unbounded(hint: Any) -> list[Any]:
    """The numbers in an annotation that have no range."""
    if get_origin(hint) is Annotated:
        kind, *limits = get_args(hint)
        if kind in (int, float):
            return [] if any(isinstance(limit, Range) for limit in limits) else [kind]
        return unbounded(kind)
    if hint in (int, float):
        return [hint]
    return [kind for part in get_args(hint) for kind in unbounded(part)]


def test_every_number_of_every_config_has_a_range() -> None:
    assert len(CONFIGS) > 25
    free = {
        f"{config.__name__}.{name}": hint
        for config in CONFIGS
        for name, hint in annotations_of(config).items()
        if unbounded(hint)
    }
    assert not free


def default(config: type) -> Any:
    """An instance with defaults, and something for what has none."""
    required = {"height": 64, "width": 64, "head_dim": 32, "strides": (2,), "threshold": 0.1, "where": "file"}
    required |= {
        "task": "tokenizer",
        "out": "run",
        "codebook_sizes": (8,),
        "kind": "lora",
        "clip": (16, 64, 64),
        "fps": 8.0,
        "reads": "latents",
        "tokenizer": "default",
        "tokenizer_hash": "",
    }
    names = {f.name for f in dataclasses.fields(config) if f.default is f.default_factory is dataclasses.MISSING}
    names |= {"task", "out", "codebook_sizes"} & {f.name for f in dataclasses.fields(config)}
    return config(**{name: required[name] for name in names})


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_defaults_are_within_their_ranges_and_absurd_values_are_one_line(config: type) -> None:
    check_fields(default(config))
    for name, hint in annotations_of(config).items():
        for value in ABSURD:
            try:
                check_value(value, hint, name, "file: ")
            except VidgenError as error:
                assert str(error).startswith(f"file: {name}") and "\n" not in str(error) and len(str(error)) < 400
                if name.split(".")[0] == name and unbounded(hint) == [] and isinstance(value, float):
                    assert " is not " in str(error) or "choose one of" in str(error)


@pytest.mark.parametrize(
    ("value", "hint", "says"),
    [
        (10**18, Annotated[int, Range(1, 64)], "key=1000000000000000000 is not a whole number from 1 to 64"),
        (True, Annotated[int, Range(1, 64)], "key=True is not a whole number from 1 to 64"),
        (2.0, Annotated[int, Range(1, 64)], "key=2.0 is not a whole number from 1 to 64"),
        (math.nan, Annotated[float, Range(0.0, 1.0)], "key=nan is not a number from 0 to 1"),
        (math.inf, float, "key=inf is not a number"),
        (10**400, float, "key=.* is not a number"),
        (0, Annotated[float, Range(0.0, 1.0, above=True)], "key=0 is not a number above 0 to 1"),
        (1, Annotated[float, Range(0.0, 1.0, below=True)], "key=1 is not a number from 0 and below 1"),
        (["a"], Annotated[str, Choice(("a", "b"))], r"key=\['a'\] is unknown; choose one of a, b"),
        (4, Annotated[tuple[int, ...], Length(1, 2)], "key=4 is not a list of 1 to 2 items, each a whole number"),
        ((1, "x"), tuple[int, int], "key.1='x' is not a whole number"),
        ((1,), tuple[int, int], r"key=\(1,\) is not a list of 2 items, each a whole number"),
        ({"a": "b"}, dict[str, float], "key.a='b' is not a number"),
        ("x", Annotated[int, Range(0, 9)] | None, "key='x' is not a whole number from 0 to 9 or none"),
        (0, bool, "key=0 is not true or false"),
    ],
)
def test_what_is_not_allowed_is_named_with_its_range(value: Any, hint: Any, says: str) -> None:
    with pytest.raises(VidgenError, match=f"^{says}$"):
        check_value(value, hint, "key")


def test_what_is_allowed_passes_as_it_is() -> None:
    for value, hint in [
        (np.int64(3), Annotated[int, Range(1, 64)]),
        (3, Annotated[float, Range(1.0, 64.0)]),
        (None, Annotated[int, Range(1, 64)] | None),
        ([1, 2], tuple[int, ...]),
        (types.SimpleNamespace(), Any),
    ]:
        check_value(value, hint, "key")
