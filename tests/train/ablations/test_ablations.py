"""Comparisons: one budget for all, measured on clips that nobody trained on, kept and gone on with."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.tokenizers.bottlenecks import BOTTLENECKS
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.ablations import run
from vidgen.train.ablations.measurement import count_parameters
from vidgen.train.ablations.run import compare
from vidgen.train.ablations.variants import held_out_records, load_comparison
from vidgen.train.config.files import load_recipe, shipped_comparisons, shipped_recipes
from vidgen.train.data.sources import Mixture, source_records
from vidgen.train.tasks.tokenizer import build_tokenizer

FILE = """
task: tokenizer
preset: tiny
steps: 2
batch_size: 2
autocast: float32
log_every: 1
model: {{latent_channels: 4}}
data:
  num_frames: 3
  size: [16, 16]
  validation_clips: 1
  sources: [{{kind: clips, path: {clips}, short_side: 16, hold_out: 2}}]
evaluation: {{num_frames: 5, size: [16, 16], steps: [1.0, 0.5], step: 0.5}}
variants:
  kl: {{}}
  fsq: {{model: {{bottleneck: fsq, levels: [4, 4, 4, 4]}}}}
"""


@pytest.fixture
def clips(make_video: Callable, waves: Callable, tmp_path: Path) -> Path:
    """Five clips of 6 frames, of which every second is held out."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for k, name in enumerate("abcde"):
        make_video(waves(6 + k, 24, 32), f"{name}.mp4").rename(folder / f"{name}.mp4")
    return folder


@pytest.fixture
def file(clips: Path, tmp_path: Path) -> Path:
    path = tmp_path / "compare_two.yaml"
    path.write_text(FILE.format(clips=clips), encoding="utf-8")
    return path


@pytest.mark.slow
def test_two_variants_are_trained_and_measured(file: Path, tmp_path: Path) -> None:
    out, said = tmp_path / "out", []
    comparison = load_comparison(str(file), out)
    report = compare(comparison, out, say=said.append)
    assert json.loads((out / "results.json").read_text("utf-8")) == report and report["failed"] == []
    assert report["budget"]["clips"] == 4 and [Path(clip).name for clip in report["held_out"]] == ["b.mp4", "d.mp4"]
    kl, fsq = report["variants"]
    assert (kl["name"], fsq["name"]) == ("kl", "fsq") and fsq["tokenizer"] == "fsq_causal_4x8x8_256"
    assert [p["name"] for p in kl["points"]] == ["step 1", "step 0.5", "bfloat16"] and kl["point"] == "step 0.5"
    assert kl["usage"] is None and "continuous" in kl["usage_left_out"]
    # Two latent frames of 2x2 tokens of 8 bits, for 5 frames of 16x16.
    (tokens,) = fsq["points"]
    assert tokens["raw_bpp"] == pytest.approx(8 * 8 / (5 * 16 * 16)) and 0 < tokens["entropy_bpp"] < tokens["raw_bpp"]
    assert tokens["psnr"] == pytest.approx(fsq["mean"]["psnr"], abs=1e-3)
    low, high = tokens["ci"]["psnr"]
    assert low < tokens["psnr"] < high
    assert fsq["usage"]["tokens"] == 16 and fsq["usage"]["reachable"] == 16 / 256
    for row in (kl, fsq):
        assert row["train"]["clips"] == 4 and row["train"]["seconds"] > 0 and row["train"]["rollbacks"] == 0
        assert row["parameters"]["total"] == sum(row["parameters"][p] for p in ("encoder", "bottleneck", "decoder"))
    table = (out / "table.md").read_text("utf-8")
    assert "| kl |" in table and "| fsq |" in table and "2 steps of 2 clips" in table and "b.mp4, d.mp4" in table


@pytest.mark.slow
def test_finished_variants_are_kept_and_stopped_ones_go_on(file: Path, tmp_path: Path, monkeypatch) -> None:
    out, said, trained, real = tmp_path / "out", [], [], run.train

    def stop_at_fsq(recipe):
        trained.append(Path(recipe.out).name)
        if trained == ["kl", "fsq"]:
            raise KeyboardInterrupt
        return real(recipe)

    monkeypatch.setattr(run, "train", stop_at_fsq)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on from there"):
        compare(load_comparison(str(file), out), out)
    first = json.loads((out / "results.json").read_text("utf-8"))
    assert [row["name"] for row in first["variants"]] == ["kl"]
    kept = (out / "kl" / "result.json").stat().st_mtime_ns
    report = compare(load_comparison(str(file), out), out, say=said.append)
    assert trained == ["kl", "fsq", "fsq"] and "kl (1 of 2): there already" in said
    assert (out / "kl" / "result.json").stat().st_mtime_ns == kept and report["variants"][0] == first["variants"][0]
    # Another way of measuring measures again, and trains nothing again.
    file.write_text(file.read_text("utf-8").replace("num_frames: 5", "num_frames: 6"), "utf-8")
    again = compare(load_comparison(str(file), out), out, only=["kl"])
    assert len(trained) == 3 and [row["name"] for row in again["variants"]] == ["kl"]
    assert again["variants"][0]["clips"][0]["frames"] == 6


@pytest.mark.slow
def test_a_variant_that_breaks_down_does_not_stop_the_others(file: Path, tmp_path: Path, monkeypatch) -> None:
    real = run.train

    def break_kl(recipe):
        if Path(recipe.out).name == "kl":
            raise VidgenError("loss nan is not finite")
        return real(recipe)

    monkeypatch.setattr(run, "train", break_kl)
    out = tmp_path / "out"
    report = compare(load_comparison(str(file), out), out)
    assert report["failed"] == [{"name": "kl", "reason": "loss nan is not finite"}]
    assert [row["name"] for row in report["variants"]] == ["fsq"]
    assert "kl is missing: loss nan" in (out / "table.md").read_text("utf-8")
    with pytest.raises(VidgenError, match="no variant came through; kl: loss nan"):
        compare(load_comparison(str(file), tmp_path / "one"), tmp_path / "one", only=["kl"])


def test_all_train_on_the_same_batches_and_never_on_the_held_out_clips(file: Path, tmp_path: Path) -> None:
    comparison = load_comparison(str(file), tmp_path / "out")
    one, two = (Mixture(recipe.data, recipe.seed) for recipe in comparison.variants.values())
    assert all(torch.equal(one[(step, 1)].video, two[(step, 1)].video) for step in range(5))
    held = {record.path.name for record in held_out_records(comparison.recipe.data, file)}
    trained = {record.path.name for record in source_records(comparison.recipe.data.sources[0], "train")}
    assert held == {"b.mp4", "d.mp4"} and trained == {"a.mp4", "c.mp4", "e.mp4"}


def test_other_clips_and_settings_for_every_variant(file: Path, clips: Path, tmp_path: Path) -> None:
    comparison = load_comparison("compare_bottlenecks", tmp_path / "out", clips=clips, overrides=["steps=7"])
    for recipe in comparison.variants.values():
        assert recipe.steps == 7 and [source.path for source in recipe.data.sources] == [str(clips)]


MISTAKES = {
    "unknown key": ("steps: 2", "stepz: 2", "stepz"),
    "unknown inner key": ("levels: [4, 4, 4, 4]}", "levels: [4, 4, 4, 4], colour: red}", "'fsq': model.colour"),
    "key of a variant": ("kl: {{}}", "kl: {{colour: red}}", "variant 'kl': .*colour"),
    "key of the evaluation": ("num_frames: 5", "frames: 5", "frames"),
    "another budget": ("kl: {{}}", "kl: {{steps: 3}}", "variant 'kl' changes steps"),
    "another order": ("kl: {{}}", "kl: {{seed: 3}}", "variant 'kl' changes seed"),
    "time for a budget": ("steps: 2", "steps: 2\nmax_minutes: 1", "max_minutes=1"),
    "rounding": ("step: 0.5", "step: 0.25", "must be above 0 and hold evaluation.step, 0.25"),
    "no variants": ("variants:", "tables:", "needs `variants`"),
    "no mapping": ("kl: {{}}", "kl: 3", "variant 'kl' is 3"),
    "a name": ("kl: {{}}", "../kl: {{}}", "letters, digits"),
    "bottleneck": ("bottleneck: fsq", "bottleneck: fsx", "'fsq': .*'fsx' is unknown"),
    "nothing held out": ("hold_out: 2", "hold_out: 0", "no clips of .* are held out"),
    "no clips": ("clips, path: {clips}, short_side: 16, hold_out: 2", "shapes", "no source of kind 'clips'"),
    "trained on": ("hold_out: 2}}", "hold_out: 2}}, {{kind: clips, path: {clips}, hold_out: 3}}", "is held out, and"),
    "missing folder": ("path: {clips}", "path: nowhere", "nowhere: no such file or folder"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_named_before_anything_is_written(case: str, clips: Path, tmp_path: Path) -> None:
    old, new, says = MISTAKES[case]
    assert old in FILE
    path, out = tmp_path / "mistake.yaml", tmp_path / "out"
    path.write_text(FILE.replace(old, new).format(clips=clips), encoding="utf-8")
    with pytest.raises(VidgenError, match=says) as caught:
        compare(load_comparison(str(path), out), out)
    assert "\n" not in str(caught.value) and not out.exists()


@pytest.mark.slow
def test_a_folder_of_something_else_is_refused(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(VidgenError, match="'nonsense' is not in .*; choose of kl, fsq"):
        compare(load_comparison(str(file), out), out, only=["nonsense"])
    with pytest.raises(VidgenError, match="neither a file nor a shipped comparison; shipped: compare_bottlenecks"):
        load_comparison("nonsense", out)
    compare(load_comparison(str(file), out), out, only=["kl"])
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    for old, new, says in (
        ("seed", "seed: 1\nsteps: 2", "holds results of another comparison, .*variant 'kl' has another seed"),
        ("kl", "km: {}", "this one has no variant 'kl'"),
    ):
        text = file.read_text("utf-8")
        other = tmp_path / f"{old}.yaml"
        other.write_text(text.replace("steps: 2" if old == "seed" else "kl: {}", new), "utf-8")
        with pytest.raises(VidgenError, match=says):
            compare(load_comparison(str(other), out), out)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").touch()
    with pytest.raises(VidgenError, match="exists already and holds no comparison"):
        compare(load_comparison(str(file), full), full)
    with pytest.raises(VidgenError, match="is a file"):
        compare(load_comparison(str(file), full / "mine.txt"), full / "mine.txt")


def test_the_shipped_comparison_has_every_bottleneck_on_one_backbone(tmp_path: Path) -> None:
    comparison = load_comparison("bottlenecks", tmp_path)
    models = {name: build_tokenizer(recipe) for name, recipe in comparison.variants.items()}
    assert {model.config.bottleneck for model in models.values()} == set(BOTTLENECKS)
    assert (
        len(
            {
                (
                    m.config.widths,
                    m.config.spatial_compression_ratio,
                    m.config.temporal_compression_ratio,
                    m.config.decoder_blocks,
                )
                for m in models.values()
            }
        )
        == 1
    )
    sizes = [count_parameters(model) for model in models.values()]
    backbones = [size["encoder"] + size["decoder"] for size in sizes]
    assert max(backbones) < 1.1 * min(backbones)


def test_a_shipped_file_is_a_recipe_or_a_comparison_by_its_folder(tmp_path: Path) -> None:
    comparisons = [path.stem for path in shipped_comparisons()]
    assert comparisons == ["compare_bottlenecks", "compare_presets"]
    assert "compare_denoisers" in [path.stem for path in shipped_recipes()]  # one recipe, whatever its name
    for name in comparisons:
        with pytest.raises(VidgenError, match=f"vidgen tokenizer compare {name} --clips CLIPS --out FOLDER"):
            load_recipe(name)
        assert load_comparison(name, tmp_path).variants
    with pytest.raises(VidgenError, match="shipped: compare_bottlenecks, compare_presets$"):
        load_comparison("denoiser", tmp_path)


def test_the_shipped_comparison_of_presets_has_them_all_as_they_are(tmp_path: Path) -> None:
    variants = load_comparison("presets", tmp_path).variants
    ours = ("convolutional", "transformer")  # not those that stand for somebody's published weights
    assert list(variants) == [name for name, c in PRESETS.items() if name != "tiny" and c.backbone in ours]
    assert all(recipe.preset == name and not recipe.model for name, recipe in variants.items())
