"""Files of LoRA weights: alpha and rank from wherever they are said, and one line for whatever is wrong with a file."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from vidgen.errors import VidgenError
from vidgen.lora.files import find_lora, read_lora
from vidgen.lora.loading import load_lora

Q, K = "blocks.0.attention.to_q", "blocks.1.attention.to_k"


def factors(path: Path, part: str | None = None) -> dict[str, float]:
    return {delta.name.removesuffix(".weight"): delta.factor for delta in read_lora(path, part)}


@pytest.fixture
def folder(tmp_path, draw, write) -> Path:
    """A folder as peft writes it, ranks 4."""
    file = write(draw({Q: (32, 32), K: (32, 32)}, rank=4), "peft")
    file.rename(tmp_path / "adapter_model.safetensors")
    return tmp_path


def configure(folder: Path, **values: object) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "target_modules": ["x"], **values}))


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"r": 4, "lora_alpha": 8}, (2.0, 2.0)),
        ({"r": 4, "lora_alpha": 6, "use_rslora": True}, (3.0, 3.0)),
        ({"r": 4, "lora_alpha": 4, "alpha_pattern": {"to_k": 12}}, (1.0, 3.0)),
        ({"r": 7, "lora_alpha": 4, "rank_pattern": {r"blocks\.\d\.attention\.to_[qk]": 4}}, (1.0, 1.0)),
        ({"r": 4}, (1.0, 1.0)),
        ({}, (1.0, 1.0)),
    ],
)
def test_rank_and_alpha_are_those_of_the_settings(folder, said, wanted):
    configure(folder, **said)
    assert (
        factors(find_lora(folder))
        == factors(folder / "adapter_model.safetensors")
        == dict(zip((Q, K), wanted, strict=True))
    )


def test_settings_in_the_header_and_in_tensors_come_first(tmp_path, draw):
    ((name, (down, up)),) = draw({Q: (32, 32)}, rank=4).items()
    tensors = {f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up}
    configure(tmp_path, r=4, lora_alpha=400)
    said = {"transformer.r": 4, "transformer.lora_alpha": 2, "transformer.use_rslora": True}
    file = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(tensors, file, metadata={"lora_adapter_metadata": json.dumps(said)})
    assert factors(file) == {Q: 2 / math.sqrt(4)}
    tensors[f"transformer.{name}.alpha"] = torch.tensor([3.0])
    save_file(tensors, file, metadata={"lora_adapter_metadata": json.dumps(said)})
    assert factors(file) == {Q: 3 / math.sqrt(4)}
    save_file(tensors, file)
    assert factors(file) == {Q: 3 / 4}


def test_the_file_of_a_folder_is_found(tmp_path, monkeypatch):
    with pytest.raises(VidgenError, match="one safetensors file of LoRA weights is wanted, it has none; name the file"):
        find_lora(tmp_path)
    (tmp_path / "a.safetensors").touch()
    assert find_lora(tmp_path).name == "a.safetensors"
    (tmp_path / "b.safetensors").touch()
    with pytest.raises(VidgenError, match="it has several: a.safetensors, b.safetensors; name the file"):
        find_lora(tmp_path)
    assert find_lora(tmp_path / "b.safetensors").name == "b.safetensors"
    (tmp_path / "pytorch_lora_weights.safetensors").touch()
    assert find_lora(tmp_path).name == "pytorch_lora_weights.safetensors"
    monkeypatch.setattr("vidgen.lora.files.find_model", lambda name: tmp_path if name == "owner/name" else None)
    assert find_lora("owner/name").name == "pytorch_lora_weights.safetensors"
    for name in ("gone.safetensors", "gone/lora.safetensors", "./gone/name"):
        with pytest.raises(VidgenError, match=f"LoRA '{name}' is neither a file nor a folder; check the path"):
            find_lora(name)


def test_a_part_of_a_pipeline_is_named_where_there_are_several(ours, draw, write):
    matrices = draw({Q: (32, 32)})
    other = {
        f"transformer_2.{Q}.lora_A.weight": torch.ones(1, 32),
        f"transformer_2.{Q}.lora_B.weight": torch.ones(32, 1),
    }
    file = write(matrices, **other)
    with pytest.raises(VidgenError, match="changes several networks.*name one by `part`"):
        load_lora(ours, file)
    before, weight = ours.blocks[0].attention.to_q.weight.clone(), ours.blocks[0].attention.to_q.weight
    lora = load_lora(ours, file, part="transformer_2")
    torch.testing.assert_close(weight, before + 1.0)
    lora.unload()
    with pytest.raises(VidgenError, match="no LoRA weights for text_encoder"):
        load_lora(ours, file, part="text_encoder")


A, B = f"transformer.{Q}.lora_A.weight", f"transformer.{Q}.lora_B.weight"
SPOILED = {
    f"'transformer.{Q}.dora_scale' (3,) is no magnitude": lambda t: t | {f"transformer.{Q}.dora_scale": torch.ones(3)},
    "'transformer.q.dora_scale' stands without its lora_B": lambda t: t | {"transformer.q.dora_scale": torch.ones(32)},
    f"key 'transformer.{Q}.hada_w1_a' is of a LoHa": lambda t: t | {f"transformer.{Q}.hada_w1_a": torch.ones(3)},
    "key 'lora_unet_q.lokr_w1' is of a LoKr": lambda t: t | {"lora_unet_q.lokr_w1": torch.ones(3)},
    "lora_up.weight_scale' (5,) is no scale of": lambda t: t | {f"transformer.{Q}.lora_up.weight_scale": torch.ones(5)},
    "key 'step' is not supported": lambda t: t | {"step": torch.ones(1)},
    f"{A!r} stands without its lora_B": lambda t: {A: t[A]},
    f"{B!r} stands without its lora_A": lambda t: {B: t[B]},
    f"'{Q}.alpha' stands without its lora_B": lambda t: {f"{Q}.alpha": torch.ones(1)},
    f"{A!r} (3, 32) and {B!r} (32, 2) differ in rank": lambda t: t | {B: torch.ones(32, 2)},
    f"'transformer.{Q}.alpha' is not one number": lambda t: t | {f"transformer.{Q}.alpha": torch.ones(2)},
    f"{B!r} holds what are no finite numbers": lambda t: t | {B: t[B] / 0},
    f"{A!r} is of int8, not of floating-point numbers": lambda t: t | {A: torch.ones(3, 32, dtype=torch.int8)},
    f"{A!r} holds what are no finite numbers": lambda t: t | {A: torch.ones(3, 32, dtype=torch.complex64)},
    "say the same; keep one of them": lambda t: t | {f"transformer.{Q}.lora_A.other.weight": t[A].clone()},
    "has no LoRA weights; another file is meant": lambda t: {},
}  # fmt: skip


@pytest.mark.parametrize("says", SPOILED)
def test_what_is_wrong_with_a_file_is_one_line(ours, draw, tmp_path, says):
    (down, up), path = draw({Q: (32, 32)})[Q], tmp_path / "lora.safetensors"
    save_file(SPOILED[says]({A: down, B: up}), path)
    with pytest.raises(VidgenError) as caught:
        load_lora(ours, path)
    assert says in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


BAD_SETTINGS = {
    f"'base_model.model.{K}.lora_A.weight' has rank 4, ": {"r": 4, "rank_pattern": {"to_k": 8}},
    "says r=16": {"r": 16},
    f"says DoRA, and 'base_model.model.{Q}.lora_B.weight' has no magnitude": {
        "r": 4,
        "use_dora": True,
    },
    "what it describes is of a LOHA, which is not read; merge it": {"peft_type": "LOHA"},
    "r='four' is not a whole number from 1": {"r": "four"},
    "lora_alpha=True is not a number": {"lora_alpha": True},
    "nan is no number of JSON": {"r": 4, "lora_alpha": float("nan")},
    "alpha_pattern.to_k='8' is not a number": {"r": 4, "alpha_pattern": {"to_k": "8"}},
    "a pattern that is none": {"rank_pattern": {"(": 4}},
}


@pytest.mark.parametrize("says", BAD_SETTINGS)
def test_settings_that_contradict_or_are_damaged(folder, says):
    configure(folder, **BAD_SETTINGS[says])
    with pytest.raises(VidgenError) as caught:
        read_lora(find_lora(folder))
    assert says in str(caught.value) and "adapter_config.json" in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_file_and_a_damaged_header(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\x10\0\0")
    with pytest.raises(VidgenError, match="not a whole safetensors file"):
        read_lora(tmp_path / "x.safetensors")
    save_file({A: torch.ones(1, 32), B: torch.ones(32, 1)}, tmp_path / "x.safetensors", {"lora_adapter_metadata": "{"})
    with pytest.raises(VidgenError, match="lora_adapter_metadata is no JSON object"):
        read_lora(tmp_path / "x.safetensors")


@given(data=st.data())
def test_files_changed_at_random_load_or_end_in_one_line(ours, folder, fuzzing, tmp_path, snapshot, same, data):
    """What does not load leaves the network as it was; what loads is used once."""
    before = snapshot(ours)
    configure(folder, r=4, lora_alpha=8)
    file = find_lora(folder)
    settings = folder / "adapter_config.json"
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir(exist_ok=True)
    (spoilt / file.name).write_bytes(file.read_bytes())
    (spoilt / settings.name).write_bytes(settings.read_bytes())
    what = data.draw(st.sampled_from(("settings", "header", "bytes")))
    if what == "settings":
        tree = data.draw(fuzzing["changed"](json.loads(settings.read_text())))
        (spoilt / settings.name).write_text(json.dumps(tree))
    else:
        change = fuzzing["changed_header" if what == "header" else "damaged"]
        (spoilt / file.name).write_bytes(data.draw(change(file.read_bytes())))
    try:
        lora = load_lora(ours, spoilt)
    except VidgenError as error:
        assert "\n" not in str(error) and str(spoilt) in str(error) and len(str(error)) < 1000
        assert same(ours, before)
        return
    assert all(torch.isfinite(value).all() for value in ours.state_dict().values())
    lora.unload()
    assert same(ours, before)
