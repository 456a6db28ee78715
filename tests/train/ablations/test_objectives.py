"""The comparison of objectives: variants differ in the objective alone, measures are right where the error is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vidgen.data.writing import write_video
from vidgen.scripts.main import dispatch
from vidgen.tokenizers.diffusion_decoder.model import DiffusionTokenizer
from vidgen.train.ablations.objective_measurement import (
    add_gains,
    best_rows,
    draw_world,
    held_out_windows,
    read_labelled,
    score_clips,
)
from vidgen.train.ablations.objective_variants import (
    OBJECTIVE_VARIANTS,
    Plan,
    count_gflops,
    encoder_of,
    make_recipe,
    random_variant,
)
from vidgen.train.ablations.run import train_variant
from vidgen.train.tasks.diffusion_decoder import DiffusionTokenizerTask
from vidgen.train.tasks.tokenizer import TokenizerTask


@pytest.fixture
def plan(tmp_path: Path, waves) -> Plan:
    """Six files of 12 frames, the third and sixth held out, and eight labelled ones of four people."""
    (tmp_path / "clips").mkdir()
    for i in range(6):
        write_video(np.roll(waves(12, 24, 32), 5 * i, axis=2), tmp_path / "clips" / f"{i}.mp4", fps=8)
    rows = ["path,label,split,subject"]
    for i in range(8):
        frames = waves(12, 24, 32) if i % 2 else waves(12, 24, 32)[::-1]
        write_video(frames, tmp_path / f"labelled{i}.mp4", fps=8)
        rows.append(f"labelled{i}.mp4,{'forth' if i % 2 else 'back'},{'train' if i < 6 else 'val'},s{i // 2}")
    (tmp_path / "ways.csv").write_text("\n".join(rows) + "\n")
    small = {"preset": "tiny", "width": 32, "depth": 1, "head_dim": 16, "num_frames": 5, "size": 16, "hold_out": 3}
    return Plan(
        clips=tmp_path / "clips", out=tmp_path / "out", labelled=tmp_path / "ways.csv", fps=None, steps=2,
        batch_size=2, windows=2, shapes=50, autocast="float32", **small,
    )  # fmt: skip


def test_variants_have_the_same_encoder_clips_and_steps(plan):
    recipes = {name: make_recipe(name, plan) for name in OBJECTIVE_VARIANTS}
    kinds = {"reconstruction": TokenizerTask, "regression": DiffusionTokenizerTask, "denoising": DiffusionTokenizerTask}
    tasks = {name: kinds[name](recipe) for name, recipe in recipes.items()}
    weights = [encoder_of(task.model).encoder.state_dict() for task in tasks.values()]
    weights.append(random_variant(plan).encoder.state_dict())
    clips = [torch.stack([task.dataset[(1, slot)].video for slot in range(2)]) for task in tasks.values()]
    for one, other in zip(weights[:-1], weights[1:], strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert all(torch.equal(clips[0], other) for other in clips[1:])
    for key in ("steps", "batch_size", "seed", "autocast", "optimizer", "data"):
        assert recipes["reconstruction"].__dict__[key] == recipes["denoising"].__dict__[key], key
    # Regression and denoising are the same networks with the same weights; one field of the recipe tells them apart.
    one, other = (tasks[name].model.state_dict() for name in ("regression", "denoising"))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert isinstance(tasks["denoising"].model, DiffusionTokenizer) and tasks["denoising"].model.config.hold_first == 0


def test_held_out_files_are_not_trained_on(plan):
    names, windows = held_out_windows(plan)
    assert [Path(name).name for name in names] == ["2.mp4", "5.mp4"] and windows.shape == (2, 2, 3, 5, 16, 16)
    assert not torch.equal(windows[:, 0], windows[:, 1])  # other windows of the same files
    trained = DiffusionTokenizerTask(make_recipe("denoising", plan)).dataset.groups[0][0][0]
    assert len(trained.clips) == 4


def test_scores_are_means_over_files_of_known_errors():
    windows = torch.rand(2, 2, 3, 4, 16, 16) - 0.5
    offset = torch.tensor([0.2, 0.2, 0.02, 0.02]).reshape(4, 1, 1, 1, 1)  # 20 and 40 dB against a peak of 2
    row = score_clips("x", 1, windows.flatten(0, 1) + offset, windows)
    assert row["psnr"] == pytest.approx(30.0, abs=1e-3) and row["psnr_ci"][0] < 20 < 40 < row["psnr_ci"][1]
    assert score_clips("x", 1, windows.flatten(0, 1), windows)["ssim"] == 1.0
    rows = [score_clips("better", 1, windows.flatten(0, 1) + offset / 10, windows), row]
    add_gains(rows, "x")  # 20 dB more in each file: certain, however far files are apart
    assert rows[0]["psnr_gain"] == pytest.approx(20.0, abs=2e-3) and rows[1]["psnr_gain_ci"] == [0.0, 0.0]
    assert rows[0]["psnr_gain_ci"] == pytest.approx([20.0, 20.0], abs=0.02)


def test_operations_are_those_of_the_products():
    layer, conv = nn.Linear(8, 4), nn.Conv3d(2, 3, (1, 3, 3), padding=(0, 1, 1))
    x, video = torch.zeros(5, 8), torch.zeros(1, 2, 4, 6, 6)
    expected = 2 * 5 * 8 * 4 + 2 * (4 * 6 * 6) * 3 * 2 * 9
    assert count_gflops(lambda: (layer(x), conv(video))) == pytest.approx(expected / 1e9)


def test_labels_splits_and_people_are_kept(plan):
    labelled = read_labelled(plan)
    task = labelled.tasks["ways"]
    assert labelled.clips.shape == (8, 3, 5, 16, 16) and set(task.y) == {"back", "forth"}
    assert len(task.train) == 6 and len(task.test) == 2 and task.validation is None
    assert set(task.groups[task.train]) & set(task.groups[task.test]) == set()
    world = draw_world(plan)
    assert len(world.clips) == 50 + 16 + 33 and set(world.tasks) == {"colour", "shape", "motion"}
    parts = world.tasks["shape"]
    clips = [world.clips[rows].flatten(1) for rows in (parts.train, parts.validation, parts.test)]
    assert len(torch.unique(torch.cat(clips), dim=0)) == 99  # no clip is in two parts


def test_best_rows_look_at_validation_alone():
    head = {"variant": "a", "task": "t", "kind": "knn"}
    rows = [head | {"validation": v, "test": t} for v, t in ((0.5, 0.9), (0.6, 0.1), (0.6, 0.8))]
    assert best_rows(rows) == [rows[1]]


@pytest.mark.slow
def test_the_command_writes_tables_and_goes_on(plan, capsys):
    words = [
        "tokenizer", "compare-objectives", str(plan.clips), "-o", str(plan.out), "--labelled", str(plan.labelled),
        "--preset", "tiny", "--width", "32", "--depth", "1", "--head-dim", "16", "--num-frames", "5", "--size", "16",
        "--hold-out", "3", "--shapes", "50", "--steps", "2", "--batch-size", "2", "--fps", "8", "--device", "cpu",
    ]  # fmt: skip
    assert dispatch(words) == 0
    report = json.loads((plan.out / "objectives.json").read_text())
    assert "PSNR" in capsys.readouterr().out
    budget = {row["variant"]: row for row in report["budget"]}
    assert list(budget) == list(OBJECTIVE_VARIANTS) and all(row["seconds"] is not None for row in budget.values())
    assert len({row["encoder_parameters"] for row in budget.values()}) == 1
    same = ("decoder_parameters", "encode_gflop", "decode_gflop_a_step", "train_gflop_a_clip")
    assert all(budget["regression"][key] == budget["denoising"][key] for key in same)
    steps = [(row["variant"], row["steps"]) for row in report["decoding"]["rows"]]
    assert steps[:3] == [("mean colour", 0), ("reconstruction", 1), ("regression", 1)] and ("denoising", 16) in steps
    probes = {(row["variant"], row["task"], row["kind"]): row for row in report["probes"]}
    for variant in (*OBJECTIVE_VARIANTS, "random", "raw_pixels", "frame_differences"):
        assert {(variant, task, kind) for task in ("ways", "motion") for kind in ("knn", "linear")} <= set(probes)
    wanted = {"tap", "noise_level", "pool", "kind", "task", "metric", "validation", "test", "ci", "baseline"}
    assert all(wanted <= set(row) for row in report["sweep"])
    assert probes[("random", "ways", "knn")]["baseline"] and not probes[("denoising", "ways", "knn")]["baseline"]
    text = (plan.out / "objectives.md").read_text()
    assert "| denoising | 16 |" in text and "| majority |" in text and "ways, linear" in text
    same_plan = Plan(
        **report["settings"] | {key: Path(report["settings"][key]) for key in ("clips", "out", "labelled")}
    )
    before = {p: p.stat().st_mtime_ns for p in plan.out.glob("*/final/*.safetensors")}
    finals = [train_variant(make_recipe(name, same_plan)) for name in OBJECTIVE_VARIANTS]
    assert finals == [plan.out / name / "final" for name in OBJECTIVE_VARIANTS]
    assert len(before) == 3 and all(p.stat().st_mtime_ns == time for p, time in before.items())  # not trained again
    assert dispatch([*words, "--batch-size", "3"]) == 2 and "with another" in capsys.readouterr().err
    assert dispatch([*words[:2], str(plan.clips / "none")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
