"""Image models of timm as encoders, run frame by frame."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from vidgen.checkpoints.checkpoint import find_checkpoint
from vidgen.checkpoints.drafts import TRANSFORMERS_NAME
from vidgen.checkpoints.empty_weights import init_empty_weights
from vidgen.checkpoints.other_libraries import check_numbers
from vidgen.checkpoints.pretrained import CONFIG_NAME
from vidgen.errors import VidgenError, explained
from vidgen.files.bounded_files import read_json
from vidgen.models.encoders.external import ExternalConfig, ExternalEncoder
from vidgen.models.encoders.processors import to_frames
from vidgen.models.feature_layers import FeatureInfo


class TimmEncoder(ExternalEncoder):
    """An image model of timm that has `forward_intermediates`; its layers are those of its `feature_info`.

    Frames go through timm's own evaluation transform, on the processor. The layers of a frame come of one pass: timm
    says what it has when it is done.
    """

    num_frames = None

    def __init__(self, config: ExternalConfig) -> None:
        super().__init__(config)
        from timm.data import create_transform, resolve_model_data_config

        self.network = make_network(config)
        data = resolve_model_data_config(self.network)
        self.transform = create_transform(**data, is_training=False)
        self.height, self.width = (math.floor(edge / data["crop_pct"]) for edge in data["input_size"][1:])

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """timm's layers, and the features before its pooling."""
        infos = self.network.feature_info
        layers = [(f"layers.{i}", infos[i]["num_chs"], infos[i]["reduction"]) for i in range(len(infos))]
        layers.append(("last", self.network.num_features, layers[-1][2]))
        return [info for name, chs, r in layers for info in self.describe_layers([name], chs, (1, r, r))]

    @property
    def block_modules(self) -> dict[str, nn.Module]:
        """What makes each of timm's layers, by its name. Raises VidgenError for a network whose maps are (h, w, c)."""
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            raise VidgenError(f"timm's {self.config.model_type} has channels last between its blocks; take another")
        infos = self.network.feature_info
        return {f"layers.{i}": self.network.get_submodule(infos[i]["module"]) for i in range(len(infos))}

    def iter_features(self, video: Float[Tensor, "b 3 T H W"]) -> Iterator[tuple[str, Float[Tensor, "b c T h w"]]]:
        """Yield (name, map) of every layer."""
        x = self.preprocess(video)
        final, maps = self.network.forward_intermediates(x, output_fmt="NCHW")
        for i, x in enumerate([*maps, self.to_map(final, maps[-1])]):
            name = "last" if i == len(maps) else f"layers.{i}"
            yield name, rearrange(x, "(b t) c h w -> b c t h w", b=len(video))

    def preprocess(self, video: Float[Tensor, "b 3 T H W"]) -> Float[Tensor, "b*T 3 h w"]:
        """Return what timm's own transform makes of the frames."""
        frames = rearrange(to_frames(video), "b t c h w -> (b t) h w c").numpy()
        pixels = torch.stack([self.transform(Image.fromarray(frame)) for frame in frames])
        return pixels.to(self.device, self.dtype)

    def to_map(self, final: Tensor, like: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return the model's last features as a map: tokens without those that are no patch, or channels put second."""
        if final.ndim == 3:
            h, w = like.shape[2:]
            return rearrange(final[:, final.shape[1] - h * w :], "n (h w) c -> n c h w", h=h)
        is_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"
        return rearrange(final, "n h w c -> n c h w") if is_last else final


def load_timm(folder: Path, *, dtype: torch.dtype | None = None, device: str = "cpu") -> TimmEncoder:
    """Return the encoder in a folder of timm's hub layout, in evaluation mode, without gradients.

    Raises VidgenError where timm is not installed, for a model it does not know, and for weights that do not fit.
    """
    if find_spec("timm") is None:
        raise VidgenError(f"{folder} holds a model of timm, which is not installed; pip install 'vidgen[timm]'")
    values = read_json(folder / CONFIG_NAME)
    with explained(f"{folder / CONFIG_NAME} makes no encoder of timm"):
        check_numbers(values)
        data = values.get("pretrained_cfg", values)
        settings = {
            "num_classes": values.get("num_classes", data.get("num_classes", 0)),
            "model_args": values.get("model_args", {}),
        }
        config = ExternalConfig(model_type=values["architecture"], settings=settings, processor=data)
        check_arguments(config)
        if config.settings["model_args"]:
            with init_empty_weights():
                make_network(config)  # one that would take no end ends here
        checkpoint = find_checkpoint(folder, TRANSFORMERS_NAME)
        checkpoint.check_memory(dtype, device)
        encoder = TimmEncoder(config)
    checkpoint.check(encoder.network.state_dict())
    encoder.network.load_state_dict(dict(checkpoint.read()), strict=True)
    return encoder.to(device, dtype).eval().requires_grad_(False)


def check_arguments(config: ExternalConfig) -> None:
    """Raise VidgenError for a model that is not timm's own, and for arguments that are not the model's: those of
    `create_model` would fetch another one, or open a file of its weights."""
    import timm

    name = config.model_type
    if not isinstance(name, str) or not timm.is_model(name.partition(".")[0]):
        raise VidgenError(f"architecture {str(name)[:60]!r} is not one of timm's own models")
    if reserved := sorted(set(inspect.signature(timm.create_model).parameters) & set(config.settings["model_args"])):
        raise VidgenError(f"model_args has {reserved[0]}, which is no setting of a network; take it out")


def make_network(config: ExternalConfig) -> nn.Module:
    """Return timm's network with random weights. Raises VidgenError for a model that has no layers to be read."""
    import timm

    arguments: dict[str, Any] = {**config.settings["model_args"], "num_classes": config.settings["num_classes"]}
    try:
        network = timm.create_model(
            config.model_type, pretrained=False, pretrained_cfg=dict(config.processor), **arguments
        )
    except (RuntimeError, TypeError, ValueError) as error:
        raise VidgenError(f"timm {timm.__version__} makes no {config.model_type}: {str(error)[:160]}") from None
    if not callable(getattr(network, "forward_intermediates", None)):
        raise VidgenError(f"timm's {config.model_type} has no forward_intermediates, so no layers; take another model")
    return network
