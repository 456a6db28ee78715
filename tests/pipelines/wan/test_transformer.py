"""Wan's transformers against diffusers' own class on the same random weights: output, layers, files and speed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from vidgen.checkpoints.checkpoint import WEIGHTS_NAME
from vidgen.errors import VidgenError
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.layers import Attention
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.wan.transformer import WanTransformer, read_wan_transformer, write_wan_transformer
from vidgen.pipelines.wan.transformer_config import FORMERLY, SIZES, TEXT_LENGTH, WanTransformerConfig
from vidgen.pipelines.wan.transformer_keys import match_transformer_keys
from vidgen.profiling.flops import count_gflops

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

# Heads of 16 channels: four pairs turn with time and two with each side. The feed-forward is no multiple of the width.
SMALL = dict(
    num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=12, ffn_dim=72, num_layers=2
)
LEVELS = {"a clip": torch.tensor([0.25, 0.875]), "a frame": torch.tensor([[0.5, 0.0, 1.0], [0.125, 0.75, 0.625]])}


def make_peer() -> WanTransformer3DModel:
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    peer = WanTransformer3DModel(**SMALL).eval().requires_grad_(False)
    for value in peer.parameters():  # norms and biases start as ones and zeros
        value.add_(0.1 * torch.randn_like(value))
    return peer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("wan") / "transformer"
    make_peer().save_pretrained(made)
    return made


def inputs(dtype: torch.dtype) -> tuple[torch.Tensor, TextEncoding]:
    """Latents of three frames of 2x3 patches, and two texts, the second of which is shorter."""
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 3, 4, 6, generator=g, dtype=torch.float64).to(dtype)
    tokens = torch.randn(2, 7, 12, generator=g, dtype=torch.float64).to(dtype)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[1, 4:] = False
    return x, TextEncoding(tokens=tokens, mask=mask)


def run_peer(peer: WanTransformer3DModel, x: torch.Tensor, t: torch.Tensor, text: TextEncoding) -> torch.Tensor:
    """As its pipelines run it: levels in thousandths, one a token where frames have their own, text and zeros."""
    tokens = torch.zeros(len(x), TEXT_LENGTH, text.tokens.shape[2], dtype=x.dtype)
    tokens[:, : text.tokens.shape[1]] = text.tokens * text.mask[..., None]
    steps = 1000 * (t.repeat_interleave(6, dim=1) if t.ndim == 2 else t)
    return peer(x, steps, tokens, return_dict=False)[0]


@pytest.mark.parametrize("levels", LEVELS)
def test_equal_in_float64(folder, levels, monkeypatch):
    # It rounds to float32 between its layers whatever the dtype; without that, what is left is rounding.
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    peer, model = make_peer().double(), read_wan_transformer(folder, dtype=torch.float64)
    (x, text), t = inputs(torch.float64), LEVELS[levels].double()
    wanted = run_peer(peer, x, t, text)
    assert wanted.std() > 0.1 and (model(x, t, text) - wanted).abs().max() < 1e-9
    assert (model(x, t, model.prepare_text(text)) - wanted).abs().max() < 1e-9


@pytest.mark.parametrize("levels", LEVELS)
def test_equal_in_float32_block_by_block(folder, levels):
    peer, model, seen = make_peer(), read_wan_transformer(folder), []
    for block in peer.blocks:
        block.register_forward_hook(lambda _, __, out: seen.append(out))
    x, text = inputs(torch.float32)
    wanted = run_peer(peer, x, LEVELS[levels], text)
    found = dict(model.iter_features(x, LEVELS[levels], model.prepare_text(text)))
    assert list(found) == ["patches", "blocks.0", "blocks.1", "out"] and (found["out"] - wanted).abs().max() < 1e-4
    for i, hidden in enumerate(seen):
        assert found[f"blocks.{i}"].shape == (2, 3, 2, 3, 32)
        assert (found[f"blocks.{i}"].flatten(1, 3) - hidden).abs().max() < 1e-4


@pytest.mark.parametrize("blocks", [True, False])
def test_bfloat16_is_as_near_to_the_exact_result_as_its_own(folder, blocks, monkeypatch):
    monkeypatch.setattr("vidgen.models.blockwise.BLOCK", 100 if blocks else 1 << 20)
    peer = make_peer().bfloat16()
    for name, module in peer.named_modules():  # what from_pretrained leaves in float32, where accelerate is there
        if name.rpartition(".")[2] in peer._keep_in_fp32_modules:
            module.float()
    for value in (peer.scale_shift_table, *(block.scale_shift_table for block in peer.blocks)):
        value.data = value.data.float()
    model, exact = read_wan_transformer(folder, dtype=torch.bfloat16), read_wan_transformer(folder, dtype=torch.float64)
    errors = []
    for levels in LEVELS.values():
        x, text = inputs(torch.bfloat16)
        wide = replace(text, tokens=text.tokens.double())
        wanted = exact(x.double(), levels.double(), wide)
        with torch.no_grad():
            ours = model(x, levels, model.prepare_text(text))
            theirs = run_peer(peer, x, levels, text)
        assert ours.dtype == torch.bfloat16
        errors.append([(out - wanted).square().mean() for out in (ours, theirs)])
    ours, theirs = torch.tensor(errors).mean(0)
    assert ours <= 1.1 * theirs < 1e-3, (ours, theirs)


def test_weights_go_straight_to_their_place_and_what_must_be_exact_stays_wide(folder):
    model = read_wan_transformer(folder, dtype=torch.bfloat16)
    wide = {name for name, value in model.state_dict().items() if value.dtype == torch.float32}
    assert wide == {name for name in model.state_dict() if name.startswith("level.") or "table" in name}
    kept = read_wan_transformer(folder)
    assert {value.dtype for value in kept.state_dict().values()} == {torch.float32}
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_shards_and_a_single_file_are_the_same_model(folder, tmp_path):
    make_peer().save_pretrained(tmp_path / "parts", max_shard_size="20KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    config = (folder / "config.json").read_text()
    save_file(load_file(folder / WEIGHTS_NAME), tmp_path / "one.safetensors", metadata={"config": config})
    whole = read_wan_transformer(folder).state_dict()
    for place in (tmp_path / "parts", tmp_path / "one.safetensors"):
        again = read_wan_transformer(place).state_dict()
        assert whole.keys() == again.keys() and all(torch.equal(whole[k], again[k]) for k in whole)


def test_written_back_it_is_the_same_checkpoint(folder, tmp_path):
    from diffusers import WanTransformer3DModel

    write_wan_transformer(read_wan_transformer(folder), tmp_path / "again")
    before, after = load_file(folder / WEIGHTS_NAME), load_file(tmp_path / "again" / WEIGHTS_NAME)
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    configs = [json.loads((place / "config.json").read_text()) for place in (folder, tmp_path / "again")]
    made, again = ({k: v for k, v in config.items() if k != "_diffusers_version"} for config in configs)
    assert again == made
    WanTransformer3DModel.from_config(configs[1]).load_state_dict(after, strict=True)


def test_saved_in_our_layout_it_is_the_same(folder, tmp_path):
    model = read_wan_transformer(folder)
    model.save_pretrained(tmp_path / "ours")
    again = WanTransformer.from_pretrained(tmp_path / "ours")
    (x, text), t = inputs(torch.float32), LEVELS["a frame"]
    assert again.config == model.config and torch.equal(again(x, t, text), model(x, t, text))


def test_what_earlier_versions_saved_as_a_video_dit_is_the_same(folder, tmp_path):
    model = read_wan_transformer(folder)
    model.save_pretrained(tmp_path / "ours")
    shape = dict(latent_channels=4, patch=[1, 2, 2], width=32, depth=2, head_dim=16, mlp_ratio=2.25, text_width=12)
    former = {"_class_name": "VideoDiT", **shape, "norm_eps": 1e-6, **FORMERLY, "attention": "full"}
    (tmp_path / "ours" / "config.json").write_text(json.dumps(former))
    again = WanTransformer.from_pretrained(tmp_path / "ours")
    (x, text), t = inputs(torch.float32), LEVELS["a frame"]
    assert again.config == model.config and torch.equal(again(x, t, text), model(x, t, text))
    with pytest.raises(VidgenError, match="qk_norm='rms_norm_across_heads' is no setting of a VideoDiTConfig"):
        VideoDiT.from_pretrained(tmp_path / "ours")
    (tmp_path / "ours" / "config.json").write_text(json.dumps({"_class_name": "VideoDiT", **shape}))
    with pytest.raises(VidgenError, match="is of a VideoDiT, not of a WanTransformer"):
        WanTransformer.from_pretrained(tmp_path / "ours")


@pytest.mark.parametrize("name", SIZES)
def test_the_published_sizes_have_its_tensors(name):
    from diffusers import WanTransformer3DModel

    config = SIZES[name]
    settings = {k: v for k, v in config.published().items() if v is not None}
    with torch.device("meta"):
        peer = WanTransformer3DModel(**{**settings, "num_layers": 2})
        model = WanTransformer(replace(config, num_layers=2))
        keys = match_transformer_keys(model)
    assert {key.name: key.shape for key in keys} == {k: tuple(v.shape) for k, v in peer.state_dict().items()}
    assert {block.mlp.up.out_features for block in model.blocks} == {config.ffn_dim}


def test_the_smallest_has_as_many_parameters_as_its_checkpoint():
    """The number of parameters is linear in the depth, so two of the blocks tell that of all."""
    config = SIZES["wan2.1_t2v_1.3b"]
    with torch.device("meta"):
        networks = [WanTransformer(replace(config, num_layers=depth)) for depth in (1, 2)]
    one, two = (sum(p.numel() for p in network.parameters()) for network in networks)
    assert (one + (config.num_layers - 1) * (two - one)) / 1e6 == pytest.approx(1419.00, abs=0.005)


def test_operations_are_those_of_the_closed_form():
    n, d, words, fed = 3 * 2 * 3, 32, TEXT_LENGTH, 72
    with torch.device("meta"), torch.no_grad():
        model = WanTransformer(WanTransformerConfig(**SMALL))
        model.set_attention("plain")  # of which every product is counted
        text = TextEncoding(tokens=torch.empty(1, words, 12), mask=torch.empty(1, words, dtype=torch.bool))
        gflops = count_gflops(lambda: model(torch.empty(1, 4, 3, 4, 6), torch.empty(1), text))
    block = 4 * n * d * d + 2 * n * n * d + 2 * fed * n * d
    cross = 2 * n * d * d + 2 * n * words * d + 2 * words * d * d
    rest = words * (12 * d + d * d) + 256 * d + d * d + 6 * d * d + 2 * 16 * n * d
    assert gflops * 1e9 == pytest.approx(2 * (2 * (block + cross) + rest), rel=1e-9)


def test_prepared_text_serves_every_step(folder):
    model, (x, text), calls = read_wan_transformer(folder, dtype=torch.float64), inputs(torch.float64), []
    ready = model.prepare_text(text)
    for block in model.blocks:
        block.cross.to_kv.register_forward_hook(lambda *_: calls.append(1))
    for t in (torch.tensor([0.2, 0.9]), torch.rand(2, 3)):
        out = model(x, t.double(), ready)
        assert not calls and torch.allclose(out, model(x, t.double(), text), atol=1e-12)
        assert len(calls) == 2
        calls.clear()
    visible = TextEncoding(tokens=text.tokens, mask=torch.ones(2, 7, dtype=torch.bool))
    whole = model.prepare_text(visible)
    assert whole.blocks[0].mask is not None
    assert torch.allclose(model(x, torch.ones(2), whole), model(x, torch.ones(2), visible), atol=1e-12)


def test_separate_products_are_the_same_network(folder, tmp_path):
    fused, model = (read_wan_transformer(folder, dtype=torch.float64) for _ in range(2))
    for block in model.blocks:
        state = block.attention.state_dict()
        for kind in ("weight", "bias"):
            q, kv = state.pop(f"to_qkv.{kind}").split([32, 64])
            state |= {f"to_q.{kind}": q, f"to_kv.{kind}": kv}
        block.attention = Attention(32, 16, qk_norm="rms_norm_across_heads", eps=1e-6).double()
        block.attention.load_state_dict(state)
    (x, text), t = inputs(torch.float64), LEVELS["a clip"].double()
    assert torch.allclose(model(x, t, text), fused(x, t, text), atol=1e-12)
    write_wan_transformer(model, tmp_path / "out", dtype=torch.float32)
    before, after = load_file(folder / WEIGHTS_NAME), load_file(tmp_path / "out" / WEIGHTS_NAME)
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_text_of_another_length_changes_nothing_and_too_long_is_refused(folder):
    model, (x, text) = read_wan_transformer(folder), inputs(torch.float32)
    t = LEVELS["a clip"]
    cut = TextEncoding(tokens=text.tokens[1:, :4], mask=text.mask[1:, :4])
    assert torch.allclose(model(x[1:], t[1:], cut), model(x, t, text)[1:], atol=1e-5)
    full = TextEncoding(tokens=torch.randn(1, 512, 12), mask=torch.ones(1, 512, dtype=torch.bool))
    assert torch.allclose(model(x[:1], t[:1], full), model(x[:1], t[:1], model.prepare_text(full)), atol=1e-5)
    long = TextEncoding(tokens=torch.zeros(1, 513, 12), mask=torch.ones(1, 513, dtype=torch.bool))
    with pytest.raises(VidgenError, match="prompt of 513 tokens is too long, 512 at most"):
        model(x[:1], t[:1], long)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (dict(image_dim=1280), "image_dim=1280 is not supported, only None"),
        (dict(qk_norm=None), "qk_norm=None is not supported"),
        (dict(patch_size=[2, 2, 2]), r"patch_size=\(2, 2, 2\) is not supported"),
        (dict(in_channels=36), "in_channels=36 with out_channels=4 is not supported"),
        (dict(ffn_dim="wide"), "ffn_dim='wide' is not a whole number from 1"),
        (dict(ffn_dim=80), r"has shape \(72,\), the config asks for \(80,\)"),
        (dict(attention_head_dim=12), "head_dim 12, and that of 8"),
        (dict(num_layers=3), r"missing \['blocks.2"),
        (dict(eps=0), "eps=0 is not a number above 0"),
        (dict(magic=1), "unknown keys magic"),
        (dict(_class_name="LTXVideoTransformer3DModel"), "holds a LTXVideoTransformer3DModel, not a Wan"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(folder, changed, says, tmp_path):
    copy = tmp_path / "transformer"
    copy.mkdir()
    (copy / WEIGHTS_NAME).symlink_to(folder / WEIGHTS_NAME)
    values = json.loads((folder / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**values, **changed}))
    with pytest.raises(VidgenError, match=rf"^{copy}[^\n]*({says})[^\n]*$"):
        read_wan_transformer(copy)


def test_another_network_cannot_be_written_as_wan(folder, tmp_path):
    model = VideoDiT(VideoDiTConfig(latent_channels=4, width=32, depth=2, head_dim=16, text_width=12))
    says = "a VideoDiT cannot be written as WanTransformer3DModel, only a WanTransformer"
    with pytest.raises(VidgenError, match=says):
        write_wan_transformer(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
