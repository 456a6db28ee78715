"""Encoders over a tokenizer's cells: features of pixels are those of the cells, of clips of any length."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from vidgen.checkpoints.hashing import model_hash
from vidgen.errors import VidgenError
from vidgen.models.encoders.reducers import reduce_encoder
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.models.feature_layers import FeatureInfo
from vidgen.pipelines.loading import load_feature_encoder
from vidgen.representations.baselines import random_like
from vidgen.representations.extractor import FeatureExtractor
from vidgen.representations.latent_encoder import LatentEncoder, LatentEncoderConfig, save_latent_encoder
from vidgen.tokenizers.encoded import Encoded
from vidgen.tokenizers.files.token_files import tokenizer_hash
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.tasks.ssl.targets import FeatureTarget

SHAPE = {"width": 32, "depth": 2, "head_dim": 16, "clip": (3, 4, 6)}
CLIP = {"clip": (9, 32, 48), "fps": 8.0}
LEVELS = {"bottleneck": "fsq", "latent_channels": 3, "levels": (3, 3, 2)}


def make(reads: str = "latents", **shape) -> LatentEncoder:
    """An encoder over cells of (4, 8, 8), with random weights."""
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(replace(PRESETS["tiny"], **(LEVELS if reads == "indices" else {})))
    channels = {"codebook_size": 18} if reads == "indices" else {"in_channels": 4}
    encoder = VideoViT(VideoViTConfig(**SHAPE | channels | {"patch": (1, 2, 2)} | shape))
    return LatentEncoder(tokenizer, encoder, reads, **CLIP).float().eval().requires_grad_(False)


@pytest.fixture
def saved(tmp_path):
    """Save the parts of an encoder, and return where."""

    def save(model: LatentEncoder) -> str:
        model.tokenizer.save_pretrained(tmp_path / "tokenizer")
        shape = model.config
        place = {"tokenizer": str(tmp_path / "tokenizer"), "tokenizer_hash": tokenizer_hash(model.tokenizer)}
        config = LatentEncoderConfig(reads=shape.reads, clip=shape.clip, fps=shape.fps, **place)
        save_latent_encoder(model.encoder, tmp_path / "model", config)
        return str(tmp_path / "model")

    return save


class Identity(nn.Module):
    """A tokenizer whose latents are the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.config = replace(PRESETS["tiny"], latent_channels=3)
        kind = {"num_chs": 3, "reduction": (1, 1, 1), "module": "latent", "causal": True}
        self.feature_info, self.device = [FeatureInfo(name="latents", **kind)], torch.device("cpu")

    def latent_frames(self, num_frames: int) -> int:
        return num_frames

    def encode(self, video: torch.Tensor) -> Encoded:
        return Encoded(latents=video, num_frames=video.shape[2], height=video.shape[3], width=video.shape[4])


@pytest.mark.parametrize("reads", ["latents", "indices"])
def test_features_of_pixels_are_those_of_the_cells(video, saved, reads):
    model = make(reads)
    again = load_feature_encoder(saved(model))
    encoded = model.tokenizer.encode(video)
    cells = encoded.latents if reads == "latents" else encoded.indices[:, None]
    assert torch.equal(again.cells_of(video), cells)
    expected = dict(model.encoder.iter_features(cells))
    features = dict(again.iter_features(video))
    assert list(features) == [info.name for info in again.feature_info] == ["blocks.0", "blocks.1"]
    assert all(torch.equal(x, expected[name]) for name, x in features.items())
    assert torch.equal(again(video), model.encoder(cells)) and model_hash(again) == model_hash(model)
    assert {info.reduction for info in again.feature_info} == {(4, 16, 16)}
    assert (again.num_frames, again.height, again.width, again.fps) == (9, 32, 48, 8.0)
    assert not again.training and not any(x.requires_grad for x in again.parameters())


def test_over_pixels_themselves_it_is_the_encoder_of_pixels(video):
    torch.manual_seed(0)
    encoder = VideoViT(VideoViTConfig(patch=(3, 8, 8), width=32, depth=2, head_dim=16, clip=(9, 32, 48)))
    whole = LatentEncoder(Identity(), encoder, "latents", **CLIP)
    pairs = zip(whole.iter_features(video), encoder.iter_features(video), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
    assert whole.feature_info == encoder.feature_info


def test_indices_with_and_without_their_axis_are_the_same(video):
    model = make("indices")
    cells = model.cells_of(video)
    assert cells.dtype == torch.int64 and torch.equal(model.encoder(cells), model.encoder(cells[:, 0]))


@pytest.mark.parametrize(("frames", "times"), [(9, [0, 4, 8]), (8, [0, 4, 7]), (7, [0, 4, 6]), (5, [0, 4]), (1, [0])])
def test_clips_of_any_length_are_read_and_features_have_the_time_of_their_last_frame(video, frames, times):
    extractor = FeatureExtractor(make(), ["encoder.blocks.1"], pool="spatial")
    output = extractor(video[:, :, :frames])
    assert output.features["encoder.blocks.1"].shape == (3, len(times), 32)
    assert output.times["encoder.blocks.1"].tolist() == [times] * 3


def test_later_frames_change_every_place_of_the_first_cell_for_the_encoder_is_not_causal(video):
    model = make()
    changed = video.clone()
    changed[:, :, 8:] *= -1
    first = [dict(model.iter_features(x))["blocks.1"][:, :, 0] for x in (video, changed)]
    assert bool((first[0] != first[1]).any(1).all()) and not any(info.causal for info in model.feature_info)


def test_a_target_at_other_tokens_knows_that_the_first_cell_is_one_frame(video):
    target = FeatureTarget(make(), "blocks.0")
    maps = target.maps_at(video, (3, 2, 3), torch.tensor([[0.0, 1.0], [1.0, 5.0], [5.0, 9.0]]))
    torch.testing.assert_close(maps, dict(target.encoder.iter_features(video))["blocks.0"])


def test_random_weights_are_of_both_parts_and_leave_the_model(video):
    model = make()
    before = model_hash(model)
    twin = random_like(model, seed=3)
    assert model_hash(model) == before and isinstance(twin, LatentEncoder)
    parts = ((twin.tokenizer, model.tokenizer), (twin.encoder, model.encoder))
    assert all(tokenizer_hash(a) != tokenizer_hash(b) for a, b in parts)
    assert twin(video).isfinite().all()


def test_a_reducer_goes_around_the_encoder(video):
    model = make()
    plain, everything = (
        dict(x.iter_features(video))["blocks.1"]
        for x in (model, model.around(reduce_encoder(model.encoder, "tokens:1")))
    )
    assert torch.allclose(plain, everything, atol=1e-5)
    with pytest.raises(VidgenError, match="how much indices change says nothing"):
        reduce_encoder(make("indices").encoder, "tokens:0.5")


def test_what_does_not_fit_is_said_in_one_line(video, saved, tmp_path):
    with pytest.raises(VidgenError, match=r"clips of \(9, 24, 48\).*height is no multiple of .* 16; crop them"):
        make()(video[:, :, :, :24])
    with pytest.raises(VidgenError, match=r"the others are 4; give patches of one, as \(1, 2, 2\)"):
        make(patch=(3, 2, 2))
    with pytest.raises(VidgenError, match="an encoder of 3 channels is not for"):
        make(in_channels=3)
    model = make()
    with pytest.raises(VidgenError, match="codebook_size=0 reads no indices"):
        LatentEncoder(model.tokenizer, model.encoder, "indices", **CLIP)
    folder = saved(model)
    torch.manual_seed(1)
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(tmp_path / "other")
    (tmp_path / "tokenizer").rename(tmp_path / "right")
    with pytest.raises(VidgenError, match="config.json: the tokenizer is not to be had, name its place") as error:
        load_feature_encoder(folder)
    assert "\n" not in str(error.value)
    config = tmp_path / "model" / "config.json"
    text = config.read_text()
    config.write_text(text.replace(str(tmp_path / "tokenizer"), str(tmp_path / "other")))
    with pytest.raises(VidgenError, match="has hash .*, and the encoder reads latents of .*; name that tokenizer's"):
        load_feature_encoder(folder)
    config.write_text(text.replace(str(tmp_path / "tokenizer"), str(tmp_path / "right")))
    assert torch.equal(load_feature_encoder(folder)(video), model(video))
