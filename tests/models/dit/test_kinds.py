"""VideoDiT's kinds of attention: each where it must equal another, and what all of them keep."""

from dataclasses import replace

import pytest
import torch
from einops import rearrange
from torch import nn

from vidgen.models.attention import plain_attention
from vidgen.models.dit.blocks import SwappedAttention, make_attention
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.rope import apply_rotary_emb, rotary_table
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.wan.transformer import WanTransformer
from vidgen.pipelines.wan.transformer_config import WanTransformerConfig
from vidgen.samplers.guidance.perturbed_attention import identity_attention, own_values

SMALL = VideoDiTConfig(latent_channels=4, width=32, depth=3, head_dim=16, text_width=24)
KINDS = {
    "full": {},
    "windows": dict(window=(2, 1, 2)),
    "factorised": dict(attention="factorised"),
    "divided": dict(attention="divided"),
    "swapped": dict(attention="swapped", window=(2, 2, 1)),
    "joint": dict(text_attention="joint"),
}


WAN = WanTransformerConfig(
    num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=24, ffn_dim=128, num_layers=3
)


def make(network=VideoDiT, config=SMALL, **settings) -> VideoDiT | WanTransformer:
    torch.manual_seed(0)
    model = network(replace(config, **settings))
    for parameter in model.parameters():  # the zero start would make every test true
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model.double()


def inputs(frames: int = 3, rows: int = 4, columns: int = 6) -> tuple[torch.Tensor, torch.Tensor, TextEncoding]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, frames, rows, columns, generator=g, dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    text = TextEncoding(tokens=torch.randn(2, 5, 24, generator=g, dtype=torch.float64), mask=mask)
    return x, torch.tensor([0.25, 0.75], dtype=torch.float64), text


@pytest.mark.parametrize("kind", [*KINDS, "wan"])
def test_what_all_kinds_keep(kind, tmp_path):
    x, t, text = inputs()
    network, config = (WanTransformer, WAN) if kind == "wan" else (VideoDiT, replace(SMALL, **KINDS[kind]))
    assert not network(config).double()(x, t, text).any()  # a fresh one predicts zero
    model = make(network, config)
    out = model(x, t, text)
    out.square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    with torch.no_grad():
        assert torch.allclose(model(x, t[:, None].expand(2, 3), text), out, atol=1e-12)
        levels = t[:, None].repeat(1, 3)
        levels[:, 1] = 0.5
        assert not torch.allclose(model(x, levels, text), out, atol=1e-4)
        assert torch.allclose(model(x, levels, model.prepare_text(text)), model(x, levels, text), atol=1e-12)
        other = torch.where(text.mask[..., None], text.tokens, 100.0)
        assert torch.allclose(model(x, t, TextEncoding(tokens=other, mask=text.mask)), out, atol=1e-12)
        alone = TextEncoding(tokens=text.tokens[:1, :3], mask=text.mask[:1, :3])
        assert torch.allclose(model(x[:1], t[:1], alone), out[:1], atol=1e-12)
        layers = list(model.iter_features(x, t, text))
    assert [name for name, _ in layers] == ["patches", *(layer.name for layer in model.feature_info), "out"]
    assert {hidden.shape for _, hidden in layers[:-1]} == {(2, 3, 2, 3, 32)}
    model.save_pretrained(tmp_path / "dit")
    again = network.from_pretrained(tmp_path / "dit")
    assert again.config == model.config and torch.allclose(again(x, t, text), out, atol=1e-12)


def test_full_attention_is_the_default_and_has_the_tensors_it_had():
    assert SMALL.attention == "full" and not any(SMALL.window) and not SMALL.labels
    names = {name for name in VideoDiT(SMALL).state_dict() if name.startswith("blocks.0.")}
    layers = ("attention.to_q", "attention.to_kv", "attention.out", "cross.to_q", "cross.to_kv", "cross.out",
              "norm_text", "mlp.up", "mlp.down")  # fmt: skip
    wanted = {f"blocks.0.{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    wanted |= {f"blocks.0.{layer}.norm_{part}.weight" for layer in ("attention", "cross") for part in "qk"}
    assert names == wanted | {"blocks.0.table"}


@pytest.mark.parametrize("window", [(3, 2, 3), (8, 8, 8), (0, 2, 9)])
def test_windows_as_large_as_the_clip_are_full_attention(window):
    (x, t, text), full = inputs(), make()
    large, small = make(window=window), make(window=(2, 2, 3))
    assert torch.equal(large(x, t, text), full(x, t, text))
    assert not torch.allclose(small(x, t, text), full(x, t, text), atol=1e-3)
    swapped = make(attention="swapped"), make(attention="swapped", window=window)
    assert torch.equal(swapped[0](x, t, text), swapped[1](x, t, text))


@torch.no_grad()
def test_shifted_windows_let_through_what_one_block_holds_back():
    model, (x, t, text) = make(window=(0, 2, 2)), inputs(2, 8, 8)
    changed = x.clone()
    changed[:, :, :, 2, 2] += 1.0  # of the patch (1, 1): its window is rows and columns 0 and 1, later 1 and 2
    moved = {}
    for (name, a), (_, b) in zip(model.iter_features(x, t, text), model.iter_features(changed, t, text), strict=True):
        if name != "out":
            moved[name] = (a != b).any(-1).any(1)[0]
    corner = torch.zeros(4, 4, dtype=torch.bool)
    corner[:2, :2] = True
    assert torch.equal(moved["blocks.0"], corner)
    corner[:3, :3] = True
    assert torch.equal(moved["blocks.1"], corner) and moved["blocks.2"].all()


@pytest.mark.parametrize("kind", ["factorised", "divided"])
@torch.no_grad()
def test_with_one_frame_only_space_is_left(kind):
    # Over time a single frame finds itself alone, and gives its own value: what is switched off in the second model.
    model, (x, t, text) = make(attention=kind), inputs()
    first, out = x[:, :, :1], model(x, t, text)
    alone = model(first, t, text)
    for layer in over_time(model):
        layer.override = own_values
    assert torch.allclose(model(first, t, text), alone, atol=1e-12)
    assert torch.allclose(model(x, t, text)[:, :, :1], alone, atol=1e-12)  # nothing comes from the other frames
    assert not torch.allclose(out[:, :, :1], alone, atol=1e-3)


def over_time(model: VideoDiT) -> list[nn.Module]:
    if model.config.attention == "divided":
        return [block.time_attention for block in model.blocks]
    return [block.attention for block in model.blocks[1::2]]


@torch.no_grad()
def test_factorised_attention_over_one_frame_is_full_attention():
    (x, t, text), full, factorised = inputs(1), make(), make(attention="factorised")
    with identity_attention(full, [1]), identity_attention(factorised, [1]):
        assert torch.allclose(full(x, t, text), factorised(x, t, text), atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("index", [0, 1])
def test_swapped_attention_asks_with_space_and_time_in_turns(index):
    torch.manual_seed(0)
    layer = SwappedAttention(SMALL.block, (2, 0, 1), time_queries=index == 1).double()
    x = torch.randn(2, 3 * 2 * 3, 32, dtype=torch.float64)
    rotary = rotary_table((3, 2, 3), 8, 0.0, torch.device("cpu"), torch.float64)
    frame = torch.arange(3).repeat_interleave(6)
    place, column = torch.arange(6).repeat(3), torch.arange(3).repeat(6)

    def look(part, x, context, same):
        q, k, v = part.project(x, context)
        return part.join(plain_attention(apply_rotary_emb(q, rotary), apply_rotary_emb(k, rotary), v, same[None]))

    space = x + look(layer.space, x, None, frame[:, None] == frame)
    time = x + look(layer.time, x, None, place[:, None] == place)
    window = frame // 2 * 10 + column
    asks, tells = (time, space) if index else (space, time)
    wanted = look(layer.between, asks, tells, window[:, None] == window)
    assert torch.allclose(layer(x, rotary, (3, 2, 3)), wanted, atol=1e-12)


@torch.no_grad()
def test_joint_text_that_is_hidden_leaves_attention_of_patches():
    joint, (x, t, text) = make(text_attention="joint"), inputs()
    nn.init.zeros_(joint.pooled_text.weight)  # the other way that text is read
    nn.init.zeros_(joint.pooled_text.bias)
    plain = make(text_width=0)
    state = {name.replace(".patches.", "."): value for name, value in joint.state_dict().items()}
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    hidden = TextEncoding(tokens=text.tokens, mask=torch.zeros_like(text.mask))
    assert torch.allclose(joint(x, t, hidden), plain(x, t), atol=1e-12)
    assert not torch.allclose(joint(x, t, text), plain(x, t), atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["full", "divided", "swapped", "joint"])
def test_perturbed_attention_gives_each_position_its_own_value(kind):
    model, (x, t, text) = make(**KINDS[kind]), inputs()
    out, changed = model(x, t, text), x.clone()
    changed[:, :, 2] += 1.0
    with identity_attention(model, range(3)):
        weak = model(x, t, text)
        moved = (model(changed, t, text) - weak).abs().amax(dim=(0, 1, 3, 4))
    assert not torch.allclose(weak, out, atol=1e-3) and torch.equal(model(x, t, text), out)
    if kind != "joint":  # where what patches tell the text comes back to others
        assert moved[2] > 1e-3 and not moved[:2].any()


def test_a_layer_of_heads_is_what_its_products_say():
    layer = make_attention(replace(SMALL.block, qk_norm="rms_norm_across_heads")).double()
    x = inputs()[0].flatten(2).transpose(1, 2).repeat(1, 1, 8)
    q, k, _ = layer.project(x)
    for found, product, norm in ((q, layer.to_q(x), layer.norm_q), (k, layer.to_kv(x)[..., :32], layer.norm_k)):
        wanted = product / product.square().mean(-1, keepdim=True).add(1e-5).sqrt() * norm.weight
        assert torch.allclose(rearrange(found, "b k n d -> b n (k d)"), wanted)
