"""LoRAs on networks of ours and of diffusers: W + scale alpha / r B A, and the very weights that were there after."""

import copy
import weakref
from itertools import permutations

import pytest
import torch
from torch import nn

from vidgen.errors import VidgenError
from vidgen.lora import loading
from vidgen.lora.loading import STACKS, load_lora
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

RANK, ALPHA, SCALE = 3, 6.0, 0.7


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


def test_every_form_is_the_closed_form_on_diffusers_class(wan, draw, write, shapes, form, snapshot, same):
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("order", list(permutations(range(3)))[1::2])
def test_several_in_any_order_and_not_a_bit_is_left(wan, draw, write, shapes, dtype, order, snapshot, same):
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


def test_a_sum_is_rounded_once(wan, draw, write, shapes, snapshot, same):
    matrices = draw(shapes, RANK)
    wan.to(torch.bfloat16)
    before, lora = snapshot(wan), load_lora(wan, write(matrices), SCALE)
    for name, (down, up) in matrices.items():
        exact = before[f"{name}.weight"].double() + SCALE * (up @ down)
        error = (wan.get_submodule(name).weight.double() - exact).abs()
        assert (error <= 1.001 * exact.abs() * 2.0**-8 + 1e-6).all()  # half of bfloat16's last place
    lora.unload()
    assert same(wan, before)


def test_biases_kernels_and_plain_differences(wan, draw, write, snapshot, same):
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


def test_a_tokenizer_is_a_network_like_any_other(draw, write, snapshot, same):
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


def test_what_breaks_off_leaves_nothing(wan, draw, write, shapes, monkeypatch, snapshot, same):
    before, whole, count = snapshot(wan), loading.rewrite, 0
    first, second = (write(draw(shapes, 2, seed=seed), name=f"{seed}") for seed in (1, 2))

    def breaking(parameter):
        nonlocal count
        count += 1
        if count == 5:
            parameter.zero_()
            raise KeyboardInterrupt
        whole(parameter)

    monkeypatch.setattr(loading, "rewrite", breaking)
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
