"""Configs read as mappings: every config class of a model, held against its fields."""

import dataclasses
import json
from collections.abc import Mapping

import pytest
import torch
from torch import nn

from vidgen.checkpoints.config_fields import ConfigMapping
from vidgen.checkpoints.hashing import model_hash
from vidgen.checkpoints.pretrained import CONFIG_NAME, Pretrained
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.encoders.external import ExternalConfig
from vidgen.models.encoders.video_resnet import VideoResNetConfig
from vidgen.models.encoders.video_vit import VideoViTConfig
from vidgen.models.gan.split_generator import SplitGenerator
from vidgen.models.heads.token_predictor import TokenPredictorConfig
from vidgen.models.ip_adapter import IPAdapterEncoder
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.text.encoders import ByteTextEncoder
from vidgen.models.text.learned_tokens import LearnedTokens
from vidgen.models.text_video.fused_encoder import FusedEncoderConfig
from vidgen.models.text_video.heads import JointHeadsConfig
from vidgen.pipelines.published_denoiser import DenoiserConfig
from vidgen.pipelines.wan.autoencoder import WanAutoencoderConfig
from vidgen.pipelines.wan.transformer import WanTransformer
from vidgen.pipelines.whole_clip import WholeClipConfig
from vidgen.tokenizers.change_codes import ChangeCodesConfig
from vidgen.tokenizers.diffusion_decoder.model import DiffusionTokenizer
from vidgen.tokenizers.keyframes.model import KeyframeTokenizer
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.nerv.network import NeRVConfig

MODELS = [
    VideoTokenizer,
    KeyframeTokenizer,
    DiffusionTokenizer,
    VideoDiT,
    WanTransformer,
    ByteTextEncoder,
    IPAdapterEncoder,
    LearnedTokens,
    SplitGenerator,
]
CONFIGS = [
    *(model.config_class() for model in MODELS),
    ExternalConfig(model_type="clip", settings={"width": 8}),
    TokenPriorConfig(codebook_sizes=(8, 4)),
    ChangeCodesConfig(latent_channels=4, size=(8, 8)),
    TokenPredictorConfig(),
    JointHeadsConfig(),
    FusedEncoderConfig(),
    VideoResNetConfig(),
    VideoViTConfig(),
    NeRVConfig(height=16, width=16, strides=(2, 2)),
    WanAutoencoderConfig(),
    WholeClipConfig.named(
        "ltx", latent_channels=4, temporal_compression_ratio=8, spatial_compression_ratio=32, settings={}
    ),
    DenoiserConfig(
        latent_channels=4, patch=(1, 2, 2), width=8, depth=1, text_width=4, frame_levels=True, settings={"eps": 1e-6}
    ),
]
TINY = VideoDiTConfig(latent_channels=2, width=16, depth=1, head_dim=16, text_width=0)


def subclasses(kind: type) -> set[type]:
    """All classes below one, of the library."""
    below = {c for sub in kind.__subclasses__() for c in (sub, *subclasses(sub))}
    return {c for c in below if c.__module__.startswith("vidgen.")}


def test_every_config_class_of_a_model_is_here():
    configs = {model.config_class for model in subclasses(Pretrained) if hasattr(model, "config_class")}
    assert configs <= {type(config) for config in CONFIGS} and len(configs) >= len(MODELS)
    assert {type(config) for config in CONFIGS} == subclasses(ConfigMapping)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_a_config_is_a_mapping_of_its_fields(config):
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    assert isinstance(config, Mapping) and dict(config) == {**config} == fields
    assert list(config) == list(config.keys()) == list(fields) and len(config) == len(fields)
    assert list(config.items()) == list(fields.items()) and list(config.values()) == list(fields.values())
    assert all(config[name] == config.get(name) == value and name in config for name, value in fields.items())
    assert "retired_fields" not in config and "of_no_config" not in config and config.get("of_no_config", 3) == 3
    with pytest.raises(KeyError, match="of_no_config"):
        config["of_no_config"]
    assert type(config)(**config) == config


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_a_config_stays_frozen(config):
    name = next(iter(config))
    with pytest.raises(TypeError, match="item assignment"):
        config[name] = None
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, None)
    with pytest.raises(AttributeError):
        config.update({name: None})


def test_saved_json_and_hashes_are_those_of_a_plain_dataclass(tmp_path):
    plain = dataclasses.make_dataclass(
        "Plain", [(f.name, f.type, f.default) for f in dataclasses.fields(TINY)], frozen=True
    )
    hashes = []
    for config in (TINY, plain(**TINY)):
        torch.manual_seed(0)
        model = nn.Linear(2, 2)
        model.config = config
        hashes.append(model_hash(model))
    assert hashes[0] == hashes[1]
    VideoDiT(TINY).save_pretrained(tmp_path / "model")
    saved = json.loads((tmp_path / "model" / CONFIG_NAME).read_text(encoding="utf-8"))
    assert saved == {"_class_name": "VideoDiT", **json.loads(json.dumps(dataclasses.asdict(plain(**TINY))))}
    assert hash(TINY) == hash(dataclasses.replace(TINY)) and repr(TINY).startswith("VideoDiTConfig(latent_channels=2,")


def test_a_model_is_built_from_another_config_of_its_kind():
    assert VideoDiT.from_config(TINY).config == VideoDiT.from_config(dict(TINY)).config == TINY
    nested = KeyframeTokenizer.config_class()
    assert KeyframeTokenizer.from_config({**nested}).config == nested and nested["key"]["latent_channels"] == 16
