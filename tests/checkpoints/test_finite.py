"""NaN and infinity: the layer where they begin is the one that was spoiled."""

import pytest
import torch
from torch import nn

from vidgen.checkpoints.finite import NotFinite, first_broken, is_finite
from vidgen.tokenizers.config import TokenizerConfig
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

WAN = TokenizerConfig(
    backbone="wan", bottleneck="kl", latent_channels=4, front_end="patch", patch_t=1, patch=1, widths=(4, 4, 8, 8),
    temporal=(False, True, True), encoder_blocks=1, decoder_blocks=2,
)  # fmt: skip


def test_every_number_counts_and_nothing_is_no_fault():
    for value in (float("nan"), float("inf"), float("-inf")):
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            x = torch.zeros(3, 5, dtype=dtype)
            assert is_finite(x)
            x[1, 2] = value
            assert not is_finite(x)
    assert is_finite(torch.ones(3, dtype=torch.int64)) and is_finite(torch.empty(0))
    assert is_finite(torch.empty(3, device="meta"))


def test_the_first_layer_in_the_order_of_work_is_named():
    network = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Identity(), nn.Linear(2, 2)), nn.Linear(2, 2)).eval()
    x = torch.ones(1, 2)
    assert first_broken(network, lambda: network(x)) is None
    with torch.no_grad():
        network[2].weight.fill_(float("nan"))
        network[1][1].bias[0] = float("inf")
    name, layer = first_broken(network, lambda: network(x))
    assert name == "1.1" and layer is network[1][1]
    assert not any(layer._forward_hooks for layer in network.modules())


@pytest.mark.parametrize("config", [PRESETS["tiny"], WAN], ids=["tiny", "wan"])
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_a_layer_that_overflows_is_named_wherever_it_is(config, half):
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(config).half().eval().requires_grad_(False)
    video = torch.rand(1, 3, 5, 16, 16) * 2 - 1
    encoded = tokenizer.encode(video)
    assert tokenizer.decode(encoded).isfinite().all()
    network = getattr(tokenizer, half)
    for k, layer in enumerate(network.layers):
        kernels = [weight for weight in layer.parameters() if weight.ndim > 1]
        kept = [weight.clone() for weight in kernels]
        for weight in kernels:
            weight.fill_(6e4)
        with pytest.raises(
            NotFinite, match=rf"^the {half} of {config.name} gave NaN or infinity in float16, "
        ) as caught:
            tokenizer.encode(video) if half == "encoder" else tokenizer.decode(encoded, chunk_latents=1)
        line = str(caught.value)
        assert f"first in layers.{k}" in line and line.endswith("; run it in float32 or bfloat16") and "\n" not in line
        for weight, value in zip(kernels, kept, strict=True):
            weight.copy_(value)
    assert tokenizer.decode(encoded).isfinite().all()


def test_what_came_in_broken_is_not_the_networks_fault():
    tokenizer = VideoTokenizer(PRESETS["tiny"]).eval().requires_grad_(False)
    with pytest.raises(NotFinite, match="what it was given holds NaN or infinity; the fault is before it"):
        tokenizer.decode_chunk(torch.full((1, 4, 1, 2, 2), float("nan")))
    tokenizer.decoder.out.conv.bias.fill_(float("inf"))
    with pytest.raises(NotFinite, match=r"in float32, first in out.conv \(CausalConv3d\); its weights are damaged"):
        tokenizer.decode_chunk(torch.zeros(1, 4, 1, 2, 2))
    with pytest.raises(NotFinite, match="in bfloat16, first in out.conv .*; run it in float32$"):
        tokenizer.bfloat16().decode_chunk(torch.zeros(1, 4, 1, 2, 2))
    tokenizer.train()  # a run has guards of its own
    assert not tokenizer.decode_chunk(torch.zeros(1, 4, 1, 2, 2))[0].isfinite().any()
