"""Model folders with settings, bytes and headers changed at random: a model, or one line; no other end, no gigabytes.

`VIDGEN_FUZZ_EXAMPLES=2000 pytest -n 0 tests/pipelines/test_fuzzed_folders.py` draws new ones, and more of them.
"""

import copy
import json
import os
import resource
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vidgen
from vidgen.errors import VidgenError

EXAMPLES = os.environ.get("VIDGEN_FUZZ_EXAMPLES")
fuzzed = settings(
    max_examples=int(EXAMPLES or 12),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
MOST_MEMORY = 2**31  # bytes more than before the first folder; torch and transformers themselves take some
KINDS = ("wan-native", "wan", "wan-image", "cogvideox", "ltx", "own")
NUMBERS = (0, 1, -1, 2, 3, 7, 2**16, 2**20, 2**31, 2**63, 10**18, -(10**18), 10**400, 0.5, -0.5, 1e-320, 1e308)
WORDS = (
    *("", "x", "a\nb", "\ud800", "../../config.json", "/dev/zero", "float16", "gelu", "WanPipeline", "hf-hub:a/b"),
    "9" * 99,
)
OTHERS = (None, True, False, float("nan"), float("inf"), [], {}, [1, 2], [[[[]]]], {"a": {"b": 1}}, ["x"] * 100)
VALUES = st.sampled_from((*NUMBERS, *WORDS, *OTHERS)) | st.integers() | st.floats() | st.text(max_size=8)
KEYS = st.sampled_from(
    ("auto_map", "_class_name", "model_type", "dtype", "torch_dtype", "quantization_config", "attn_implementation",
     "num_layers", "text_config", "vision_config", "tokenizer_file", "return_dict", "per_layer_config", "id2label")
) | st.text(max_size=4)  # fmt: skip


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of all that is in a tree of JSON."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from places(tree[key])


@st.composite
def changed(draw: Callable, tree: Any) -> Any:
    """A tree of JSON with one to three of its values replaced, moved, nested, taken out or added."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        spots = list(places(tree))
        if not spots:
            return tree
        container, key = spots[draw(st.integers(0, len(spots) - 1))]
        what = draw(st.sampled_from(("value", "value", "drop", "add", "nest", "deep", "copy")))
        if what == "drop":
            del container[key]
        elif what == "add" and isinstance(container, dict):
            container[draw(KEYS)] = draw(VALUES)
        elif what == "nest":
            container[key] = draw(st.sampled_from(([container[key]], {"a": container[key]}, [container[key]] * 2)))
        elif what == "deep":
            container[key] = json.loads("[" * 200 + "]" * 200)
        elif what == "copy":
            other, name = spots[draw(st.integers(0, len(spots) - 1))]
            container[key] = copy.deepcopy(other[name]) if name in other or isinstance(other, list) else None
        else:
            container[key] = draw(VALUES)
    return tree


@st.composite
def damaged(draw: Callable, data: bytes) -> bytes:
    """Bytes, of which some are others, are missing or stand twice."""
    start = draw(st.integers(0, max(0, len(data) - 1)))
    count = draw(st.integers(0, 16))
    return data[:start] + draw(st.binary(max_size=16)) + data[start + draw(st.sampled_from((0, count, len(data)))) :]


@pytest.fixture(scope="module")
def folders(published: Callable, pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    own = tmp_path_factory.mktemp("own") / "pipeline"
    pipe.save_pretrained(own)
    return {kind: own if kind == "own" else published(kind)[0] for kind in KINDS}


@pytest.fixture(scope="module")
def try_with(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, bytes], None]:
    """Open a pipeline with one of its files replaced, and say what is wrong with how that ended."""
    home = tmp_path_factory.mktemp("spoilt")
    for folder in folders.values():
        vidgen.load_pipeline(str(folder))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def attempt(kind: str, name: str, data: bytes) -> None:
        part, _, file = name.rpartition("/")
        spoilt = home / "pipeline"
        shutil.rmtree(spoilt, ignore_errors=True)
        spoilt.mkdir()
        for source in folders[kind].iterdir():
            if source.name not in (part, file):
                (spoilt / source.name).symlink_to(source)
        if part:
            shutil.copytree(folders[kind] / part, spoilt / part)
        (spoilt / name).write_bytes(data)
        try:
            pipeline = vidgen.load_pipeline(str(spoilt))
        except VidgenError as error:
            assert str(error) and "\n" not in str(error) and len(str(error)) < 1000
        else:
            assert isinstance(pipeline.transformer, torch.nn.Module)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < MOST_MEMORY

    return attempt


CONFIGS = [
    *(("model_index.json", kind) for kind in ("wan-native", "wan-image", "own")),
    *(("transformer/config.json", kind) for kind in KINDS),
    *(("vae/config.json", kind) for kind in ("wan", "cogvideox", "ltx", "own")),
    *(("scheduler/scheduler_config.json", kind) for kind in ("wan-native", "wan", "cogvideox", "own")),
    *(("text_encoder/config.json", kind) for kind in ("wan", "ltx", "own")),
    *(("tokenizer/tokenizer_config.json", "wan"), ("tokenizer/tokenizer.json", "wan")),
    *(("image_encoder/config.json", "wan-image"), ("image_processor/preprocessor_config.json", "wan-image")),
]
WEIGHTS = [
    ("transformer/diffusion_pytorch_model.safetensors", "wan-native"),
    ("vae/diffusion_pytorch_model.safetensors", "own"),
    ("text_encoder/model.safetensors", "wan"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), CONFIGS)
@fuzzed
@given(data=st.data())
def test_settings_changed_at_random(try_with, folders, name, kind, data):
    tree = data.draw(changed(json.loads((folders[kind] / name).read_text())))
    try_with(kind, name, json.dumps(tree).encode())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), CONFIGS)
@fuzzed
@given(data=st.data())
def test_bytes_of_settings_changed_at_random(try_with, folders, name, kind, data):
    try_with(kind, name, data.draw(damaged((folders[kind] / name).read_bytes())))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), WEIGHTS)
@fuzzed
@given(data=st.data())
def test_headers_of_weights_changed_at_random(try_with, folders, name, kind, data):
    whole = (folders[kind] / name).read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    tree = data.draw(changed(json.loads(whole[8 : 8 + length])))
    header = json.dumps(tree).encode()
    header += b" " * (-len(header) % 8)
    try_with(kind, name, struct.pack("<Q", len(header)) + header + whole[8 + length :])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), WEIGHTS)
@fuzzed
@given(data=st.data())
def test_bytes_of_weights_changed_at_random(try_with, folders, name, kind, data):
    whole = (folders[kind] / name).read_bytes()
    cut = data.draw(st.sampled_from((16, 200, len(whole))))
    try_with(kind, name, data.draw(damaged(whole[:cut])) + whole[cut:])
