"""What files hold beside two factors in float: whole alphas, fp8, DoRA, modulations; and files for two networks."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vidgen.errors import VidgenError
from vidgen.lora.loading import load_lora
from vidgen.pipelines.wan.transformer import read_wan_transformer

Q = "blocks.0.attention.to_q"
FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def difference(network: nn.Module, before: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    return network.state_dict()[name] - before[name]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.bfloat16, torch.float64])
def test_alpha_may_be_of_any_type(ours, draw, tmp_path, snapshot, dtype):
    (down, up), before = draw({Q: (32, 32)})[Q], snapshot(ours)
    tensors = {f"{Q}.lora_down.weight": down, f"{Q}.lora_up.weight": up, f"{Q}.alpha": torch.tensor(2, dtype=dtype)}
    save_file(tensors, tmp_path / "x.safetensors")
    load_lora(ours, tmp_path / "x.safetensors")
    torch.testing.assert_close(difference(ours, before, f"{Q}.weight"), 2 / 3 * up @ down)


@pytest.mark.parametrize("adapter", ["", ".default", ".my-style", ".my-style_v1.2"])
def test_adapters_may_have_any_name(ours, draw, tmp_path, snapshot, adapter):
    (down, up), before = draw({Q: (32, 32)})[Q], snapshot(ours)
    start = f"base_model.model.{Q}"
    tensors = {f"{start}.lora_A{adapter}.weight": down, f"{start}.lora_B{adapter}.weight": up}
    save_file(tensors, tmp_path / "x.safetensors")
    load_lora(ours, tmp_path / "x.safetensors")
    torch.testing.assert_close(difference(ours, before, f"{Q}.weight"), up @ down)


@pytest.mark.parametrize("scale", [None, "one", "rows"])
@pytest.mark.parametrize("ending", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("dtype", FP8)
def test_fp8_is_read_with_its_scale(ours, draw, tmp_path, snapshot, dtype, ending, scale):
    (down, up), before, tensors, wanted = draw({Q: (32, 32)})[Q], snapshot(ours), {}, []
    for name, matrix in (("lora_up", up), ("lora_down", down)):
        scales = {None: 1.0, "one": torch.tensor(0.25), "rows": torch.rand(len(matrix), 1) + 0.1}[scale]
        stored = (matrix.float() / scales).to(dtype)
        tensors[f"{Q}.{name}.weight"] = stored
        if scale is not None:
            tensors[f"{Q}.{name}.{ending}"] = scales
        wanted.append(stored.double() * scales)
    save_file(tensors, tmp_path / "x.safetensors")
    load_lora(ours, tmp_path / "x.safetensors")
    torch.testing.assert_close(difference(ours, before, f"{Q}.weight"), wanted[0] @ wanted[1], rtol=1e-6, atol=1e-6)


def dora(weight, up, down, factor, magnitude):
    """The paper's formula in float64 (eq. 5): the norm is over the inputs, or, of a row of magnitudes, the outputs."""
    changed = weight + factor * up @ down
    axis = 0 if magnitude.shape[0] == 1 else 1
    return magnitude * changed / changed.square().sum(axis, keepdim=True).sqrt()


@pytest.mark.parametrize("key", ["dora_scale", "lora_magnitude_vector", "lora_magnitude_vector.default.weight"])
@pytest.mark.parametrize("shape", [(32, 1), (32,), (1, 32)])
def test_dora_is_the_papers_formula(ours, draw, tmp_path, snapshot, same, key, shape):
    (down, up), before = draw({Q: (32, 32)})[Q], snapshot(ours)
    magnitude = torch.rand(shape, dtype=torch.float64) + 0.5
    tensors = {f"{Q}.lora_A.weight": down, f"{Q}.lora_B.weight": up, f"{Q}.alpha": torch.tensor(6.0)}
    save_file(tensors | {f"{Q}.{key}": magnitude}, tmp_path / "x.safetensors")
    lora = load_lora(ours, tmp_path / "x.safetensors")
    weight = before[f"{Q}.weight"]
    wanted = dora(weight, up, down, 2.0, magnitude if magnitude.ndim == 2 else magnitude[:, None])
    torch.testing.assert_close(ours.state_dict()[f"{Q}.weight"], wanted, rtol=1e-12, atol=1e-12)
    lora.scale = 0.25
    torch.testing.assert_close(ours.state_dict()[f"{Q}.weight"], weight + 0.25 * (wanted - weight))
    lora.unload()
    assert same(ours, before)


@pytest.fixture
def native(tmp_path):
    """A WanTransformer, and diffusers' class with the same weights."""
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    peer = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        text_dim=12,
        ffn_dim=72,
        num_layers=2,
    )
    peer.eval().requires_grad_(False).save_pretrained(tmp_path / "wan")
    return read_wan_transformer(tmp_path / "wan").double(), peer.double()


@pytest.mark.parametrize("form", ["diffusion_model.{}", "lora_unet_{}"])
def test_wans_modulations_norms_and_doras_go_where_its_own_names_say(native, tmp_path, form):
    # held against diffusers' class with the same changes put on by hand, by what both then say
    network, peer = native
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return 0.1 * torch.randn(*shape, generator=generator, dtype=torch.float64)

    width = peer.config.num_attention_heads * peer.config.attention_head_dim
    down, up, magnitude = draw(2, width), draw(width, 2), draw(width, 1).abs() + 0.5
    spell = (lambda name: name.replace(".", "_")) if "unet" in form else (lambda name: name)
    tensors = {
        "blocks.0.diff_m": draw(1, 6, width),
        "head.modulation.diff": draw(1, 2, width),
        "blocks.1.self_attn.q.lora_down.weight": down,
        "blocks.1.self_attn.q.lora_up.weight": up,
        "blocks.1.self_attn.q.dora_scale": magnitude,
        "blocks.1.self_attn.norm_q.diff": draw(width),
    }
    kinds = ("diff_m", "diff", "lora_down.weight", "lora_up.weight", "dora_scale")

    def key(name):
        kind = next(kind for kind in kinds if name.endswith(f".{kind}"))
        return f"{form.format(spell(name.removesuffix(f'.{kind}')))}.{kind}"

    save_file({key(name): value for name, value in tensors.items()}, tmp_path / "x.safetensors")
    load_lora(network, tmp_path / "x.safetensors")
    block = peer.blocks[1].attn1
    peer.blocks[0].scale_shift_table.data += tensors["blocks.0.diff_m"]
    peer.scale_shift_table.data += tensors["head.modulation.diff"]
    block.norm_q.weight.data += tensors["blocks.1.self_attn.norm_q.diff"]
    block.to_q.weight.data = dora(block.to_q.weight.data, up, down, 1.0, magnitude)
    peer.save_pretrained(tmp_path / "changed")
    twin = read_wan_transformer(tmp_path / "changed").double()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name], rtol=1e-6, atol=1e-6, msg=name)


class Two(nn.Module):
    """A denoiser of two networks, as Wan 2.2's."""

    def __init__(self, high: nn.Module, low: nn.Module) -> None:
        super().__init__()
        self.high, self.low = high, low

    def lora_networks(self):
        return {"transformer": self.high, "transformer_2": self.low}


@pytest.fixture
def two(pair):
    return Two(*(copy.deepcopy(pair[1]) for _ in range(2)))


def changes(two, before):
    return [difference(network, before, f"{Q}.weight") for network in (two.high, two.low)]


def test_a_file_goes_onto_one_of_two_or_onto_both_by_name(two, draw, write, snapshot):
    (down, up), file, before = draw({Q: (32, 32)})[Q], write(draw({Q: (32, 32)})), snapshot(two.high)
    whole, none = up @ down, torch.zeros(32, 32, dtype=torch.float64)
    with pytest.raises(VidgenError, match="two transformers, transformer .high noise. and transformer_2 .low noise."):
        load_lora(two, file)
    with pytest.raises(VidgenError, match="no 'transformer_3' to put a LoRA onto; it has transformer, transformer_2"):
        load_lora(two, file, onto="transformer_3")
    cases = {
        "transformer": (1.0, "transformer", whole, none),
        "transformer_2": (0.5, "transformer_2", none, 0.5 * whole),
        "both": (2.0, ("transformer", "transformer_2"), 2 * whole, 2 * whole),
        "a scale each": ({"transformer": 1.0, "transformer_2": 0.25}, None, whole, 0.25 * whole),
    }
    for scale, onto, high, low in cases.values():
        lora = load_lora(two, file, scale, onto=onto)
        for actual, wanted in zip(changes(two, before), (high, low), strict=True):
            torch.testing.assert_close(actual, wanted)
        lora.unload()
        assert not any(change.any() for change in changes(two, before))
    high = load_lora(two, file, 1.0, onto="transformer")
    low = load_lora(two, file, 0.5, onto="transformer_2")
    high.scale = 0.0
    torch.testing.assert_close(changes(two, before), [none, 0.5 * whole])
    low.unload()


def test_a_file_about_both_goes_where_its_keys_say(two, draw, write, snapshot):
    (down, up), before = draw({Q: (32, 32)})[Q], snapshot(two.high)
    other = {f"transformer_2.{Q}.lora_A.weight": down, f"transformer_2.{Q}.lora_B.weight": 3 * up}
    file = write(draw({Q: (32, 32)}), **other)
    load_lora(two, file)
    torch.testing.assert_close(changes(two, before), [up @ down, 3 * up @ down])
