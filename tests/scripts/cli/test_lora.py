"""`vidgen sample --lora`: the clip that the weights with the change in them make, and one line where that cannot be."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vidgen.errors import VidgenError
from vidgen.pipelines.loading import load_pipeline
from vidgen.scripts.cli.lora import LoraChoice, parse_lora
from vidgen.tokenizers.files.token_files import read_tokens

PROMPT = "a red circle moves right"


@pytest.fixture
def loras(tmp_path: Path) -> list[Path]:
    """Two files about other layers of the tiny model; the second is a folder, as peft writes it."""
    generator = torch.Generator().manual_seed(3)

    def matrices(start: str, outs: int, ins: int) -> dict[str, torch.Tensor]:
        down, up = (torch.randn(*shape, generator=generator) for shape in ((2, ins), (outs, 2)))
        return {f"{start}.lora_A.weight": down, f"{start}.lora_B.weight": up}

    (tmp_path / "second").mkdir()
    save_file(matrices("transformer.patch_out", 4, 32), tmp_path / "first.safetensors")
    save_file(matrices("base_model.model.blocks.1.mlp.up", 128, 32), tmp_path / "second" / "adapter_model.safetensors")
    (tmp_path / "second" / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 4}')
    return [tmp_path / "first.safetensors", tmp_path / "second"]


def test_the_clip_is_that_of_the_changed_weights(vidgen, model: Path, loras, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    words = ("--lora", f"{loras[0]}:0.5", "--lora", loras[1])
    ran = vidgen("sample", PROMPT, "-o", out, "--model", model, *words, "--seed", 5, "--json")
    assert ran.status == 0, ran
    said = [{"file": str(loras[0]), "scale": 0.5}, {"file": str(loras[1]), "scale": 1.0}]
    assert json.loads(ran.out)["loras"] == said
    pipe = load_pipeline(str(model))
    plain = pipe(PROMPT, seed=5, output_type="latent").latents
    for lora, factor in ((loras[0], 0.5), (loras[1] / "adapter_model.safetensors", 2.0)):
        tensors = load_file(lora)
        (down, up) = (tensors[name] for name in sorted(tensors))
        layer = next(iter(tensors)).split(".lora")[0].removeprefix("transformer.").removeprefix("base_model.model.")
        pipe.transformer.get_submodule(layer).weight.add_(factor * up @ down)
    tokens = read_tokens(out, pipe.vae)
    torch.testing.assert_close(tokens.latents, pipe(PROMPT, seed=5, output_type="latent").latents)
    assert not torch.allclose(tokens.latents, plain, atol=1e-2)
    assert tokens.extra["lora"] == f"{loras[0]}:0.5, {loras[1]}:1"


def test_what_cannot_be_put_on_is_one_line_and_leaves_nothing(vidgen, model: Path, loras, tmp_path: Path) -> None:
    save_file({"transformer.blocks.9.mlp.up.diff": torch.ones(3)}, tmp_path / "other.safetensors")
    there = {path.name for path in tmp_path.iterdir()}
    for lora, line in (
        (tmp_path / "gone.safetensors", "gone.safetensors' is neither a file nor a folder; check the path"),
        (f"{loras[0]}:nan", "the scale nan is not finite"),
        (
            tmp_path / "other.safetensors",
            "'transformer.blocks.9.mlp.up.diff' speaks of blocks.9.mlp.up.weight, which VideoDiT",
        ),
    ):
        words = ("sample", PROMPT, "-o", tmp_path / "x.mp4", "--model", model, "--lora", loras[0], "--lora", lora)
        assert line in vidgen(*words).error
        assert {path.name for path in tmp_path.iterdir()} == there


def test_words(tmp_path: Path) -> None:
    named = tmp_path / "a:2"
    named.touch()
    for text, wanted in (
        ("x.safetensors", LoraChoice(file="x.safetensors")),
        ("x.safetensors:0.8", LoraChoice(file="x.safetensors", scale=0.8)),
        ("owner/name:-1", LoraChoice(file="owner/name", scale=-1.0)),
        (r"c:\x.safetensors", LoraChoice(file=r"c:\x.safetensors")),
        (str(named), LoraChoice(file=str(named))),
        (":3", LoraChoice(file=":3")),
    ):
        assert parse_lora(text) == wanted
    assert str(parse_lora("x:0.50")) == "x:0.5"
    with pytest.raises(VidgenError, match="--lora 'x:inf': the scale inf is not finite"):
        parse_lora("x:inf")
