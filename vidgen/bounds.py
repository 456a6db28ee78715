"""What the values of a configuration may be, said in its annotations, and the one function that holds it to them.

    width: Annotated[int, Range(1, 65536)] = 64

`check_fields` reads the annotations of a dataclass: types, nested lists, mappings and dataclasses, and for numbers a
`Range`, for names a `Choice`, for lists a `Length`. omegaconf and jaxtyping see the plain types.
"""

from __future__ import annotations

import dataclasses
import reprlib
import sys
import types
from collections.abc import Collection, Mapping
from functools import cache
from numbers import Integral, Real
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from vidgen.errors import VidgenError

LARGEST = sys.float_info.max


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; `above` and `below` leave out the ends themselves."""

    low: float
    high: float
    above: bool = False
    below: bool = False

    def __contains__(self, value: Any) -> bool:
        low = self.low < value if self.above else self.low <= value
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        low = f"above {self.low:g}" if self.above else f"from {describe_number(self.low)}"
        return f"{low} {'and below' if self.below else 'to'} {describe_number(self.high)}"

    @property
    def limits(self) -> dict[str, float]:
        """The ends, in typer's words: `typer.Option(**FPS.limits)`."""
        return {"min": self.low, "max": self.high}


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of some names."""

    names: Collection[str]

    def __contains__(self, value: Any) -> bool:
        return value in tuple(self.names)

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)}"


@dataclasses.dataclass(frozen=True)
class Length:
    """Lists of `low` to `high` items."""

    low: int
    high: int

    def __contains__(self, value: Any) -> bool:
        return self.low <= len(value) <= self.high

    def __str__(self) -> str:
        return f"a list of {self.low} to {self.high} items"


# Of networks: far above what was ever trained, and low enough for their empty copies to be made in a moment.
Width = Annotated[int, Range(1, 2**16)]
NoOrWidth = Annotated[int, Range(0, 2**16)]
Depth = Annotated[int, Range(1, 1024)]
Expansion = Annotated[float, Range(0, 256, above=True)]
# Of clips.
SIDE = Range(1, 2**16)
FRAMES = Range(1, 10**7)
FPS = Range(0.001, 1000.0)
SECONDS = Range(0.001, 10.0**8)
Side = Annotated[int, SIDE]
Frames = Annotated[int, FRAMES]
Fps = Annotated[float, FPS]
# Of what is done with them.
SEED = Range(0, 2**63 - 1)
INFERENCE_STEPS = Range(1, 10_000)
GUIDANCE_SCALE = Range(0.0, 1000.0)
COUNT = Range(1, 10**9)
Seed = Annotated[int, SEED]
InferenceSteps = Annotated[int, INFERENCE_STEPS]
GuidanceScale = Annotated[float, GUIDANCE_SCALE]
Count = Annotated[int, COUNT]
NoOrCount = Annotated[int, Range(0, 10**9)]
Share = Annotated[float, Range(0.0, 1.0)]
Weight = Annotated[float, Range(0.0, 1e9)]
Rate = Annotated[float, Range(0.0, 100.0)]
Positive = Annotated[float, Range(0.0, 1e9, above=True)]


def check_fields(config: Any, where: str = "") -> None:
    """Raise VidgenError for the first field of a dataclass whose value is not one that its annotation allows.

    The line names the key, the value and what is allowed; `where` stands before it.
    """
    for name, hint in annotations_of(type(config)).items():
        check_value(getattr(config, name), hint, name, where)


@cache
def annotations_of(config_class: type) -> dict[str, Any]:
    """Return the annotation of every field of a dataclass, ranges included."""
    hints = get_type_hints(config_class, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_class)}


def check_value(value: Any, hint: Any, key: str, where: str = "") -> None:
    """Raise VidgenError unless `value` is one that the annotation `hint` allows; `key` is what the line calls it."""
    kinds = kinds_of(hint)
    if value is None and type(None) in kinds:
        return
    kind, *limits = get_args(kinds[0]) if get_origin(kinds[0]) is Annotated else (kinds[0],)
    limits = [limit for limit in limits if isinstance(limit, Range | Choice | Length)]
    origin = get_origin(kind) or kind
    if not has_type(value, origin) or not all(value in limit for limit in limits):
        choice = next((limit for limit in limits if isinstance(limit, Choice)), None)
        allowed = f"is not {describe(hint)}" if choice is None else f"is unknown; choose {choice}"
        raise VidgenError(f"{where}{key}={shorten(value)} {allowed}")
    if dataclasses.is_dataclass(origin):
        for name, inner in annotations_of(type(value)).items():
            check_value(getattr(value, name), inner, f"{key}.{name}", where)
    elif origin in (list, tuple):
        items = get_args(kind) or (Any, ...)
        if origin is list or items[-1] is Ellipsis:
            items = items[:1] * len(value)
        if len(items) != len(value):
            raise VidgenError(f"{where}{key}={shorten(value)} is not {describe(hint)}")
        for number, (item, inner) in enumerate(zip(value, items, strict=True)):
            check_value(item, inner, f"{key}.{number}", where)
    elif origin in (dict, Mapping):
        names, inner = get_args(kind) or (Any, Any)
        for name, item in value.items():
            check_value(name, names, f"a name in {key}", where)
            check_value(item, inner, f"{key}.{one_line(str(name))}", where)


def kinds_of(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, None last; of anything else, itself."""
    if get_origin(hint) not in (Union, types.UnionType):
        return (hint,)
    return tuple(sorted(get_args(hint), key=lambda kind: kind is type(None)))


def has_type(value: Any, kind: Any) -> bool:
    """Return whether a value is of a type; whole numbers are numbers, true and false are none, nor are nan and inf."""
    if kind in (int, float):
        number = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
        return number and -LARGEST <= value <= LARGEST
    if kind in (list, tuple):  # JSON and YAML have lists for both
        return isinstance(value, list | tuple)
    return kind is Any or not isinstance(kind, type) or isinstance(value, kind)


def describe(hint: Any) -> str:
    """Return in words what an annotation allows."""
    kinds = kinds_of(hint)
    kind, *limits = get_args(kinds[0]) if get_origin(kinds[0]) is Annotated else (kinds[0],)
    origin = get_origin(kind) or kind
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping"}
    words = names.get(origin, f"a {getattr(origin, '__name__', origin)}")
    if origin in (list, tuple):
        items = [item for item in get_args(kind) if item is not Ellipsis]
        words = f"a list of {len(items)} items" if origin is tuple and Ellipsis not in get_args(kind) else "a list"
        words = next((str(limit) for limit in limits if isinstance(limit, Length)), words)
        words += f", each {describe(items[0])}" if items else ""
    for limit in limits:
        if isinstance(limit, Range):
            words += f" {limit}"
        elif isinstance(limit, Choice):
            words = str(limit)
    return words + (" or none" if type(None) in kinds else "")


def describe_number(number: float) -> str:
    """Return a number as a person writes it."""
    return str(number) if isinstance(number, int) else f"{number:g}"


def one_line(name: str) -> str:
    """Return a name as it is, or, where it would not print in a line, its `repr`."""
    return name if name.isprintable() else repr(name)


def shorten(value: Any) -> str:
    """Return the `repr` of a value in few letters, whatever it is."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no number of over 4300 digits
        return "a number of thousands of digits"
