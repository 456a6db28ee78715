"""Adapters that peft trains and saves are read as peft itself computes them."""

import copy
import warnings

import pytest
import torch

from vidgen.lora.loading import load_lora

peft = pytest.importorskip("peft", exc_type=ImportError)


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["lora", "rslora", "dora"])
def test_our_weights_give_what_pefts_forward_does(ours, tmp_path, settings):
    config = peft.LoraConfig(r=4, lora_alpha=10, target_modules=["to_q"], **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.get_peft_model(copy.deepcopy(ours), config).double().eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:  # a new adapter changes nothing
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.data += 0.3 * noise if "magnitude" not in name else 0.1 * noise.abs()
    theirs.save_pretrained(tmp_path)
    layer = "blocks.1.attention.to_q"
    inputs = torch.randn(3, 5, 32, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        before = ours.get_submodule(layer)(inputs)
        wanted = theirs.base_model.model.get_submodule(layer)(inputs)
        lora = load_lora(ours, tmp_path)
        torch.testing.assert_close(ours.get_submodule(layer)(inputs), wanted, rtol=1e-6, atol=1e-6)
        assert (wanted - before).abs().max() > 0.1
        lora.unload()
        assert torch.equal(ours.get_submodule(layer)(inputs), before)
