"""Dataclasses of options: their fields are options of the command, and what it gets is the dataclass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from vidgen.scripts.cli.dispatch import VerbApp, dispatch
from vidgen.scripts.cli.option_sets import HardwareOptions, SamplerOptions, with_option_sets


@dataclass(frozen=True, kw_only=True)
class SpeedOptions:
    """A set with an option that must be there."""

    speed: Annotated[int, typer.Option("--speed", min=1, help="Frames a second.")]
    slow: Annotated[bool, typer.Option("--slow", help="Take it easy.")] = False


def run(command, *words: str) -> int:
    app = VerbApp()
    app.add_verb("go", command)
    return dispatch(app, ["go", *words])


def test_fields_are_options_beside_others(capsys) -> None:
    calls = []

    @with_option_sets
    def go(
        *,
        name: Annotated[str, typer.Argument(help="Whose.")],
        pace: SpeedOptions,
        sampling: SamplerOptions,
        seed: Annotated[int, typer.Option(help="A number.")] = 3,
    ) -> None:
        """Go somewhere."""
        calls.append((name, pace, sampling, seed))

    assert run(go, "x", "--speed", "2", "--sampler", "heun") == 0
    assert calls == [("x", SpeedOptions(speed=2), SamplerOptions(sampler="heun"), 3)]
    assert run(go, "x") == 2 and "Missing option '--speed'" in capsys.readouterr().err
    assert run(go, "x", "--speed", "0") == 2
    assert run(go, "--help") == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("Go somewhere.", "--speed", "--slow", "--guidance-scale", "--seed"))


def test_settings_are_the_models_own_by_default() -> None:
    sampling = SamplerOptions(guidance_scale=2.0)
    assert sampling.settings() == {"num_inference_steps": None, "guidance_scale": 2.0, "sampler": None}

    class Schedule:
        num_inference_steps = 9
        guidance_scale = 5.0
        sampler = "euler"

    assert sampling.used(Schedule()) == {"num_inference_steps": 9, "guidance_scale": 2.0, "sampler": "euler"}


def test_hardware_is_found_or_refused() -> None:
    import torch

    assert HardwareOptions(device="cpu").settings() == {"device": "cpu", "dtype": torch.float32}
    with pytest.raises(Exception, match="cannot be used here"):
        HardwareOptions(device="cuda:99").settings()
