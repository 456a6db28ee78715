"""Small networks with random weights, and files of random LoRA weights in every form that is published."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig

if TYPE_CHECKING:
    from diffusers import WanTransformer3DModel

Matrices = dict[str, tuple[Tensor, Tensor]]  # down and up by diffusers' name of a layer
# Of a block: diffusers' names, and those that Wan was published with.
PUBLISHED = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn2.to_k": "cross_attn.k",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}


def published(name: str) -> str:
    _, block, layer = name.split(".", 2)
    return f"blocks.{block}.{PUBLISHED[layer]}"


# How a key starts, and what its two matrices are called.
FORMS: dict[str, tuple[Callable[[str], str], str, str]] = {
    "diffusers": (lambda name: f"transformer.{name}", "lora_A", "lora_B"),
    "peft": (lambda name: f"base_model.model.{name}", "lora_A", "lora_B"),
    "peft with an adapter's name": (lambda name: f"base_model.model.{name}", "lora_A.default", "lora_B.default"),
    "published": (lambda name: f"diffusion_model.{published(name)}", "lora_down", "lora_up"),
    "trainer": (lambda name: f"lora_unet_{published(name).replace('.', '_')}", "lora_down", "lora_up"),
    "bare": (lambda name: name, "lora_A", "lora_B"),
}


@pytest.fixture
def draw() -> Callable[..., Matrices]:
    """Random matrices for layers by name and shape (out, in)."""

    def make(shapes: dict[str, tuple[int, int]], rank: int = 3, seed: int = 1) -> Matrices:
        generator = torch.Generator().manual_seed(seed)

        def matrix(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        return {name: (matrix(rank, ins), matrix(outs, rank)) for name, (outs, ins) in shapes.items()}

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """The matrices as a file in one of FORMS; with `alpha` as tensors of it where it is not None."""

    def make(
        matrices: Matrices, form: str = "diffusers", alpha: float | None = None, name: str = "lora", **extra: Tensor
    ) -> Path:
        (start, down, up), tensors = FORMS[form], dict(extra)
        for layer, (a, b) in matrices.items():
            tensors |= {f"{start(layer)}.{down}.weight": a, f"{start(layer)}.{up}.weight": b}
            if alpha is not None:
                tensors[f"{start(layer)}.alpha"] = torch.tensor(float(alpha))
        save_file(tensors, tmp_path / f"{name}.safetensors")
        return tmp_path / f"{name}.safetensors"

    return make


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def pair() -> tuple[WanTransformer3DModel, VideoDiT]:
    from diffusers import WanTransformer3DModel

    torch.manual_seed(0)
    theirs = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=16, freq_dim=32,
        ffn_dim=40, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip
    ours = VideoDiT(VideoDiTConfig(latent_channels=4, width=32, depth=2, head_dim=16, text_width=16))
    for parameter in ours.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return tuple(network.double().eval().requires_grad_(False) for network in (theirs, ours))


@pytest.fixture
def wan(pair) -> WanTransformer3DModel:
    return copy.deepcopy(pair[0])


@pytest.fixture
def ours(pair) -> VideoDiT:
    return copy.deepcopy(pair[1])


@pytest.fixture
def shapes(wan) -> dict[str, tuple[int, int]]:
    """The layers of Wan that files here are about, by diffusers' names."""
    names = [f"blocks.{block}.{layer}" for block in (0, 1) for layer in PUBLISHED]
    return {name: tuple(wan.get_submodule(name).weight.shape) for name in names}


@pytest.fixture
def snapshot() -> Callable[[nn.Module], dict[str, Tensor]]:
    """All that a network has, by name."""
    return lambda network: {name: value.clone() for name, value in network.state_dict().items()}


@pytest.fixture
def same() -> Callable[[nn.Module, dict[str, Tensor]], bool]:
    """Whether a network is as it was, bit for bit."""
    return lambda network, before: all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
