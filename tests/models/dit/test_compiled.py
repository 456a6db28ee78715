"""Blocks compiled one by one: whole, one graph for all of a kind, and none anew from step to step."""

import pytest
import torch

from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.wan.transformer import WanTransformer
from vidgen.pipelines.wan.transformer_config import WanTransformerConfig

SMALL = VideoDiTConfig(latent_channels=4, width=32, depth=4, head_dim=16, text_width=8, attention="factorised")
WAN = WanTransformerConfig(
    num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_dim=8, ffn_dim=64, num_layers=4
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "config", "graphs"),
    [(VideoDiT, SMALL, 2), (WanTransformer, WAN, 1)],  # over frames, and over time; over all
)
def test_a_sampling_run_compiles_each_kind_of_block_once(network, config, graphs):
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = network(config).eval().requires_grad_(False)
    torch.nn.init.normal_(model.patch_out.weight, std=0.1)
    x, t = torch.randn(2, 4, 3, 4, 6), torch.rand(2, 3)
    text = TextEncoding(tokens=torch.randn(2, 5, 8), mask=torch.tensor([[True, True, False, False, False], [True] * 5]))
    with torch.inference_mode():
        ready = model.prepare_text(text)
        plain = model(x, t, ready)
        for block in model.blocks:
            block.compile(backend="eager", fullgraph=True)
        torch._dynamo.utils.counters.clear()
        assert torch.allclose(model(x, t, ready), plain, atol=1e-5)
        for _ in range(2):
            model(torch.randn_like(x), torch.rand(2, 3), ready)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
