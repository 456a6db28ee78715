"""The measure of control on clips whose path is known: the world's own clip is on its path, a still one is not."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vidgen.data.shapes import ShapeWorldConfig, render
from vidgen.pipelines.evaluation import control_scores
from vidgen.pipelines.evaluation.control_scores import CONTROLS, draw_edit_case, draw_path_case, score_control
from vidgen.pipelines.scheduler_config import SchedulerConfig

CONFIG = ShapeWorldConfig(split="held_out")
PIPE = SimpleNamespace(scheduler=SchedulerConfig())


def test_cases_are_functions_of_seed_and_number():
    one, again, other = (draw_path_case(CONFIG, seed, 3) for seed in (0, 0, 1))
    assert one.trajectory == again.trajectory and one.prompt == again.prompt
    assert one.trajectory != other.trajectory and len(one.trajectory.points) == 3
    assert one.source.objects[0].colour != one.colour and one.source.objects[0].shape in one.prompt
    assert torch.equal(torch.from_numpy(one.source.objects[0].position), one.trajectory.positions(17))


def test_an_edit_asks_for_another_colour_and_nothing_else():
    for i in range(8):
        case = draw_edit_case(CONFIG, 0, i)
        words = list(zip(case.source_prompt.split(), case.prompt.split(), strict=True))[1:]  # after "a" or "an"
        assert [pair for pair in words if pair[0] != pair[1]] == [(case.source.objects[0].colour, case.colour)]


@pytest.mark.parametrize("moves", [True, False])
def test_the_worlds_own_clip_is_on_the_path_and_a_still_is_not(monkeypatch, moves):
    def show(run):
        frames = run.source if moves else np.repeat(run.source[:1], len(run.source), axis=0)
        return SimpleNamespace(frames=[frames])

    def show_aside(run):
        return SimpleNamespace(frames=[np.roll(run.source, 4, axis=2)])

    monkeypatch.setitem(CONTROLS, "aside", show_aside)
    aside = score_control(PIPE, "aside", 2)
    assert 3.5 < aside["distance"]["mean"] < 4.5 and aside["motion"]["mean"] < 0.5  # on a path beside it
    monkeypatch.setitem(CONTROLS, "shown", show)
    score = score_control(PIPE, "shown", 2)
    assert score["seen"] == 1.0 and score["colour"] == 0.0 and score["shape"] == 1.0  # it is of another colour
    assert score["distance"]["mean"] < 0.5 if moves else score["distance"]["mean"] > 8.0
    assert score["motion"]["mean"] < 0.5 if moves else score["motion"]["mean"] > 8.0


def test_every_control_has_a_name_that_the_help_explains():
    from vidgen.scripts.evaluate.control import control

    assert all(name in control.__doc__ for name in control_scores.CONTROLS)
    assert render(draw_path_case(CONFIG, 0, 0).source, CONFIG).shape == (17, 64, 64, 3)
