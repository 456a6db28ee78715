"""Every number of every verb has a range that its help states, and what is outside of it is refused in one line."""

import re
from collections.abc import Iterator

import pytest
import typer

from vidgen.bounds import INFERENCE_STEPS
from vidgen.errors import VidgenError
from vidgen.scripts.cli.memory import parse_bytes
from vidgen.scripts.cli.options import parse_counts, parse_numbers, parse_size
from vidgen.scripts.main import app, dispatch

NUMBERS = (int, float, list[int], list[float])
NEVER = ("nan", "inf", "-inf", "1e308", "1e400", str(10**20))  # of no option


def commands(command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield every verb's words, with its command."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))
    if not getattr(command, "commands", None):
        yield words, command


def is_number(parameter: object) -> bool:
    """Whether a parameter is a number, whatever typer calls the field that says so."""
    return any(getattr(value, "annotation", None) in NUMBERS for value in vars(parameter).values())


VERBS = dict(commands(app.to_command()))
OPTIONS = [(words, p) for words, command in VERBS.items() for p in command.params if is_number(p)]


def test_every_number_of_every_verb_has_a_range() -> None:
    assert len(OPTIONS) > 100
    assert not [(words, p.name) for words, p in OPTIONS if p.min is None or p.max is None or p.min >= p.max]
    assert not [(words, p.name) for words, p in OPTIONS if p.default is not None and not p.min <= p.default <= p.max]


@pytest.mark.parametrize("words", list(VERBS), ids=" ".join)
def test_numbers_outside_of_the_range_are_refused(words: tuple[str, ...]) -> None:
    command = VERBS[words]
    for option in (parameter for parameter in command.params if is_number(parameter)):
        flag = max(option.opts, key=len)
        for value in (*NEVER, f"{option.min - 1}", f"{option.max * 2}", "", "x"):
            arguments = [f"{flag}={value}"] if flag.startswith("-") else ["--", value]
            with pytest.raises(typer.TyperException) as error:
                command.make_context(words[-1], arguments)
            assert option.name in repr(error.value.param.name), (option.name, value)


@pytest.mark.parametrize("value", [*NEVER, "-1", "1001"])
def test_the_line_names_the_option_and_what_it_may_be(value: str, capsys: pytest.CaptureFixture) -> None:
    assert dispatch(["sample", "a red circle", f"--guidance-scale={value}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error:") and "--guidance-scale" in line and "from 0 to 1000" in line


def test_help_states_the_range(capsys) -> None:
    assert dispatch(["sample", "--help"]) == 0
    text = re.sub(r"\s+", "", capsys.readouterr().out)
    assert f"1<=x<={INFERENCE_STEPS.high}" in text


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "0.1,nan", "1e308", "1e400", "x", "9" * 400])
def test_lists_of_numbers_are_finite(text: str) -> None:
    with pytest.raises(VidgenError, match="--noise-levels"):
        parse_numbers(text, "--noise-levels")
    with pytest.raises(VidgenError, match="--k"):
        parse_counts(text, "--k")


@pytest.mark.parametrize("text", ["0", "-1", "nan", "64x0", "99999999999999999999", "65537", "64x" + "9" * 5000, ""])
def test_sizes_have_bounds(text: str) -> None:
    with pytest.raises(VidgenError, match="--size .* from 1 to 65536"):
        parse_size(text)


@pytest.mark.parametrize("text", ["1e400", "nan", "inf", "-1", "0", "9" * 500, "1e-320", ""])
def test_amounts_of_memory_have_bounds(text: str) -> None:
    with pytest.raises(VidgenError, match="--max-memory .* is not an amount of memory"):
        parse_bytes(text)
