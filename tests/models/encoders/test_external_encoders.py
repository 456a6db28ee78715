"""Every layer of an external encoder is that of its library's own forward, whatever the batch."""

import json
import shutil

import pytest
import torch
from einops import rearrange
from PIL import Image

from vidgen.checkpoints.hashing import model_hash
from vidgen.errors import VidgenError
from vidgen.interfaces import Encoder
from vidgen.models.encoders.loading import load_encoder
from vidgen.models.encoders.processors import to_frames
from vidgen.models.encoders.transformers_encoder import ARCHITECTURES
from vidgen.representations.baselines import random_like

VIDEO = ("vjepa2", "videomae", "videomae fine-tuned", "vivit", "timesformer", "xclip")
IMAGE = ("clip", "clip vision", "siglip", "dinov2", "dinov2 registers", "dinov3")
OF_TIMM = ("timm vit", "timm convnext", "timm swin")


@pytest.fixture(scope="session")
def encoders(folders):
    return {name: load_encoder(folder) for name, folder in folders.items()}


def reference_network(kind, folder):
    """The network as transformers loads it, without a head or a text model around it."""
    import transformers

    whole = getattr(transformers, kind).from_pretrained(folder).eval()
    return next((getattr(whole, n) for n in ("vision_model", "videomae", "vivit") if hasattr(whole, n)), whole)


@torch.no_grad()
def reference_tokens(name, kind, folder, clips):
    """Embeddings, the blocks' outputs and the last hidden state, of transformers' own processor and forward."""
    from transformers import AutoImageProcessor, AutoVideoProcessor

    network = reference_network(kind, folder)
    frames = [list(clip.numpy()) for clip in clips]
    if name in VIDEO:
        (pixels,) = AutoVideoProcessor.from_pretrained(folder)(videos=frames, return_tensors="pt").values()
        pixels = pixels.flatten(0, 1) if name == "xclip" else pixels
    else:
        images = [frame for clip in frames for frame in clip]
        pixels = AutoImageProcessor.from_pretrained(folder)(images=images, return_tensors="pt")["pixel_values"]
    more = {"skip_predictor": True} if name == "vjepa2" else {}
    out = network(pixels, output_hidden_states=True, **more)
    return [*out.hidden_states, out.last_hidden_state]


def tokens_of(name, maps):
    """Maps (b, c, t, h, w) as the patch tokens of the library's model."""
    if name == "timesformer":
        return rearrange(maps, "b c t h w -> b (h w t) c")
    if name in VIDEO and name != "xclip":
        return rearrange(maps, "b c t h w -> b (t h w) c")
    return rearrange(maps, "b c t h w -> (b t) (h w) c")


@pytest.mark.parametrize("name", [*VIDEO, *IMAGE])
def test_layers_are_those_of_transformers(folders, checkpoints, encoders, clips, video, name):
    encoder = encoders[name]
    truth = reference_tokens(name, checkpoints[name][0], folders[name], clips)
    layers = dict(encoder.iter_features(video))
    assert list(layers) == ["embeddings", "layers.0", "layers.1", "layers.2", "last"]
    assert [info.name for info in encoder.feature_info] == list(layers) and len(truth) == len(layers)
    for info, maps, tokens in zip(encoder.feature_info, layers.values(), truth, strict=True):
        t, h, w = info.reduction
        assert maps.shape == (3, info.num_chs, 4 // t, 32 // h, 32 // w)
        patches = tokens_of(name, maps)
        torch.testing.assert_close(patches, tokens[:, -patches.shape[1] :], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", OF_TIMM)
def test_layers_are_those_of_timm(folders, encoders, clips, video, name):
    import timm
    from safetensors.torch import load_file

    encoder, values = encoders[name], json.loads((folders[name] / "config.json").read_text())
    network = timm.create_model(values["architecture"], **values["model_args"]).eval()
    network.load_state_dict(load_file(folders[name] / "model.safetensors"))
    data = timm.data.resolve_data_config(pretrained_cfg=values["pretrained_cfg"])
    transform = timm.data.create_transform(**data)
    pixels = torch.stack([transform(Image.fromarray(frame)) for frame in clips.flatten(0, 1).numpy()])
    with torch.no_grad():
        final, maps = network.forward_intermediates(pixels)
        assert torch.equal(final, network.forward_features(pixels))
    layers = {key: rearrange(x, "b c t h w -> (b t) c h w") for key, x in encoder.iter_features(video)}
    assert [info.name for info in encoder.feature_info] == list(layers)
    for i, truth in enumerate(maps):
        torch.testing.assert_close(layers[f"layers.{i}"], truth, rtol=1e-5, atol=1e-5)
        assert encoder.feature_info[i].num_chs == truth.shape[1]
        assert encoder.feature_info[i].reduction[1:] == (32 // truth.shape[2], 32 // truth.shape[3])
    last = rearrange(layers["last"], "n c h w -> n h w c")
    if name == "timm vit":
        final = final[:, 3:].unflatten(1, (4, 4))  # a class token and two registers
    torch.testing.assert_close(last, final if name != "timm convnext" else final.movedim(1, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*VIDEO, *IMAGE, *OF_TIMM])
def test_a_clip_does_not_depend_on_its_batch(encoders, video, name):
    together = dict(encoders[name].iter_features(video))
    for key, x in encoders[name].iter_features(video[1:2]):
        torch.testing.assert_close(x[0], together[key][1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*IMAGE, *OF_TIMM])
def test_image_models_see_one_frame_at_a_time(encoders, video, name):
    whole, part = encoders[name](video), encoders[name](video[:, :, :3])
    torch.testing.assert_close(part, whole[:, :, :3], rtol=1e-4, atol=1e-5)
    assert all(info.causal for info in encoders[name].feature_info)


@pytest.mark.parametrize("name", ["videomae", "dinov3", "timm vit"])
def test_an_encoder_is_an_encoder(encoders, video, name):
    encoder = encoders[name]
    assert isinstance(encoder, Encoder)
    first, last = encoder.forward_intermediates(video, indices=[0, -1], intermediates_only=True)
    layers = list(dict(encoder.iter_features(video)).values())
    assert torch.equal(first, rearrange(layers[0], "b c t h w -> b t h w c"))
    assert torch.equal(last, rearrange(encoder(video), "b c t h w -> b t h w c"))


def test_nothing_runs_beyond_the_layer_that_is_asked_for(encoders, video):
    ran = []
    hooks = [block.register_forward_hook(lambda *_: ran.append(1)) for block in encoders["videomae"].layers]
    encoders["videomae"].forward_intermediates(video, indices=[2], intermediates_only=True)
    assert len(ran) == 2  # embeddings, and two blocks
    for hook in hooks:
        hook.remove()


def test_pixels_are_converted_exactly(clips, video):
    assert torch.equal(to_frames(video), rearrange(clips, "b t h w c -> b t c h w"))


@pytest.mark.parametrize("name", ["videomae", "vivit", "timesformer", "xclip"])
def test_frames_are_never_dropped(encoders, video, name):
    with pytest.raises(VidgenError, match="takes clips of 4 frames, not 3; give --num-frames 4"):
        encoders[name](video[:, :, :3])
    assert encoders[name].num_frames == 4


def test_a_model_of_any_length_takes_whole_tubelets(encoders, video):
    assert encoders["vjepa2"](video[:, :, :2]).shape[2] == 1
    with pytest.raises(VidgenError, match="by 2, and 3 is no multiple of it; give --num-frames 4"):
        encoders["vjepa2"](video[:, :, :3])


def test_the_window_is_what_the_processor_begins_with(encoders):
    sizes = {name: (encoder.height, encoder.width) for name, encoder in encoders.items()}
    assert sizes["videomae"] == sizes["vjepa2"] == (36, 36) and sizes["siglip"] == (32, 32)
    assert sizes["timm vit"] == (35, 35)


@pytest.mark.parametrize("name", ["vjepa2", "xclip", "dinov2", "timm convnext"])
def test_a_random_twin_is_built_from_the_config(folders, encoders, video, name):
    twin = random_like(encoders[name], seed=1)
    assert type(twin) is type(encoders[name]) and twin.config == encoders[name].config
    assert not torch.allclose(twin(video), encoders[name](video), atol=1e-2)
    assert torch.equal(random_like(encoders[name], seed=1)(video), twin(video))
    assert model_hash(load_encoder(folders[name])) == model_hash(encoders[name]) != model_hash(twin)


def test_the_processor_is_part_of_what_a_model_is(folders, encoders, tmp_path):
    other = shutil.copytree(folders["clip"], tmp_path / "clip")
    values = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps(values | {"image_mean": [0.0, 0.0, 0.0]}))
    assert model_hash(load_encoder(other)) != model_hash(encoders["clip"])


def test_other_models_are_refused_in_one_line(folders, tmp_path):
    other = shutil.copytree(folders["clip"], tmp_path / "other")
    values = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(values | {"model_type": "bert"}))
    with pytest.raises(VidgenError, match="holds a bert model; of its kind are read: vjepa2, videomae") as error:
        load_encoder(other)
    assert "\n" not in str(error.value) and all(kind in str(error.value) for kind in ARCHITECTURES)


def test_only_safetensors_are_read(folders, tmp_path):
    other = shutil.copytree(folders["dinov2"], tmp_path / "other")
    (other / "model.safetensors").rename(other / "pytorch_model.bin")
    with pytest.raises(VidgenError, match="pytorch_model.bin could run code when read; save the model as model.safet"):
        load_encoder(other)
    (other / "pytorch_model.bin").unlink()
    with pytest.raises(VidgenError, match="has no model.safetensors; only safetensors are read"):
        load_encoder(other)


@pytest.mark.parametrize("name, words", [("dinov2", "no weights for"), ("timm vit", "missing.*wrong model")])
def test_weights_that_lack_something_are_refused(folders, tmp_path, name, words):
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(folders[name], tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    del tensors[next(key for key in tensors if "norm1.weight" in key)]
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VidgenError, match=words):
        load_encoder(other)


def test_a_folder_without_a_processor_is_refused(folders, tmp_path):
    other = shutil.copytree(folders["dinov2"], tmp_path / "other")
    (other / "preprocessor_config.json").unlink()
    with pytest.raises(VidgenError, match="holds no processor"):
        load_encoder(other)


def test_without_timm_its_models_are_refused(folders, monkeypatch):
    monkeypatch.setattr("vidgen.models.encoders.timm_encoder.find_spec", lambda name: None)
    with pytest.raises(VidgenError, match=r"timm, which is not installed; pip install 'vidgen\[timm\]'"):
        load_encoder(folders["timm vit"])


def test_tokens_of_another_kind_are_refused(folders, video, tmp_path):
    other = shutil.copytree(folders["timesformer"], tmp_path / "other")
    values = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(values | {"attention_type": "space_only"}))
    with pytest.raises(VidgenError, match="timesformer has 17 tokens, not the 64 of its grid"):
        load_encoder(other)(video)


def test_a_processor_that_would_be_misread_is_refused(folders, tmp_path):
    other = shutil.copytree(folders["vivit"], tmp_path / "other")
    values = json.loads((other / "preprocessor_config.json").read_text())
    (other / "preprocessor_config.json").write_text(json.dumps(values | {"offset": False}))
    with pytest.raises(VidgenError, match="offset false is not read"):
        load_encoder(other)


def test_a_processor_of_huge_crops_is_refused(folders, tmp_path):
    """Cropping to more than a frame pads it, whatever it was resized to."""
    folder = shutil.copytree(folders["clip"], tmp_path / "model")
    file = folder / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"crop_size": {"height": 10**6, "width": 32}}))
    with pytest.raises(VidgenError, match=r"crop_size\.height=1000000 of the image processor is not 1 to 8192"):
        load_encoder(str(folder))
