"""`load_tokenizer` knows a model by its config: folder, pipeline, shards or a single file; ours and Wan's."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vidgen.errors import VidgenError
from vidgen.models import placement
from vidgen.pipelines.loading import READERS, load_tokenizer, load_trainable
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

NAME = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def vae(tmp_path_factory) -> Path:
    from diffusers import AutoencoderKLWan

    torch.manual_seed(0)
    folder, stats = tmp_path_factory.mktemp("wan") / "vae", [0.5] * 4
    peer = AutoencoderKLWan(base_dim=4, z_dim=4, num_res_blocks=1, latents_mean=stats, latents_std=stats)
    peer.to(torch.bfloat16).save_pretrained(folder)
    return folder


def test_wan_in_every_form_is_the_same(vae, tmp_path):
    from diffusers import AutoencoderKLWan

    wanted = load_tokenizer(str(vae), dtype=None).state_dict()
    assert {value.dtype for name, value in wanted.items() if name != "front_end.basis"} == {torch.bfloat16}
    shutil.copytree(vae, tmp_path / "pipe" / "vae")
    (tmp_path / "pipe" / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    single = tmp_path / "wan.safetensors"
    save_file(load_file(vae / NAME), single, metadata={"config": (vae / "config.json").read_text()})
    AutoencoderKLWan.from_pretrained(vae, torch_dtype=torch.bfloat16).save_pretrained(
        tmp_path / "cut", max_shard_size="20KB"
    )
    assert not (tmp_path / "cut" / NAME).exists()
    for place in (tmp_path / "pipe", single, vae / NAME, tmp_path / "cut"):
        found = load_tokenizer(str(place), dtype=None).state_dict()
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[k], wanted[k]) and found[k].stride() == wanted[k].stride() for k in wanted)


def test_our_own_in_a_single_file(tmp_path):
    made = VideoTokenizer(PRESETS["tiny"])
    made.save_pretrained(tmp_path / "tok")
    found = load_tokenizer(str(tmp_path / "tok" / NAME), dtype=None)
    assert all(torch.equal(v, found.state_dict()[k]) for k, v in made.state_dict().items())


@pytest.mark.parametrize("kind", ["AutoencoderKLMochi", "VideoDiT", None])
def test_an_unknown_class_lists_those_that_are_read(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(VidgenError, match=rf"^[^\n]*holds a {kind}, not a VideoTokenizer, nor.*AutoencoderKLWan, .*$"):
        load_tokenizer(str(tmp_path))


def test_what_is_supported_is_in_the_docs():
    text = (Path(__file__).resolve().parents[2] / "docs" / "published_weights.md").read_text()
    assert all(f"`{name}`" in text for name in READERS)


def test_classes_of_diffusers_are_not_trained(published):
    folder = str(published("ltx")[0])
    assert load_tokenizer(folder).config.name == "ltx_4x16x16_4ch"
    with pytest.raises(VidgenError, match="holds ltx_4x16x16_4ch of diffusers' class, which is not trained"):
        load_trainable(folder)


@pytest.mark.parametrize("fast", [True, False])
def test_auto_is_the_dtype_of_the_file_unless_the_processor_would_emulate_it(fast, tmp_path, monkeypatch):
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(tmp_path / "tok", dtype=torch.bfloat16)
    monkeypatch.setattr(placement, "has_fast_bfloat16", lambda device: fast)
    assert load_tokenizer(str(tmp_path / "tok")).dtype == (torch.bfloat16 if fast else torch.float32)
    assert load_tokenizer(str(tmp_path / "tok"), dtype=None).dtype == torch.bfloat16
    with pytest.raises(VidgenError, match="dtype 'half' is none"):
        load_tokenizer(str(tmp_path / "tok"), dtype="half")
