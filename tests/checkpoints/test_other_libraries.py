"""Folders of strangers through transformers and diffusers: no code of theirs runs, and damage is one line."""

import ast
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import vidgen
from vidgen.checkpoints.other_libraries import from_folder
from vidgen.errors import VidgenError
from vidgen.models.text.transformers_encoder import TransformersTextEncoder

ROOT = Path(__file__).parents[2]
# Classes of ours whose from_pretrained reads through vidgen/checkpoints.
OURS = {
    *("VideoTokenizer", "DiffusionTokenizer", "KeyframeTokenizer", "TransformersTextEncoder", "component", "cls"),
    *("LearnedTokens", "PriorPipeline", "TokenPrior", "ByteTextEncoder", "super()", "GANPipeline", "SplitGenerator"),
    "GENERATORS[class_name]",
    *("VideoViT", "TokenPredictor", "FeaturePredictor", "StaticTextEncoder"),
    *("DualEncoder", "JointHeads", "FusedEncoder"),
}
FOLDERS = ("vidgen", "tokenizers", "samplers", "train", "scripts")
ONLY_HOME = "vidgen/checkpoints/other_libraries.py"


def calls(name: str) -> list[tuple[str, ast.Call]]:
    """All calls of an attribute `name` in the library, by file."""
    found = []
    for file in (file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))):
        text = file.read_text("utf-8")
        nodes = ast.walk(ast.parse(text)) if f".{name}(" in text else ()
        calls = [node for node in nodes if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == name]
        found += [(str(file.relative_to(ROOT)), call) for call in calls]
    return found


def test_only_one_file_calls_from_pretrained_of_other_libraries():
    others = [(file, call) for file, call in calls("from_pretrained") if ast.unparse(call.func.value) not in OURS]
    ((home, call),) = others
    assert home == ONLY_HOME
    settings = {word.arg: ast.unparse(word.value) for word in call.keywords if word.arg}
    assert settings == {"local_files_only": "True", "trust_remote_code": "False", "use_safetensors": "True"}
    for name in ("load_config", "from_single_file", "get_class_from_dynamic_module"):
        assert not calls(name)


def test_pickles_are_opened_of_our_own_files_alone():
    loads = [(file, ast.unparse(call)) for file, call in calls("load")]
    opened = {(file, text) for file, text in loads if text.startswith(("torch.load", "pickle.load"))}
    checked = "vidgen/models/encoders/efficientnet.py"  # of an installed package, by its checksum
    assert {file for file, _ in opened} == {"train/runtime/checkpoints.py", "train/losses/perceptual.py", checked}
    assert all("weights_only=True" in text for _, text in opened)
    assert not calls("loads") or all("pickle" not in ast.unparse(call) for _, call in calls("loads"))


@pytest.fixture
def mined(tmp_path: Path) -> Callable[[Path, str], Path]:
    """Put code into a folder that leaves a mark when it is run; returns the mark's path."""

    def put(folder: Path, config: str, **values: object) -> Path:
        mark = tmp_path / "ran"
        folder.mkdir(exist_ok=True)
        (folder / "mine.py").write_text(
            f"open({str(mark)!r}, 'w').close()\nfrom transformers import PretrainedConfig\n"
            "class Mine(PretrainedConfig):\n    model_type = 'mine'\n"
        )
        names = ("AutoConfig", "AutoTokenizer", "AutoImageProcessor", "AutoVideoProcessor", "AutoModel")
        (folder / config).write_text(json.dumps({"auto_map": dict.fromkeys(names, "mine.Mine"), **values}))
        return mark

    return put


def test_a_text_encoder_with_code_of_its_own(mined, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    mark = mined(tmp_path / "text", "config.json", model_type="mine")
    with pytest.raises(
        VidgenError, match="text holds a mine model, whose own code is not run; of its kind are read: t5"
    ):
        TransformersTextEncoder.from_pretrained(tmp_path / "text")
    assert not mark.exists()


@pytest.mark.parametrize(
    "config", ["tokenizer_config.json", "preprocessor_config.json", "video_preprocessor_config.json"]
)
def test_tokenizers_and_processors_with_code_of_their_own(mined, tmp_path, config, monkeypatch):
    import transformers

    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    mark = mined(tmp_path / "part", config, tokenizer_class="Mine", image_processor_type="Mine")
    (tmp_path / "part" / "config.json").write_text(
        json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}})
    )
    for kind in (transformers.AutoTokenizer, transformers.AutoImageProcessor, transformers.AutoVideoProcessor):
        with pytest.raises(VidgenError, match=r"^[^\n]*part holds no thing: [^\n]*$"):
            from_folder(kind, tmp_path / "part", "thing")
    assert not mark.exists() and "mine" not in sys.modules


def test_a_pipeline_that_names_modules_of_its_own(published, mined, tmp_path):
    folder = shutil.copytree(published("wan")[0], tmp_path / "pipeline")
    mark = mined(folder / "transformer", "unused.json")
    index = json.loads((folder / "model_index.json").read_text())
    for entry in (["mine", "Mine"], ["diffusers"], [1, None], {"a": 1}, 7):
        says = "is of 'mine', not of diffusers or transformers; other code" if "mine" in str(entry) else "is damaged"
        (folder / "model_index.json").write_text(json.dumps({**index, "transformer": entry}))
        with pytest.raises(VidgenError, match=says):
            vidgen.load_pipeline(str(folder))
    for name in (["WanPipeline", "x"], {"a": 1}, 3, "a b\nc"):
        (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": name}))
        with pytest.raises(VidgenError, match="_class_name is .*, not the name of a class"):
            vidgen.load_pipeline(str(folder))
    assert not mark.exists()


ABSURD = {
    "num_layers": ("text_encoder", 10**9, "num_layers=1000000000 is beyond 1048576"),
    "num_layers ": ("text_encoder", 10**6, r"more than \d+ tensors, which its weights do not have"),
    "d_model": ("text_encoder", -1, "makes no UMT5EncoderModel: "),
    "dense_act_fn": ("text_encoder", "magic", "makes no UMT5EncoderModel: "),
    "rope_max_seq_len": ("transformer", -1, "makes no WanTransformer3DModel: "),
    "rope_max_seq_len ": ("transformer", 2**40, "is beyond 1048576"),
    "num_attention_heads": ("transformer", "2", "num_attention_heads='2' is not of the type of 40"),
    "num_train_timesteps": ("scheduler", 10**12, "num_train_timesteps=1000000000000 is beyond"),
    "shift": ("scheduler", [3.0], "is not of the type of 1.0"),
}
FILES = {"scheduler": "scheduler_config.json"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ABSURD)
def test_absurd_settings_end_at_once(published, tmp_path, name):
    part, value, says = ABSURD[name]
    folder = shutil.copytree(published("wan")[0], tmp_path / "pipeline")
    path = folder / part / FILES.get(part, "config.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), name.strip(): value}))
    with pytest.raises(VidgenError, match=rf"^[^\n]*({says})[^\n]*$"):
        vidgen.load_pipeline(str(folder))
