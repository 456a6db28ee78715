"""Image and video models of transformers as encoders: one table of their differences, one walk through their blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vidgen.checkpoints.checkpoint import find_checkpoint
from vidgen.checkpoints.drafts import TRANSFORMERS_NAME
from vidgen.checkpoints.empty_weights import init_empty_weights
from vidgen.checkpoints.other_libraries import DROPPED, from_folder, read_network_config
from vidgen.checkpoints.pretrained import CONFIG_NAME
from vidgen.errors import VidgenError, explained
from vidgen.models.encoders.external import ExternalConfig, ExternalEncoder
from vidgen.models.encoders.processors import input_size, make_processor, process_clips, read_processor
from vidgen.models.feature_layers import FeatureInfo

# Of a config.json: what does not change the network.
NOTES = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """How one class of transformers is walked: where its parts are, and how its blocks are called.

    frames: the setting that says how many frames a clip has; "" is an image model. fixed: whether it takes no other
    number. stacked: the frames of a clip go in as images. order: how patch tokens lie. before: the norm between
    embeddings and blocks. rope: the module that makes the blocks' `position_embeddings`. block_inputs, mask: what the
    blocks and the embeddings take beside tokens and pixels. part: the config of the vision model in one with text.
    """

    network: str
    embeddings: str = "embeddings"
    layers: str = "encoder.layer"
    norm: str = ""
    before: str = ""
    rope: str = ""
    frames: str = ""
    fixed: bool = True
    stacked: bool = False
    order: str = "t h w"
    block_inputs: tuple[None, ...] = (None,)
    mask: tuple[None, ...] = ()
    part: str = ""
    renamed: tuple[tuple[str, str], ...] = ()

    @property
    def modules(self) -> dict[str, str]:
        """The places of the modules that features come from, by their names in the encoder."""
        return {name: getattr(self, name) for name in ("embeddings", "before", "layers", "norm", "rope")}


CLIP = Architecture(network="CLIPVisionModel", layers="encoder.layers", before="pre_layrnorm", part="vision_config")
SIGLIP = Architecture(network="SiglipVisionModel", layers="encoder.layers", norm="post_layernorm", part="vision_config")
XCLIP = Architecture(
    network="XCLIPVisionModel", layers="encoder.layers", before="pre_layernorm", part="vision_config",
    frames="num_frames", stacked=True, renamed=((r"^vision_model\.", ""),),
)  # fmt: skip
ARCHITECTURES = {
    "vjepa2": Architecture(
        network="VJEPA2Model", embeddings="encoder.embeddings", norm="encoder.layernorm", frames="frames_per_clip",
        fixed=False,
    ),
    "videomae": Architecture(
        network="VideoMAEModel", norm="layernorm", frames="num_frames", block_inputs=(), mask=(None,)
    ),
    "vivit": Architecture(network="VivitModel", layers="layers", norm="layernorm", frames="num_frames"),
    "timesformer": Architecture(network="TimesformerModel", norm="layernorm", frames="num_frames", order="h w t"),
    "xclip": XCLIP,
    "xclip_vision_model": XCLIP,
    "clip": CLIP,
    "clip_vision_model": CLIP,
    "siglip": SIGLIP,
    "siglip_vision_model": SIGLIP,
    "dinov2": Architecture(network="Dinov2Model", norm="layernorm"),
    "dinov2_with_registers": Architecture(network="Dinov2WithRegistersModel", norm="layernorm"),
    "dinov3_vit": Architecture(
        network="DINOv3ViTModel", layers="model.layer", norm="norm", rope="rope_embeddings"
    ),
}  # fmt: skip


class TransformersEncoder(ExternalEncoder):
    """A model of `ARCHITECTURES`; only the modules that features come from are in it.

    Raises VidgenError for clips that it cannot take: see `ExternalEncoder.check_frames`.
    """

    def __init__(self, config: ExternalConfig, network: nn.Module | None = None) -> None:
        super().__init__(config)
        self.architecture = ARCHITECTURES[config.model_type]
        self.processor = make_processor(config.processor)
        network = make_network(config) if network is None else network
        parts = dict(network.named_modules())
        for name, place in self.architecture.modules.items():
            # a VideoMAE that is fine-tuned has no last norm
            self.add_module(name, parts.get(place) if place else None)
        settings = network.config
        self.num_chs = settings.hidden_size
        self.reduction = cell_of(settings)
        self.num_frames = getattr(settings, self.architecture.frames) if self.architecture.frames else None
        self.fixed_frames = self.num_frames is not None and self.architecture.fixed
        self.height, self.width = input_size(self.processor)

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The embeddings, every block, and the last hidden state."""
        names = ["embeddings", *(f"layers.{i}" for i in range(len(self.layers))), "last"]
        return self.describe_layers(names, self.num_chs, self.reduction)

    @property
    def block_modules(self) -> dict[str, nn.Module]:
        """What makes the layers between embeddings and last, by their names."""
        return {f"layers.{i}": block for i, block in enumerate(self.layers)}

    def iter_features(self, video: Float[Tensor, "b 3 T H W"]) -> Iterator[tuple[str, Float[Tensor, "b c t h w"]]]:
        """Yield (name, map) of every layer, lazily: stop iterating and the rest is not run."""
        self.check_frames(video.shape[2], self.reduction[0])
        pixels = process_clips(self.processor, video, torch.empty(0, device=self.device, dtype=self.dtype))
        cells = (video.shape[2], *pixels.shape[-2:])
        grid = tuple(size // cell for size, cell in zip(cells, self.reduction, strict=True))
        how = self.architecture
        if self.num_frames is None or how.stacked:
            pixels = rearrange(pixels, "b t c h w -> (b t) c h w")
        try:
            tokens = self.embeddings(pixels, *how.mask)
        except ValueError as error:
            raise VidgenError(f"{self.config.model_type} and its processor disagree: {str(error)[:160]}") from None
        if self.before is not None:
            tokens = self.before(tokens)
        yield "embeddings", self.to_map(tokens, grid)
        positions = {} if self.rope is None else {"position_embeddings": self.rope(pixels)}
        for i, block in enumerate(self.layers):
            out = block(tokens, *how.block_inputs, **positions)
            tokens = out[0] if isinstance(out, tuple) else out
            yield f"layers.{i}", self.to_map(tokens, grid)
        yield "last", self.to_map(tokens if self.norm is None else self.norm(tokens), grid)

    def to_map(self, tokens: Float[Tensor, "n l c"], grid: tuple[int, int, int]) -> Float[Tensor, "b c t h w"]:
        """Return the patches among the tokens of clips, or of single frames; others come first and are left out."""
        t, h, w = grid
        by_frame = self.num_frames is None or self.architecture.stacked
        count = h * w * (1 if by_frame else t)
        if tokens.shape[1] < count:  # such as a TimeSformer that attends to space alone
            kind = self.config.model_type
            raise VidgenError(f"{kind} has {tokens.shape[1]} tokens, not the {count} of its grid; it cannot be read")
        patches = tokens[:, tokens.shape[1] - count :]
        if by_frame:
            return rearrange(patches, "(b t) (h w) c -> b c t h w", t=t, h=h)
        return rearrange(patches, f"b ({self.architecture.order}) c -> b c t h w", t=t, h=h, w=w)


def load_transformers(folder: Path, *, dtype: torch.dtype | None = None, device: str = "cpu") -> TransformersEncoder:
    """Return the encoder in a folder of transformers' layout, in evaluation mode, without gradients.

    Only safetensors are read, and no code from the folder is run. Raises VidgenError for a type that is not in
    `ARCHITECTURES`, and for weights that lack what features come from.
    """
    how, settings = read_network_config(folder, ARCHITECTURES)
    settings = {name: value for name, value in settings.items() if name not in NOTES}
    kind = settings["model_type"]
    config = ExternalConfig(model_type=kind, settings=settings, processor=read_processor(folder, bool(how.frames)))
    checkpoint = find_checkpoint(folder, TRANSFORMERS_NAME)
    checkpoint.check_fractions()
    checkpoint.check_memory(dtype, device)
    with explained(f"{folder / CONFIG_NAME} makes no {how.network}"), init_empty_weights():
        network_class = type(make_network(config))  # one that would take no end ends here
    network, report = from_folder(
        network_class, folder, f"{how.network}", config=network_config(config), dtype=dtype or "auto",
        key_mapping=dict(how.renamed) or None, output_loading_info=True, ignore_mismatched_sizes=True,
    )  # fmt: skip
    absent = sorted([*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    places = tuple(f"{place}." for place in how.modules.values() if place)
    if absent := [name for name in absent if name.startswith(places)]:
        raise VidgenError(f"{folder}: no weights for {absent[0]} ({len(absent)} such); wrong config or incomplete file")
    return TransformersEncoder(config, network).to(device).eval().requires_grad_(False)


def network_config(config: ExternalConfig) -> Any:
    """Return transformers' config of the network; of a model with text, that of its vision part."""
    from transformers import AutoConfig

    whole = AutoConfig.for_model(**{name: value for name, value in config.settings.items() if name not in DROPPED})
    part = ARCHITECTURES[config.model_type].part
    return getattr(whole, part, whole) if part else whole


def make_network(config: ExternalConfig) -> nn.Module:
    """Return the network with random weights."""
    import transformers

    return getattr(transformers, ARCHITECTURES[config.model_type].network)(network_config(config))


def cell_of(settings: Any) -> tuple[int, int, int]:
    """Return frames, rows and columns of pixels in a patch, from a config of transformers."""
    tubelet = getattr(settings, "tubelet_size", 1)
    if not isinstance(tubelet, int):
        return tuple(tubelet)
    patch = settings.patch_size
    return (tubelet, patch, patch) if isinstance(patch, int) else (tubelet, *patch)
