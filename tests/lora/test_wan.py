"""Wan's LoRAs on our WanTransformer: the output of diffusers' class with the same file on it."""

import copy

import pytest
import torch

from vidgen.lora.key_names import WAN, rename
from vidgen.lora.loading import STACKS, load_lora
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.wan.transformer import read_wan_transformer


@pytest.fixture
def networks(tmp_path):
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    peer = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=16, ffn_dim=48,
        num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip
    peer.double().eval().requires_grad_(False).save_pretrained(tmp_path / "wan")
    return peer, read_wan_transformer(tmp_path / "wan")


def run(peer, ours):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, 4, 2, 4, 4, generator=generator, dtype=torch.float64)
    tokens = torch.randn(1, 512, 16, generator=generator, dtype=torch.float64)
    text = TextEncoding(tokens=tokens, mask=torch.ones(1, 512, dtype=torch.bool))
    t = torch.tensor([0.5])
    with torch.no_grad():
        return peer(x, 1000 * t, tokens, return_dict=False)[0], ours(x, t, text)


@pytest.mark.parametrize("published", [False, True])
def test_every_layer_goes_where_the_reader_put_it(networks, write, published):
    (peer, ours), generator, extra = networks, torch.Generator().manual_seed(1), {}
    for name, value in peer.named_parameters():
        layer, _, kind = name.rpartition(".")
        key = f"diffusion_model.{rename(layer, WAN)}" if published else f"transformer.{layer}"
        if kind == "weight" and value.ndim > 1:
            down = torch.randn(3, *value.shape[1:], generator=generator, dtype=torch.float64)
            up = torch.randn(len(value), 3, *[1] * (value.ndim - 2), generator=generator, dtype=torch.float64)
            extra |= {f"{key}.lora_A.weight": 0.1 * down, f"{key}.lora_B.weight": 0.1 * up}
        elif kind in ("weight", "bias"):
            change = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            extra[f"{key}.diff{'_b' * (kind == 'bias')}"] = 0.1 * change
    file, before = write({}, **extra), copy.deepcopy(ours.state_dict())
    plain = run(peer, ours)
    loras = [load_lora(network, file, 0.7) for network in networks]
    theirs, found = run(peer, ours)
    torch.testing.assert_close(found, theirs, rtol=0, atol=1e-5)  # its rotary tables are in float32
    assert (theirs - plain[0]).abs().max() > 0.1 and (plain[1] - plain[0]).abs().max() < 1e-5
    for lora in loras:
        lora.unload()
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items()) and len(STACKS) == 0
