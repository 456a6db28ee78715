"""LoRAs on networks of ours and of diffusers: W + scale alpha / r B A, and the very weights that were there after."""

import copy
import weakref
from dataclasses import dataclass
from itertools import permutations

import pytest
import torch
from torch import nn

from vidgen.errors import VidgenError
from vidgen.lora import adapters
from vidgen.lora.adapters import STACKS, load_lora
from vidgen.lora.names import Place, places_of_keys, with_aliases
from vidgen.models.text import TextEncoding
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

RANK, ALPHA, SCALE = 3, 6.0, 0.7
# Names of layers of a block of ours, and where they lie: the layer, and which of how many equal parts of its rows.
OURS = {
    "attention.to_q": ("attention.to_q", 0, 1),
    "attention.to_k": ("attention.to_kv", 0, 2),
    "attention.to_v": ("attention.to_kv", 1, 2),
    "cross.to_k": ("cross.to_kv", 0, 2),
    "cross.out": ("cross.out", 0, 1),
    "mlp.up": ("mlp.up", 0, 1),
}


def snapshot(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(network: nn.Module, before: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Holder(nn.Module):
    """What an adapter is to diffusers' class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def run_wan(network: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 4, 2, 4, 4, generator=generator, dtype=torch.float64)
    text = torch.randn(1, 5, 16, generator=generator, dtype=torch.float64)
    return network(x, torch.tensor([500.0]), text, return_dict=False)[0]


def run_ours(network: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 4, 2, 4, 4, generator=generator, dtype=torch.float64)
    tokens = torch.randn(1, 5, 16, generator=generator, dtype=torch.float64)
    return network(x, torch.tensor([0.5]), TextEncoding(tokens=tokens, mask=torch.ones(1, 5, dtype=torch.bool)))


def test_every_form_is_the_closed_form_on_diffusers_class(wan, draw, write, shapes, form):
    before, merged, matrices = snapshot(wan), copy.deepcopy(wan), draw(shapes, RANK)
    for name, (down, up) in matrices.items():
        merged.get_submodule(name).weight += SCALE * ALPHA / RANK * (up @ down)
    lora = load_lora(Holder(wan) if form == "diffusers" else wan, write(matrices, form, ALPHA), SCALE)
    assert lora.loaded and lora.scale == SCALE
    for name, value in merged.state_dict().items():
        torch.testing.assert_close(wan.state_dict()[name], value, rtol=0, atol=1e-13)
    torch.testing.assert_close(run_wan(wan), run_wan(merged), rtol=0, atol=1e-11)
    lora.unload()
    assert same(wan, before) and not lora.loaded and len(STACKS) == 0


def test_layers_that_hold_several_get_their_rows(ours, draw, write):
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


def test_whole_layers_and_names_that_are_given(ours, draw, write):
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


def test_the_key_map_of_a_reader_says_where_a_published_lora_goes(ours, draw, write, form):
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("order", list(permutations(range(3)))[1::2])
def test_several_in_any_order_and_not_a_bit_is_left(wan, draw, write, shapes, dtype, order):
    wan.to(dtype)
    before = snapshot(wan)
    files = [write(draw(shapes, rank, seed=rank), name=f"{rank}") for rank in (1, 2, 5)]
    loras = [load_lora(wan, file, 0.3) for file in files]
    everything = snapshot(wan)
    for k in order[:2]:
        loras[k].unload()
    alone = snapshot(wan)
    loras[order[2]].scale = 0.0
    assert same(wan, before)
    loras[order[2]].scale = -1.5
    loras[order[2]].scale = 0.3
    assert same(wan, alone)
    loras[order[2]].unload()
    assert same(wan, before) and len(STACKS) == 0
    again = load_lora(wan, files[order[2]], 0.3)
    assert same(wan, alone) and not same(wan, everything) and not same(wan, before)
    again.unload()


def test_a_sum_is_rounded_once(wan, draw, write, shapes):
    matrices = draw(shapes, RANK)
    wan.to(torch.bfloat16)
    before, lora = snapshot(wan), load_lora(wan, write(matrices), SCALE)
    for name, (down, up) in matrices.items():
        exact = before[f"{name}.weight"].double() + SCALE * (up @ down)
        error = (wan.get_submodule(name).weight.double() - exact).abs()
        assert (error <= 1.001 * exact.abs() * 2.0**-8 + 1e-6).all()  # half of bfloat16's last place
    lora.unload()
    assert same(wan, before)


def test_biases_kernels_and_plain_differences(wan, draw, write):
    before, generator = snapshot(wan), torch.Generator().manual_seed(0)
    down, up = torch.randn(2, 4, 1, 2, 2, generator=generator), torch.randn(24, 2, 1, 1, 1, generator=generator)
    bias, norm = torch.randn(24, generator=generator), torch.randn(24, generator=generator)
    extra = {
        "diffusion_model.patch_embedding.lora_down.weight": down,
        "diffusion_model.patch_embedding.lora_up.weight": up,
        "diffusion_model.patch_embedding.alpha": torch.tensor(1.0),
        "diffusion_model.blocks.0.self_attn.q.diff_b": bias,
        "diffusion_model.blocks.0.self_attn.norm_q.diff": norm,
        "diffusion_model.blocks.1.self_attn.o.lora_B.bias": bias.clone(),
        "diffusion_model.blocks.1.self_attn.o.lora_A.weight": torch.zeros(2, 24),
        "diffusion_model.blocks.1.self_attn.o.lora_B.weight": torch.zeros(24, 2),
    }
    lora = load_lora(wan, write({}, **extra), 2.0)
    wanted = {
        "patch_embedding.weight": torch.einsum("orabc,rithw->oithw", up, down),  # scale 2, alpha / r 1/2
        "blocks.0.attn1.to_q.bias": 2 * bias,
        "blocks.0.attn1.norm_q.weight": 2 * norm,
        "blocks.1.attn1.to_out.0.bias": 2 * bias,
    }
    for name, value in wan.state_dict().items():
        change = wanted.get(name, torch.zeros(())).double().expand_as(value)
        torch.testing.assert_close(value - before[name], change, rtol=0, atol=1e-6)
    lora.unload()
    assert same(wan, before)


def test_a_tokenizer_is_a_network_like_any_other(draw, write):
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(PRESETS["tiny"]).eval().requires_grad_(False)
    before, strides = snapshot(tokenizer), {n: v.stride() for n, v in tokenizer.state_dict().items()}
    generator, video = torch.Generator().manual_seed(1), torch.rand(1, 3, 5, 16, 16) * 2 - 1
    name = "decoder.conv_in"
    weight = tokenizer.get_submodule(name).weight
    down, up = torch.randn(2, *weight.shape[1:], generator=generator), torch.randn(len(weight), 2, generator=generator)
    lora = load_lora(tokenizer, write({}, **{f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}), 0.1)
    merged = copy.deepcopy(tokenizer)
    change = torch.einsum("or,r...->o...", up, down)
    merged.get_submodule(name).weight.copy_(before[f"{name}.weight"] + 0.1 * change)
    torch.testing.assert_close(tokenizer(video), merged(video), rtol=0, atol=1e-5)
    assert strides == {n: v.stride() for n, v in tokenizer.state_dict().items()}
    lora.unload()
    assert same(tokenizer, before)


def test_what_breaks_off_leaves_nothing(wan, draw, write, shapes, monkeypatch):
    before, whole, count = snapshot(wan), adapters.rewrite, 0
    first, second = (write(draw(shapes, 2, seed=seed), name=f"{seed}") for seed in (1, 2))

    def breaking(parameter):
        nonlocal count
        count += 1
        if count == 5:
            parameter.zero_()
            raise KeyboardInterrupt
        whole(parameter)

    monkeypatch.setattr(adapters, "rewrite", breaking)
    with pytest.raises(KeyboardInterrupt):
        load_lora(wan, first)
    assert same(wan, before) and len(STACKS) == 0
    lora, count = load_lora(wan, second), 0
    loaded = snapshot(wan)
    for act in (lambda: setattr(lora, "scale", 2.0), lora.unload, lambda: load_lora(wan, first)):
        count = 0
        with pytest.raises(KeyboardInterrupt):
            act()
        assert same(wan, loaded) and lora.loaded and lora.scale == 1.0
    lora.unload()
    assert same(wan, before) and len(STACKS) == 0


def test_a_network_that_is_gone_leaves_nothing(ours, draw, write):
    network = copy.deepcopy(ours)
    lora, gone = load_lora(network, write(draw({"blocks.0.attention.to_q": (32, 32)}))), weakref.ref(network)
    del network
    assert gone() is None and len(STACKS) == 0 and lora.parameters == []
    lora.unload()


def test_scales_that_are_none(ours, draw, write):
    file = write(draw({"blocks.0.attention.to_q": (32, 32)}))
    with pytest.raises(VidgenError, match="finite number, not nan"):
        load_lora(ours, file, float("nan"))
    lora = load_lora(ours, file)
    with pytest.raises(ValueError, match="finite number, not inf"):
        lora.scale = float("inf")
    lora.unload()
    lora.unload()
    assert lora.scale == 0.0 and "scale=0" in repr(lora)
    with pytest.raises(ValueError, match="was unloaded; load it again"):
        lora.scale = 1.0


BAD = {
    "speaks of blocks.7.mlp.up.weight, which VideoDiT has not (1 of 2 are not there)": {"blocks.7.mlp.up": (32, 32)},
    "of shape (32, 30), blocks.0.attention.to_q.weight has (32, 32)": {"blocks.0.attention.to_q": (32, 30)},
    "of shape (64, 16), rows 32 to 64 of blocks.0.cross.to_kv.weight has (32, 16)": {"blocks.0.cross.to_v": (64, 16)},
}


@pytest.mark.parametrize("says", BAD)
def test_names_and_shapes_that_are_not_there(ours, draw, write, says):
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


def test_peft_makes_the_same_of_its_own_files(wan, tmp_path):
    peft = pytest.importorskip("peft", reason="peft is not installed: the closed form stands in for it")
    plain = copy.deepcopy(wan)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["to_q", "to_k", "net.2"], use_rslora=True)
    model = peft.get_peft_model(wan, config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    load_lora(plain, tmp_path / "adapter")
    torch.testing.assert_close(run_wan(plain), run_wan(model), rtol=0, atol=1e-6)
