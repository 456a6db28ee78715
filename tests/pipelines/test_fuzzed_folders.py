"""Model folders with settings, bytes and headers changed at random: a model, or one line; no other end, no gigabytes.

What loads is used once, for a small clip of two steps.
"""

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import vidgen
from vidgen.errors import VidgenError

MOST_MEMORY = 2**31  # bytes more than before the first folder; torch and transformers themselves take some
SMALL = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 2, "guidance_scale": 1.0, "seed": 0}
IMAGE = np.full((32, 32, 3), 90, np.uint8)
KINDS = ("wan-native", "wan", "wan-image", "cogvideox", "ltx", "own")


@pytest.fixture(scope="module")
def folders(published: Callable, pipe: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    own = tmp_path_factory.mktemp("own") / "pipeline"
    pipe.save_pretrained(own)
    return {kind: own if kind == "own" else published(kind)[0] for kind in KINDS}


def make_clip(pipeline: Any) -> None:
    """Use a pipeline once; from an image where it makes clips of one."""
    image = {"image": IMAGE} if type(pipeline).__name__ == "ImageToVideoPipeline" else {}
    (clip,) = pipeline("a red circle", **SMALL, **image).frames
    assert clip.shape == (5, 32, 32, 3) and clip.dtype == np.uint8


@pytest.fixture(scope="module")
def try_with(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, bytes], None]:
    """Open a pipeline with one of its files replaced, and say what is wrong with how that ended."""
    home = tmp_path_factory.mktemp("spoilt")
    for folder in folders.values():
        make_clip(vidgen.load_pipeline(str(folder)))
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
            assert isinstance(pipeline.transformer, torch.nn.Module)
            make_clip(pipeline)
        except VidgenError as error:
            assert str(error) and "\n" not in str(error) and len(str(error)) < 1000
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
@given(data=st.data())
def test_settings_changed_at_random(try_with, folders, fuzzing, name, kind, data):
    tree = data.draw(fuzzing["changed"](json.loads((folders[kind] / name).read_text())))
    try_with(kind, name, json.dumps(tree).encode())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), CONFIGS)
@given(data=st.data())
def test_bytes_of_settings_changed_at_random(try_with, folders, fuzzing, name, kind, data):
    try_with(kind, name, data.draw(fuzzing["damaged"]((folders[kind] / name).read_bytes())))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), WEIGHTS)
@given(data=st.data())
def test_headers_of_weights_changed_at_random(try_with, folders, fuzzing, name, kind, data):
    try_with(kind, name, data.draw(fuzzing["changed_header"]((folders[kind] / name).read_bytes())))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), WEIGHTS)
@given(data=st.data())
def test_bytes_of_weights_changed_at_random(try_with, folders, fuzzing, name, kind, data):
    whole = (folders[kind] / name).read_bytes()
    cut = data.draw(st.sampled_from((16, 200, len(whole))))
    try_with(kind, name, data.draw(fuzzing["damaged"](whole[:cut])) + whole[cut:])
