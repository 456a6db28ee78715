"""README and docs: command lines name verbs and options that are there, Python blocks compile (those on published
weights run), and links lead on."""

import ast
import importlib
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import save_file

from vidgen.scripts.main import app
from vidgen.train.ablations.variants import load_comparison
from vidgen.train.config.files import load_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PUBLISHED = ROOT / "docs" / "published_weights.md"
SHELL = ("", "bash", "sh", "console")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """The words of every line of a block that calls `vidgen`, continuation lines joined, without comments."""
    lines = [
        line for language, text in blocks(page) if language in SHELL for line in text.replace("\\\n", " ").splitlines()
    ]
    calls = (
        re.split(r"\s(?:&&|\||>|2>)\s", part)[0] for line in lines for part in line.split("&& ") if "vidgen " in part
    )
    words = (shlex.split(call, comments=True) for call in calls if re.match(r"\s*(\$ |\.venv/bin/)?vidgen ", call))
    return [line[line.index(next(word for word in line if word.endswith("vidgen"))) + 1 :] for line in words]


CASES = [(page.name, words) for page in PAGES for words in commands(page)]


def test_there_are_commands_to_look_at() -> None:
    assert len(CASES) > 100 and {name for name, _ in CASES} >= {"README.md", "command_line.md", "training.md"}


@pytest.mark.parametrize(("page", "words"), CASES, ids=[" ".join(words)[:60] for _, words in CASES])
def test_verbs_and_options_are_there(page: str, words: list[str]) -> None:
    command, rest = typer.main.get_command(app), list(words)
    hidden = {option for option in rest if option in ("--offline", "--version", "--help")}
    rest = [word for word in rest if word not in hidden]
    while hasattr(command, "commands") and rest and "|" not in rest[0] and not rest[0].isupper():
        assert rest[0] in command.commands, f"{page}: `vidgen {' '.join(words)}`: no verb {rest[0]}"
        command = command.commands[rest.pop(0)]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    options = [word.split("=")[0] for word in rest if re.match(r"--?[a-zA-Z]", word)]
    assert not [option for option in options if option.replace("_", "-") not in known], f"{page}: {' '.join(words)}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_python_blocks_compile_and_import(page: Path) -> None:
    for language, text in blocks(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vidgen"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{page.name}: from {node.module} import {alias.name}"


@pytest.mark.slow
def test_python_blocks_on_published_weights_run(tmp_path, monkeypatch, published) -> None:
    """In the page's order and one namespace, as by a reader; the model is of the published classes, and small."""
    from diffusers import AutoencoderKLWan

    monkeypatch.chdir(tmp_path)
    shutil.copytree(published("wan-native")[0], "Wan2.1-T2V-1.3B-Diffusers")
    for file, layer, width in (("style", "transformer.blocks.0.cross.to_q", 192), ("other", "layers.0.text.key", 128)):
        factors = {"lora_A": torch.randn(4, width), "lora_B": torch.randn(192, 4)}
        save_file({f"{layer}.{name}.weight": factor for name, factor in factors.items()}, f"{file}.safetensors")
    small = {
        "num_inference_steps=30": "num_inference_steps=2, num_frames=5, height=32, width=32",
        "blocks.12": "blocks.1",
    }
    names: dict = {}
    for number, text in enumerate(text for language, text in blocks(PUBLISHED) if language == "python"):
        for published_size, size in small.items():
            text = text.replace(published_size, size)
        exec(compile(text, f"block {number}", "exec"), names)
        if number == 0:  # what the second block calls by name
            names["encoding"] = names["pipe"].text_encoder(["a cat"])
            names["latents"] = names["out"].latents.to(torch.bfloat16)
            names["t"] = torch.tensor([0.5])
    assert names["velocity"].shape == names["latents"].shape and names["velocity"].isfinite().all()
    assert AutoencoderKLWan.from_pretrained("wan_vae").config.z_dim == names["latents"].shape[1]
    assert (tmp_path / "wan_transformer" / "config.json").is_file()


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_files_that_are_named_are_there(page: Path) -> None:
    names = re.findall(r"(?:pytest |`)((?:tests|scripts|train|vidgen)/[\w./]*\w)", page.read_text(encoding="utf-8"))
    assert not [name for name in names if not (ROOT / name).exists()]


TRAINING = re.compile(r"\bvidgen (train|tokenizer compare) ([a-z_]+(?: [^`\n#]*)?)(?=[`\n#])")
CALLS = {(page.name, *call) for page in PAGES for call in TRAINING.findall(page.read_text(encoding="utf-8"))}
TRAININGS = sorted(call for call in CALLS if "KEY=" not in call[-1])


@pytest.mark.parametrize(
    ("page", "verb", "rest"), TRAININGS, ids=[f"{verb} {rest}"[:60] for _, verb, rest in TRAININGS]
)
def test_recipes_have_the_keys_and_the_clips_they_need(page: str, verb: str, rest: str, tmp_path: Path) -> None:
    name, *words = shlex.split(rest.split("&&")[0])
    if verb == "tokenizer compare":
        options = dict(zip(words[::2], words[1::2], strict=True))
        recipe = load_comparison(name, tmp_path, clips=options.get("--clips")).recipe
    else:
        recipe = load_recipe(name, words)
    clips = [source for source in recipe.data.sources if source.kind == "clips"]
    assert all(source.path for source in clips), f"{page}: {rest} does not say where clips are"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]
