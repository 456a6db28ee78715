"""`vidgen schedule` shows what trainer and sampler share; `vidgen solvers` measures, and prints what it measured."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from vidgen.diffusion.noise import DENSITIES, TimeDistribution
from vidgen.pipelines.loading import load_pipeline
from vidgen.samplers.evaluation.convergence import measure_orders
from vidgen.samplers.solvers import SAMPLERS
from vidgen.scripts.schedule import describe_time


def test_the_steps_are_those_that_the_sampler_takes(vidgen, model, monkeypatch):
    report = json.loads(vidgen("schedule", "show", model, "--json").out)
    pipe, taken = load_pipeline(str(model)), []
    monkeypatch.setitem(SAMPLERS, "euler", lambda denoise, x, times, path, **_: taken.append(times) or x)
    pipe("a star", output_type="latent")
    assert [row["t"] for row in report["steps"]] == taken[0].tolist()
    assert report["path"] == "flow" and report["time"] == pipe.scheduler.time_distribution.to_dict()
    for row in report["steps"][1:-1]:
        assert row["log_snr"] == pytest.approx(2 * torch.tensor(row["alpha"] / row["sigma"]).log().item(), abs=1e-5)
    assert report["steps"][0]["log_snr"] is None and report["steps"][-1]["log_snr"] is None
    assert [row["u"] for row in report["quantiles"]] == sorted(row["u"] for row in report["quantiles"])


def test_a_growing_shift_is_shown_for_the_size(vidgen, model, tmp_path):
    folder = tmp_path / "grown"
    pipe = load_pipeline(str(model))
    pipe.scheduler = replace(pipe.scheduler, time_distribution=TimeDistribution(frames_power=0.5, shift=1.5))
    pipe.save_pretrained(folder)
    report = json.loads(vidgen("schedule", "show", folder, "--num-frames", 13, "--json").out)
    assert report["time"]["shift"] == pytest.approx(1.5 * report["latent_frames"] ** 0.5)


def test_text_and_picture(vidgen, model, tmp_path):
    out = vidgen("schedule", "show", model, "--num-inference-steps", 4, "--plot", tmp_path / "s.png").out
    assert "predicts flow_prediction on the flow path" in out and "4 steps of euler" in out and "-inf" in out
    assert Image.open(tmp_path / "s.png").size[0] > 600
    line = vidgen("schedule", "show", model, "--plot", tmp_path / "s.txt").error
    assert "s.txt: no picture format; use one of .png, .svg, .pdf" in line


@pytest.mark.parametrize("density", DENSITIES)
def test_every_density_is_described_by_what_shapes_it(density):
    line = describe_time(TimeDistribution(density=density, shift=2.0).to_dict())
    assert line.startswith(f"{density}, ") and line.endswith("shift 2, highest 1")
    assert all(f"{name} " in line for name in DENSITIES[density])


def test_orders_are_measured(vidgen, monkeypatch):
    monkeypatch.setattr("vidgen.samplers.evaluation.convergence.STEPS", (16, 32))
    report = json.loads(vidgen("solvers", "orders", "--only", "midpoint", "--json").out)
    assert {row["path"] for row in report["rows"]} == {"flow", "cosine", "edm"}
    assert all(abs(row["measured"] - SAMPLERS["midpoint"].order) < 0.25 for row in report["rows"])
    table = vidgen("solvers", "orders", "--only", "euler").out
    assert f"{measure_orders(['euler'])[0]['measured']:.2f}" in table
    assert "choose from euler, heun" in vidgen("solvers", "orders", "--only", "magic").error


def test_the_matrix_has_every_objective_and_path(vidgen):
    report = json.loads(vidgen("solvers", "matrix", "--steps", 4, "--only", "heun", "--json").out)
    assert len({(row["objective"], row["path"]) for row in report["rows"]}) == 4 * 3 == len(report["rows"])
    assert all(row["evaluations"] <= 8 and row["error"] == max(row["errors"]) for row in report["rows"])
    assert "heun" in vidgen("solvers", "matrix", "--steps", 2, "--only", "heun").out
