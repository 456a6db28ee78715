"""Where names in LoRA files point: rows of fused layers, names that are given, key maps of readers; and nowhere."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from vidgen.errors import VidgenError
from vidgen.lora.key_names import Place, find_places, places_of_keys, with_aliases
from vidgen.lora.loading import STACKS, load_lora
from vidgen.models.text.encoders import TextEncoding

RANK, SCALE = 3, 0.7
# Names of layers of a block of ours, and where they lie: the layer, and which of how many equal parts of its rows.
OURS = {
    "attention.to_q": ("attention.to_q", 0, 1),
    "attention.to_k": ("attention.to_kv", 0, 2),
    "attention.to_v": ("attention.to_kv", 1, 2),
    "cross.to_k": ("cross.to_kv", 0, 2),
    "cross.out": ("cross.out", 0, 1),
    "mlp.up": ("mlp.up", 0, 1),
}


def run_ours(network: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 4, 2, 4, 4, generator=generator, dtype=torch.float64)
    tokens = torch.randn(1, 5, 16, generator=generator, dtype=torch.float64)
    return network(x, torch.tensor([0.5]), TextEncoding(tokens=tokens, mask=torch.ones(1, 5, dtype=torch.bool)))


def test_layers_that_hold_several_get_their_rows(ours, draw, write, snapshot, same):
    before, shapes = snapshot(ours), {}
    for block in (0, 1):
        for name, (layer, _, parts) in OURS.items():
            outs, ins = ours.get_submodule(f"blocks.{block}.{layer}").weight.shape
            shapes[f"blocks.{block}.{name}"] = (outs // parts, ins)
    merged, matrices = copy.deepcopy(ours), draw(shapes, RANK)
    for name, (down, up) in matrices.items():
        _, block, rest = name.split(".", 2)
        layer, part, parts = OURS[rest]
        weight = merged.get_submodule(f"blocks.{block}.{layer}").weight
        weight.chunk(parts)[part].add_(SCALE * (up @ down))  # no alpha said: alpha = r
    bias = torch.arange(32.0, dtype=torch.float64)
    merged.blocks[1].cross.to_kv.bias[32:] += SCALE * bias
    extra = {"transformer.blocks.1.cross.to_v.diff_b": bias}
    lora = load_lora(ours, write(matrices, **extra), SCALE)
    for name, value in merged.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=1e-13)
    torch.testing.assert_close(run_ours(ours), run_ours(merged), rtol=0, atol=1e-11)
    lora.unload()
    assert same(ours, before)


def test_whole_layers_and_names_that_are_given(ours, draw, write, snapshot, same):
    whole = draw({"blocks.1.cross.to_kv": (64, 16)})
    (down, up), before, layer = whole["blocks.1.cross.to_kv"], snapshot(ours), ours.blocks[1].cross.to_kv
    lora = load_lora(ours, write(whole))
    torch.testing.assert_close(layer.weight - before["blocks.1.cross.to_kv.weight"], up @ down, rtol=0, atol=1e-13)
    lora.unload()
    matrices = draw({"mid.values": (32, 16), "mid.out": (32, 32), "mid.extra": (5, 7)})
    names = {
        "mid.values.weight": Place(parameter="blocks.1.cross.to_kv.weight", rows=slice(32, 64)),
        "mid.out.weight": "blocks.0.attention.out.weight",
        "mid.extra.weight": None,
    }
    lora = load_lora(ours, write(matrices), names=names)
    (down, up), (down_out, up_out) = matrices["mid.values"], matrices["mid.out"]
    wanted = torch.cat([torch.zeros(32, 16, dtype=torch.float64), up @ down])
    torch.testing.assert_close(layer.weight - before["blocks.1.cross.to_kv.weight"], wanted, rtol=0, atol=1e-13)
    found = ours.blocks[0].attention.out.weight - before["blocks.0.attention.out.weight"]
    torch.testing.assert_close(found, up_out @ down_out, rtol=0, atol=1e-13)
    lora.unload()
    assert same(ours, before)


@dataclass(frozen=True, kw_only=True)
class Key:
    """As readers of published checkpoints have it: their rows lie in another order in ours, their kernels flat."""

    ours: str
    name: str
    shape: tuple[int, ...]
    rows: slice | None = None
    order: torch.Tensor | None = None

    def to_ours(self, tensor: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        tensor = tensor.reshape(shape)
        return tensor if self.order is None else tensor[self.order]


def test_the_key_map_of_a_reader_says_where_a_published_lora_goes(ours, draw, write, form, snapshot, same):
    turned = torch.arange(32).reshape(2, 8, 2).transpose(1, 2).flatten()  # pairs of channels of a head, as halves
    keys = [
        Key(ours="patch_in.weight", name="patch_embedding.weight", shape=(32, 4, 1, 2, 2)),
        Key(ours="blocks.0.attention.to_q.weight", name="blocks.0.attn1.to_q.weight", shape=(32, 32), order=turned),
        Key(
            ours="blocks.0.attention.to_kv.weight",
            name="blocks.0.attn1.to_k.weight",
            shape=(32, 32),
            rows=slice(0, 32),
            order=turned,
        ),
        Key(
            ours="blocks.0.attention.to_kv.weight",
            name="blocks.0.attn1.to_v.weight",
            shape=(32, 32),
            rows=slice(32, 64),
        ),
        Key(ours="nowhere.weight", name="blocks.9.attn1.to_v.weight", shape=(32, 32)),
    ]
    before, matrices = snapshot(ours), draw({f"blocks.0.attn1.to_{name}": (32, 32) for name in "qkv"})
    names = with_aliases(places_of_keys(keys, ours), "WanTransformer3DModel")
    assert "patch_embedding.weight" in names and "blocks.9.attn1.to_v.weight" not in names
    lora = load_lora(ours, write(matrices, form), SCALE, names=names)
    q, k, v = (SCALE * (up @ down) for down, up in matrices.values())
    for name, change in {"to_q": q[turned], "to_kv": torch.cat([k[turned], v])}.items():
        name = f"blocks.0.attention.{name}.weight"
        torch.testing.assert_close(ours.state_dict()[name] - before[name], change, rtol=0, atol=1e-13)
    lora.unload()
    kernel = torch.randn(32, 4, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lora = load_lora(ours, write({}, **{"diffusion_model.patch_embedding.diff": kernel}), names=names)
    torch.testing.assert_close(ours.patch_in.weight - before["patch_in.weight"], kernel.flatten(1), rtol=0, atol=1e-13)
    lora.unload()
    assert same(ours, before)


def test_names_that_ltx_was_published_with():
    from diffusers import LTXVideoTransformer3DModel

    with torch.device("meta"):
        network = LTXVideoTransformer3DModel(
            num_layers=1, num_attention_heads=1, attention_head_dim=8, cross_attention_dim=8
        )
    _, table = find_places(network, ())
    for name, parameter in {
        "patchify_proj.weight": "proj_in.weight",
        "adaln_single.linear.bias": "time_embed.linear.bias",
        "transformer_blocks.0.attn1.q_norm.weight": "transformer_blocks.0.attn1.norm_q.weight",
        "transformer_blocks_0_attn2_to_out_0.weight": "transformer_blocks.0.attn2.to_out.0.weight",
    }.items():
        assert table[name].parameter == parameter


BAD = {
    "speaks of blocks.7.mlp.up.weight, which VideoDiT has not (1 of 2 are not there)": {"blocks.7.mlp.up": (32, 32)},
    "of shape (32, 30), blocks.0.attention.to_q.weight has (32, 32)": {"blocks.0.attention.to_q": (32, 30)},
    "of shape (64, 16), rows 32 to 64 of blocks.0.cross.to_kv.weight has (32, 16)": {"blocks.0.cross.to_v": (64, 16)},
}


@pytest.mark.parametrize("says", BAD)
def test_names_and_shapes_that_are_not_there(ours, draw, write, says, snapshot, same):
    before = snapshot(ours)
    matrices = draw({"blocks.1.mlp.down": (32, 128), **BAD[says]})
    with pytest.raises(VidgenError) as caught:
        load_lora(ours, write(matrices))
    line = str(caught.value)
    assert says in line and "\n" not in line and f"'transformer.{list(matrices)[1]}.lora_B.weight'" in line
    assert same(ours, before) and len(STACKS) == 0


def test_places_that_are_none(ours, draw, write):
    ours.register_parameter("count", nn.Parameter(torch.zeros(32, 32, dtype=torch.int64), requires_grad=False))
    file = write(draw({"x": (32, 32)}))
    for place, line in (
        ("nowhere.weight", "is to change nowhere.weight, which is no parameter of the network"),
        ("count", "is to change count, which is of whole numbers"),
        (Place(parameter="blocks.0.attention.to_kv.weight", rows=slice(64, 96)), r"rows 64 to 96 of .* has \(0, 32\)"),
    ):
        with pytest.raises(VidgenError, match=f"'transformer.x.lora_B.weight'.*{line}"):
            load_lora(ours, file, names={"x.weight": place})
    assert len(STACKS) == 0
