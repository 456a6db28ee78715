"""An image or video model of another library through banks, probes and search; and older banks under new names."""

import json

import numpy as np
import pytest
import torch

from vidgen.data.frames import to_tensor
from vidgen.data.reading import read_video
from vidgen.data.writing import write_video
from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder
from vidgen.models.encoders.loading import load_encoder
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.representations.denoiser_encoder import DenoiserEncoder
from vidgen.representations.extract import extract_source
from vidgen.representations.extractor import FeatureExtractor
from vidgen.representations.model_layers import default_layers, list_layers, list_taps
from vidgen.representations.probes import probe_rows
from vidgen.representations.probes.backbone import Backbone
from vidgen.representations.search.retrieval import retrieve_rows


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A V-JEPA 2 of random weights: 4 frames by two, 32x32 after the crop."""
    import transformers

    torch.manual_seed(0)
    config = transformers.VJEPA2Config(
        crop_size=32, patch_size=8, frames_per_clip=4, hidden_size=36, num_attention_heads=2, num_hidden_layers=2,
        mlp_ratio=2, pred_hidden_size=36, pred_num_attention_heads=2, pred_num_hidden_layers=1, initializer_range=0.2,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("vjepa2")
    transformers.VJEPA2Model(config).save_pretrained(folder)
    transformers.VJEPA2VideoProcessor(crop_size=32).save_pretrained(folder)
    return load_encoder(folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Twelve clips, dark and bright, the last four to report on; lossless, and of the size the model begins with."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    lines = ["path,label,split"]
    for i in range(12):
        label, level = (("dark", 40), ("bright", 200))[i % 2]
        frames = (level + rng.integers(0, 30, (6, 36, 36, 3))).astype(np.uint8)
        write_video(frames, folder / f"{i}.mkv", fps=8)
        lines.append(f"{i}.mkv,{label},{'train' if i < 8 else 'test'}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


@pytest.mark.slow
def test_a_bank_of_another_librarys_model_is_a_bank(encoder, source, tmp_path):
    layers = default_layers(encoder, "all")
    assert layers == [f"encoder.{name}" for name in ("embeddings", "layers.0", "layers.1", "last")]
    report = extract_source(encoder, source, tmp_path / "bank", layers=layers, baselines=True)
    assert report["rows"] == 12 and report["keys"][:4] == layers
    assert extract_source(encoder, source, tmp_path / "bank", layers=layers, baselines=True)["added"] == 0
    bank = FeatureBank.load(tmp_path / "bank")
    window = bank.meta["preprocessing"]
    assert (window["num_frames"], window["size"]) == (4, [36, 36]) and bank.meta["model"] == "TransformersEncoder"
    clip = to_tensor(read_video(source.parent / "3.mkv").frames[:4])[None]
    for name, x in encoder.iter_features(clip):
        np.testing.assert_allclose(bank.X(f"encoder.{name}")[3], x[0].mean((1, 2, 3)), rtol=1e-4, atol=1e-5)
    scores = {row["layer"]: row for row in probe_rows(bank, "knn")}
    assert scores["encoder.last"]["test"] == 1.0 and not scores["encoder.last"]["baseline"]
    assert scores["random.encoder.last"]["baseline"] and "temporal_gain" in scores["encoder.layers.0"]
    found = {row["layer"]: row for row in retrieve_rows(bank)}
    assert found["encoder.last"]["test"] == 1.0 and found["chance"]["baseline"]


def test_feature_times_are_those_of_the_last_frame_in_a_tubelet(encoder):
    seconds = torch.tensor([[0.0, 0.1, 0.2, 0.3]])
    video = torch.zeros(1, 3, 4, 36, 36)
    out = FeatureExtractor(encoder, ["encoder.layers.1"], pool="spatial")(video, times=seconds)
    torch.testing.assert_close(out.times["encoder.layers.1"], seconds[:, [1, 3]])
    frames = FeatureExtractor(encoder, ["encoder.layers.1"], pool="frame")(video, times=seconds)
    torch.testing.assert_close(frames.times["encoder.layers.1"], seconds[:, [1, 1, 3, 3]])


def test_an_encoder_can_be_trained_up_to_a_layer(encoder):
    backbone = Backbone(encoder, "encoder.layers.0", pool="mean", seed=0, prompt="")
    video = torch.rand(2, 3, 4, 36, 36, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = backbone(video, ["a", "b"])
    truth = FeatureExtractor(encoder, ["encoder.layers.0"])(video).features["encoder.layers.0"]
    torch.testing.assert_close(features.detach(), truth, rtol=1e-4, atol=1e-5)
    features.square().sum().backward()
    moved = {name.split(".")[1] for name, weight in backbone.trained.named_parameters() if weight.grad is not None}
    assert "0" in moved and "1" not in moved and all(weight.grad is None for weight in encoder.parameters())


def test_what_an_encoder_has_and_has_not(encoder):
    assert list(FeatureExtractor(encoder).layers) == ["encoder.last"]
    with pytest.raises(VidgenError, match="layer 'encoder.layers.7' is not there; this model has encoder.embeddings"):
        FeatureExtractor(encoder, ["encoder.layers.7"])
    with pytest.raises(VidgenError, match="layer 'dit.blocks.0' is not there"):
        FeatureExtractor(encoder, ["dit.blocks.0"])


def test_dense_labels_do_not_lie_on_cropped_frames(encoder):
    from vidgen.representations.dense import dense_rows

    with pytest.raises(VidgenError, match="crops its frames, so that its cells do not lie on the labels"):
        dense_rows(encoder, ["masks"], layers=["encoder.last"])


def test_a_denoiser_at_noise_levels_is_an_encoder(pipeline, video):
    encoder = DenoiserEncoder(pipeline, [0.0, 0.3])
    assert isinstance(encoder, Encoder)
    assert [info.name for info in encoder.feature_info][3:5] == ["blocks.3@t=0.00", "blocks.0@t=0.30"]
    both = encoder.forward_intermediates(video, indices=[1, -1], intermediates_only=True)
    layers = ["dit.blocks.1", "dit.blocks.3"]
    features = FeatureExtractor(pipeline, layers, [0.0, 0.3], pool="none")(video).features
    for x, key in zip(both, ("dit.blocks.1@t=0.00", "dit.blocks.3@t=0.30"), strict=True):
        torch.testing.assert_close(x, features[key], rtol=1e-4, atol=1e-5)


def test_former_names_work_and_say_so(pipeline, source, tmp_path):
    with pytest.warns(FutureWarning, match="the argument taps is now called layers"):
        extractor = FeatureExtractor(pipeline, taps=["dit.blocks.1"])
    assert list(extractor.layers) == ["dit.blocks.1"]
    with pytest.warns(FutureWarning, match="FeatureExtractor.taps is now called layers"):
        assert extractor.taps == extractor.layers
    with pytest.warns(FutureWarning, match="list_taps is now called list_layers"):
        assert list_taps(pipeline) == list_layers(pipeline)
    with pytest.warns(FutureWarning, match="taps is now called feature_info"):
        assert pipeline.vae.taps == pipeline.vae.feature_info
    with pytest.warns(FutureWarning, match="walk is now called iter_features"):
        assert [name for name, _ in pipeline.vae.walk(torch.zeros(1, 3, 5, 32, 32))][-1] == "latents"
    with pytest.warns(FutureWarning, match="the argument taps is now called layers"):
        extract_source(pipeline.vae, source, tmp_path / "bank", taps=["tokenizer.latents"], num_frames=5, size=32)
    with pytest.warns(FutureWarning, match="FeatureBank.taps is now called layers"):
        assert FeatureBank.load(tmp_path / "bank").taps == ["tokenizer.latents"]
    info = list_layers(pipeline)[0]
    with pytest.warns(FutureWarning, match="FeatureInfo.stride is now called reduction"):
        assert info.stride == info.reduction
    with pytest.warns(FutureWarning, match="FeatureInfo.width is now called num_chs"):
        assert info.width == info.num_chs


def test_older_banks_are_read_and_continued(pipeline, source, tmp_path):
    setting = {"layers": ["tokenizer.latents"], "num_frames": 5, "size": 32}
    extract_source(pipeline.vae, source, tmp_path / "bank", limit=4, **setting)
    described = json.loads((tmp_path / "bank" / "bank.json").read_text())
    described["meta"] = {{"layers": "taps"}.get(name, name): value for name, value in described["meta"].items()}
    (tmp_path / "bank" / "bank.json").write_text(json.dumps(described))
    assert FeatureBank.load(tmp_path / "bank").meta["layers"] == ["tokenizer.latents"]
    assert extract_source(pipeline.vae, source, tmp_path / "bank", **setting)["added"] == 8


def test_older_banks_that_were_joined_are_read(tmp_path):
    meta = {"keys": ["a/x"], "banks": {"a": {"taps": ["x"]}, "b": {"layers": ["x"]}}}
    with BankWriter(tmp_path / "bank", meta) as writer:
        writer.add([BankRow(id="0")], {"a/x": torch.zeros(1, 2)})
    banks = FeatureBank.load(tmp_path / "bank").meta["banks"]
    assert banks == {"a": {"layers": ["x"]}, "b": {"layers": ["x"]}}
