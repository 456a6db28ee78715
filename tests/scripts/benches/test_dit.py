"""`vidgen bench dit`: passes and steps of our denoiser, and Wan's against diffusers' class by way of any reader."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from vidgen.pipelines.loading import load_pipeline
from vidgen.profiling import peak_memory
from vidgen.profiling.peak_memory import Peak
from vidgen.scripts.benches import wan_denoiser
from vidgen.scripts.benches.bench_rows import BenchSettings
from vidgen.scripts.benches.machine import Machine

MACHINE = Machine(about={}, matmul_gflops={"float32": 10.0}, conv_gflops={"float32": 10.0})
QUICK = BenchSettings(dtype="float32", rounds=1, quick=True, memory=False)
WORDS = ("bench", "dit", "--quick", "--no-memory", "--rounds", 2, "--dtype", "float32")


@pytest.mark.slow
def test_steps_are_held_against_passes(vidgen, model: Path, tmp_path: Path) -> None:
    ran = vidgen(*WORDS, "--only", "model", "--model", model, "--json", tmp_path / "dit.json")
    assert ran.status == 0 and ran.out == "", ran
    one, step = json.loads((tmp_path / "dit.json").read_text())["rows"]
    assert (one["name"], step["name"]) == ("pass 2x2x2 latents", "step euler 2x2x2 latents")
    assert one["tokens"] == step["tokens"] == 8 and (step["steps"], step["passes"]) == (2, 2.0)
    assert one["tokens_per_s"] == pytest.approx(8 / one["ours_s"], rel=1e-4)
    assert step["gflops"] == pytest.approx(2 * one["gflops"], rel=1e-4)
    assert step["step_over_passes"] == pytest.approx(step["ours_s"] / (2 * one["ours_s"]), rel=1e-4)
    assert step["fps"] == pytest.approx(5 / (2 * step["ours_s"]), rel=1e-4)
    # Of each token: projections in and out, two blocks of attention, text and feed-forward, beside what is per clip.
    c = load_pipeline(str(model)).transformer.config
    blocks = c.depth * (4 * c.width**2 + 2 * c.width**2 + 8 * c.width**2)
    assert one["gflops"] > 2e-9 * 8 * blocks


def test_solvers_with_more_evaluations_have_more_passes(model: Path, monkeypatch) -> None:
    from vidgen.scripts.benches import sampling

    def open_heun(work):
        pipe = load_pipeline(work.model)
        object.__setattr__(pipe.scheduler, "sampler", "heun")
        return pipe

    monkeypatch.setattr(sampling, "open_model", open_heun)
    settings = BenchSettings(model=str(model), dtype="float32", rounds=1, quick=True, memory=False)
    _, step = (row.to_json() for row in sampling.measure_model(settings, MACHINE, (False,)))
    assert step["name"].startswith("step heun") and step["passes"] == 3.0  # two steps: two evaluations, then one


@pytest.mark.slow
def test_compiled_blocks_take_their_turns(vidgen, model: Path, monkeypatch) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *_, **__: compiled.append(self))
    ran = vidgen(*WORDS, "--only", "model,compiled", "--model", model)
    assert ran.status == 0 and "pass 2x2x2 latents, compiled" in ran.out and "of its 2 passes" in ran.out
    assert len(compiled) == 2 and len(set(map(id, compiled))) == 2


@pytest.mark.slow
def test_where_nothing_compiles_a_note_says_so(vidgen, model: Path, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(nn.Module, "compile", lambda self, *_, **__: setattr(self, "_compiled_call_impl", fail))
    ran = vidgen(*WORDS, "--only", "model,compiled", "--model", model)
    assert ran.status == 0 and "left out, torch.compile does not run here: no C++ compiler" in ran.err
    assert "step euler" in ran.out and "compiled" not in ran.out


@pytest.mark.slow
def test_our_sizes_and_wan_beside_diffusers(vidgen, tmp_path: Path, monkeypatch) -> None:
    from vidgen.scripts.benches import sampling

    monkeypatch.setattr(sampling, "PRESET_LATENTS", (2, 4, 4))
    ran = vidgen(*WORDS, "--only", "presets,wan", "--peer", "diffusers", "--json", tmp_path / "dit.json")
    assert ran.status == 0, ran
    rows = {row["name"]: row for row in json.loads((tmp_path / "dit.json").read_text())["rows"]}
    wan = [f"wan {what} 2x4x4 latents, {words} words" for words in (512, 64) for what in ("pass", "step")]
    assert list(rows) == ["pass S 2x4x4 latents", "step euler S 2x4x4 latents", *wan]
    for name in wan:
        assert rows[name]["max_abs_diff"] < 1e-4 * rows[name]["std"] and rows[name]["ratio"] > 0
    alone = vidgen(*WORDS, "--only", "wan", "--peers", "none", "--json")
    assert json.loads(alone.out)["rows"][0]["peer_s"] is None


@dataclass(frozen=True, kw_only=True)
class Shape:
    patch: tuple[int, int, int] = (1, 2, 2)
    latent_channels: int = 16


class Wrapped(nn.Module):
    """Diffusers' class with the interface of a network of ours."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.blocks, self.config = network, network.blocks, Shape()

    def prepare_text(self, text):
        return text

    def forward(self, x, t, text):
        return self.network(x.to(text.tokens.dtype), 1000 * t, text.tokens, return_dict=False)[0]


def read_wrapped(folder, *, dtype, device):
    return Wrapped(wan_denoiser.read_peer(folder, dtype=dtype, device=device))


def test_wan_from_one_file_gives_one_result(monkeypatch) -> None:
    monkeypatch.setitem(wan_denoiser.READERS, "vidgen", read_wrapped)
    rows = list(wan_denoiser.measure_denoiser(QUICK, MACHINE, with_peer=True, compiled=False))
    one, step, short, _ = found = [row.to_json() for row in rows]
    assert [row["name"] for row in found[:3]] == [
        f"wan {what} 2x4x4 latents, {words} words" for what, words in (("pass", 512), ("step", 512), ("pass", 64))
    ]
    assert one["max_abs_diff"] == short["max_abs_diff"] == 0.0 and one["std"] > 0.01
    assert step["max_abs_diff"] < 1e-4 * step["std"]  # the same levels and guidance, by other arithmetic
    for row in found:
        assert row["ratio"] == pytest.approx(row["peer_s"] / row["ours_s"], rel=1e-3) and row["note"] == ""
        assert row["tokens_per_s"] == pytest.approx(8 / row["ours_s"], rel=1e-4)
    assert step["gflops"] == pytest.approx(2 * one["gflops"], rel=1e-4)


def test_wan_alone_and_its_memory(monkeypatch) -> None:
    monkeypatch.setitem(wan_denoiser.READERS, "vidgen", read_wrapped)

    def measure(prepare, **values) -> Peak:
        assert prepare is wan_denoiser.prepare_alone and values["reader"] == "vidgen"
        assert wan_denoiser.prepare_alone(**values)().shape == (1, 16, 2, 4, 4)
        return Peak(peak_mb=100.0, before_mb=0.0)

    monkeypatch.setattr(peak_memory, "measure_peak", measure)
    settings = BenchSettings(dtype="float32", rounds=1, quick=True)
    rows = list(wan_denoiser.measure_denoiser(settings, MACHINE, with_peer=False, compiled=False))
    assert [(row.peak_mb, row.peer_s, row.max_abs_diff) for row in rows] == [(100.0, None, None)] * 4


def test_the_measured_wan_has_the_layers_of_the_published_one() -> None:
    from diffusers import WanTransformer3DModel

    with torch.device("meta"):
        ours, whole = (
            WanTransformer3DModel(**wan_denoiser.FULL),
            WanTransformer3DModel(num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=30),
        )
    shapes = {name: value.shape for name, value in whole.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()}.items() <= shapes.items()
    assert len(ours.blocks) == 4 and ours.config.num_attention_heads * ours.config.attention_head_dim == 1536
