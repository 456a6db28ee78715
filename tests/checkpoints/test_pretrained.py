"""Checkpoints whole and in shards: the same model, straight to its place; and one line for whatever is wrong."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFETENSORS_WEIGHTS_NAME, _add_variant
from safetensors.torch import load_file, save_file
from torch import nn

from vidgen.checkpoints.checkpoint import WEIGHTS_NAME, index_name
from vidgen.checkpoints.pretrained import Pretrained, put
from vidgen.errors import VidgenError
from vidgen.profiling.live_memory import LiveBytes, tensor_bytes
from vidgen.tokenizers.model import VideoTokenizer

INDEX_NAME = index_name(WEIGHTS_NAME, None)


@dataclass(frozen=True, kw_only=True)
class BoxConfig:
    width: int = 3


class Box(Pretrained):
    """A convolution with its kernel in channels_last_3d, a linear layer, a count."""

    config_class = BoxConfig

    def __init__(self, config: BoxConfig) -> None:
        super().__init__(config)
        self.conv = nn.Conv3d(config.width, 5, 3).to(memory_format=torch.channels_last_3d)
        self.linear = nn.Linear(config.width, 2)
        self.register_buffer("count", torch.tensor(7))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    Box(BoxConfig()).save_pretrained(tmp_path / "box")
    return tmp_path / "box"


def cut(folder: Path) -> Path:
    """The folder's weights as two shards and an index, the way large checkpoints are published."""
    tensors, names = load_file(folder / WEIGHTS_NAME), {}
    for number, part in enumerate((["conv.weight", "count"], ["conv.bias", "linear.weight", "linear.bias"]), start=1):
        shard = f"diffusion_pytorch_model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / shard)
        names |= dict.fromkeys(part, shard)
    (folder / WEIGHTS_NAME).unlink()
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def test_shards_are_the_same_model(folder):
    whole = Box.from_pretrained(folder).state_dict()
    parts = Box.from_pretrained(cut(folder)).state_dict()
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_single_file_has_its_config_in_its_header_or_beside_it(folder, tmp_path):
    model = Box.from_pretrained(folder / WEIGHTS_NAME)
    config = (folder / "config.json").read_text()
    alone = tmp_path / "alone.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, alone, metadata={"config": config})
    assert torch.equal(Box.from_pretrained(alone).conv.weight, model.conv.weight)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, alone)
    with pytest.raises(VidgenError, match=r"^[^\n]*no config in its header and no config.json beside it[^\n]*$"):
        Box.from_pretrained(alone)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float64])
def test_weights_lie_in_memory_as_the_model_asks(folder, dtype):
    made, model = Box(BoxConfig()), Box.from_pretrained(folder, dtype=dtype)
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last_3d)
    for name, value in model.state_dict().items():
        assert value.stride() == made.state_dict()[name].stride()
    assert model.count.dtype == torch.int64 and model.linear.weight.dtype == (dtype or torch.float32)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float32])
def test_a_tensor_goes_to_its_place_and_nowhere_else(dtype):
    like = torch.empty(2, 3, 1, 3, 3, device="meta").to(memory_format=torch.channels_last_3d)
    tensor = torch.randn(2, 3, 1, 3, 3).to(torch.bfloat16)
    with LiveBytes() as live:
        moved = put(tensor, like, dtype, "cpu")
    assert live.peak == live.live == tensor_bytes(moved) and moved.stride() == like.stride()
    assert torch.equal(moved, tensor.to(dtype)) and moved.dtype == (dtype or torch.bfloat16)


SPOILED = {
    "shard diffusion_pytorch_model-00002-of-00002.safetensors is missing (1 of 2 are)": lambda f: (
        f / "diffusion_pytorch_model-00002-of-00002.safetensors"
    ).unlink(),
    "is not a whole safetensors file": lambda f: (f / "diffusion_pytorch_model-00001-of-00002.safetensors").write_bytes(
        b"\x10\0\0"
    ),
    "has no weight_map of file names": lambda f: (f / INDEX_NAME).write_text("{}"),
    "has no weight_map": lambda f: (f / INDEX_NAME).write_text('{"weight_map": {"a": "../b.safetensors"}}'),
    "cannot be read as JSON": lambda f: (f / INDEX_NAME).write_text("{"),
    f"{WEIGHTS_NAME} is missing; the model folder is incomplete": lambda f: (f / INDEX_NAME).unlink(),
    "unexpected ['more'] (0 missing, 1 unexpected)": lambda f: add(f, "more"),
    "linear.bias is not in diffusion_pytorch_model-00001-of-00002.safetensors as it says": lambda f: claim(
        f, "linear.bias", 1
    ),
    "conv.weight has shape (5, 3, 3, 3, 3), the config asks for (5, 4, 3, 3, 3)": lambda f: (
        f / "config.json"
    ).write_text('{"_class_name": "Box", "width": 4}'),
    "holds a Bag, not a Box": lambda f: (f / "config.json").write_text('{"_class_name": "Bag"}'),
}


def add(folder: Path, name: str) -> None:
    shard = folder / "diffusion_pytorch_model-00001-of-00002.safetensors"
    save_file({**load_file(shard), name: torch.zeros(1)}, shard)


def claim(folder: Path, name: str, number: int) -> None:
    index = json.loads((folder / INDEX_NAME).read_text())
    index["weight_map"][name] = f"diffusion_pytorch_model-{number:05}-of-00002.safetensors"
    (folder / INDEX_NAME).write_text(json.dumps(index))


@pytest.mark.parametrize("says", SPOILED)
def test_what_is_wrong_is_said_in_one_line_before_a_tensor_is_read(folder, says, monkeypatch):
    SPOILED[says](cut(folder))
    monkeypatch.setattr("vidgen.checkpoints.pretrained.put", lambda *_: pytest.fail("a tensor was read"))
    with pytest.raises(VidgenError) as caught:
        Box.from_pretrained(folder)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("max_shard_size", ["10GB", 400])
def test_shards_and_variants_are_named_as_diffusers_names_them(variant, max_shard_size, folder, tmp_path):
    model = Box.from_pretrained(folder)
    model.save_pretrained(tmp_path / "out", variant=variant, max_shard_size=max_shard_size)
    names = {path.name for path in (tmp_path / "out").iterdir()} - {"config.json"}
    if max_shard_size == 400:
        index = _add_variant(SAFE_WEIGHTS_INDEX_NAME, variant)
        shards = set(json.loads((tmp_path / "out" / index).read_text())["weight_map"].values())
        stem = _add_variant(SAFETENSORS_WEIGHTS_NAME, variant).removesuffix(".safetensors")
        assert shards == {f"{stem}-{k:05}-of-{len(shards):05}.safetensors" for k in range(1, len(shards) + 1)}
        assert len(shards) > 1 and names == shards | {index}
    else:
        assert names == {_add_variant(SAFETENSORS_WEIGHTS_NAME, variant)}
    again = Box.from_pretrained(tmp_path, subfolder="out", variant=variant, torch_dtype=torch.float64)
    assert again.dtype == torch.float64 and again.num_parameters() == model.num_parameters()
    assert all(
        torch.equal(value.double(), again.state_dict()[name].double()) for name, value in model.state_dict().items()
    )
    if variant:
        with pytest.raises(VidgenError, match="is missing"):
            Box.from_pretrained(tmp_path / "out")


def test_models_by_shipped_names_and_from_configs():
    tokenizer = VideoTokenizer.from_pretrained("default", subfolder="vae")
    fresh = VideoTokenizer.from_config(dataclasses.asdict(tokenizer.config) | {"_class_name": "VideoTokenizer"})
    assert fresh.config == tokenizer.config and fresh.num_parameters() == tokenizer.num_parameters()
    assert tokenizer.num_parameters(only_trainable=True) == 0 < fresh.num_parameters(only_trainable=True)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"variant": "../x"}, "variant '../x' is no word"),
        ({"max_shard_size": "many"}, "max_shard_size 'many' is no size"),
    ],
)
def test_names_and_sizes_that_are_none_are_refused_and_nothing_is_left(settings, says, tmp_path):
    with pytest.raises(VidgenError, match=says):
        Box(BoxConfig()).save_pretrained(tmp_path / "out", **settings)
    assert not list(tmp_path.iterdir())
