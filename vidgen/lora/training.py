"""LoRA in training: the factors of each layer's change, over weights that stay as they are."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vidgen.errors import VidgenError
from vidgen.files.atomic import atomic_write
from vidgen.lora.files import FILE_NAMES, METADATA_KEY

PART = "transformer"  # of a pipeline, as keys of a file name it


class Factors(nn.Module):
    """W + alpha / r up down (Hu et al. 2022, LoRA, section 4.1), as a parametrization of the layer that has W.

    `down` starts as a layer's weights do and `up` as zero, so that nothing is changed yet.
    """

    def __init__(self, weight: Float[Tensor, "out ins"], rank: int, alpha: float) -> None:
        super().__init__()
        outs, ins = weight.shape
        self.down = nn.Parameter(weight.new_empty(rank, ins))
        self.up = nn.Parameter(weight.new_zeros(outs, rank))
        self.factor = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5.0))

    def forward(self, weight: Float[Tensor, "out ins"]) -> Float[Tensor, "out ins"]:
        """Return the changed weight."""
        return weight + self.factor * (self.up @ self.down)


class TrainedLoRA(nn.Module):
    """Factors on every linear layer of a network's blocks. The network's own parameters take no gradients from then on,
    and stand unchanged below the factors; `state_dict` has the factors alone.

    Raises VidgenError for a rank that a layer does not have.
    """

    def __init__(self, network: nn.Module, rank: int, alpha: float) -> None:
        super().__init__()
        network.requires_grad_(False)
        layers = {n: m for n, m in network.named_modules() if "blocks." in n and isinstance(m, nn.Linear)}
        largest = min((min(layer.weight.shape) for layer in layers.values()), default=0)
        if not 1 <= rank <= largest:
            raise VidgenError(f"a LoRA of rank {rank}: the layers of this network take 1 to {largest}")
        self.rank = rank
        self.alpha = alpha
        self.names = tuple(layers)
        self.factors = nn.ModuleList([Factors(layer.weight, rank, alpha) for layer in layers.values()])
        for layer, factors in zip(layers.values(), self.factors, strict=True):
            parametrize.register_parametrization(layer, "weight", factors)

    def save(self, folder: str | os.PathLike, *, dtype: torch.dtype | None = None) -> None:
        """Write the factors (in `dtype` if given) to `folder` in diffusers' layout, all or nothing."""
        tensors = {}
        for name, factors in zip(self.names, self.factors, strict=True):
            for kind, value in (("A", factors.down), ("B", factors.up)):
                value = value.detach().to("cpu", dtype, copy=True)
                tensors[f"{PART}.{name}.lora_{kind}.weight"] = value.contiguous()
        settings = {"peft_type": "LORA", "r": self.rank, "lora_alpha": self.alpha}
        text = json.dumps({f"{PART}.{key}": value for key, value in settings.items()})
        Path(folder).parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as target:
            target.mkdir()
            save_file(tensors, target / FILE_NAMES[1], metadata={"format": "pt", METADATA_KEY: text})
