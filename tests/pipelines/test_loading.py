"""What does not fit is named before anything is read; weights go to their dtype as the classes want them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import vidgen
from vidgen.checkpoints.checkpoint import Checkpoint
from vidgen.checkpoints.hashing import model_hash
from vidgen.errors import VidgenError
from vidgen.models.text.tokenizers import read_text_tokenizer
from vidgen.pipelines.families import PIPELINES
from vidgen.pipelines.published_schedule import KINDS

UNET = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def copied(published, tmp_path):
    """`copied("wan")`: a copy of a folder, to be spoilt."""

    def copy(kind: str) -> Path:
        return Path(shutil.copytree(published(kind)[0], tmp_path / kind))

    return copy


def change(file: Path, **values: object) -> None:
    """Writes settings into a JSON file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def drop_shard(folder: Path, weights: str) -> None:
    """Splits a file of weights in two, with an index, and removes the second."""
    tensors = load_file(folder / weights)
    names, stem = sorted(tensors), weights.removesuffix(".safetensors")
    shards = {f"{stem}-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for shard, part in shards.items():
        save_file({name: tensors[name] for name in part}, folder / shard)
    homes = {name: shard for shard, part in shards.items() for name in part}
    (folder / f"{weights}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    (folder / weights).unlink()
    (folder / list(shards)[1]).unlink()


def reshape(file: Path, name: str) -> None:
    tensors = load_file(file)
    save_file({**tensors, name: tensors[name][:-1].clone()}, file)


SPOILT = {
    "unknown pipeline": (
        lambda f: change(f / "model_index.json", _class_name="MochiPipeline"),
        "holds a MochiPipeline, which is not supported; VideoPipeline, WanPipeline, WanImageToVideoPipeline, ",
    ),
    "unknown transformer": (
        lambda f: change(f / "transformer" / "config.json", _class_name="MochiTransformer3DModel"),
        "transformer holds a MochiTransformer3DModel; a WanPipeline with WanTransformer3DModel is supported",
    ),
    "unknown autoencoder": (
        lambda f: change(f / "vae" / "config.json", _class_name="AutoencoderKL"),
        "vae holds a AutoencoderKL; a WanPipeline with AutoencoderKLWan is supported",
    ),
    "unknown text encoder": (
        lambda f: change(f / "text_encoder" / "config.json", model_type="bert"),
        "text_encoder holds a bert model; of its kind are read: t5, umt5",
    ),
    "unknown scheduler": (
        lambda f: change(f / "scheduler" / "scheduler_config.json", _class_name="DDIMScheduler"),
        "is of a DDIMScheduler; of this pipeline are supported: FlowMatchEulerDiscreteScheduler, UniPCMultistep",
    ),
    "unknown setting": (
        lambda f: change(f / "transformer" / "config.json", magic=1),
        "the WanTransformer3DModel that is installed knows no magic",
    ),
    "unknown setting of the scheduler": (
        lambda f: change(f / "scheduler" / "scheduler_config.json", magic=1),
        "the FlowMatchEulerDiscreteScheduler that is installed knows no magic",
    ),
    "another schedule": (
        lambda f: change(f / "scheduler" / "scheduler_config.json", stochastic_sampling=True),
        "stochastic_sampling=True is not supported, only False",
    ),
    "settings of the wrong kind": (
        lambda f: change(f / "transformer" / "config.json", num_layers="two"),
        "config.json makes no WanTransformer3DModel: ",
    ),
    "one of two transformers": (
        lambda f: change(f / "model_index.json", transformer_2=["diffusers", "WanTransformer3DModel"]),
        "transformer_2 and boundary_ratio go together; model_index.json names one only",
    ),
    "another's parts": (
        lambda f: change(f / "model_index.json", image_encoder=["transformers", "CLIPVisionModel"]),
        "a WanPipeline with image_encoder is not supported",
    ),
    "an image beside the latents": (
        lambda f: change(f / "transformer" / "config.json", in_channels=12),
        "has shape",  # or, where the weights are as wide, the line of the next test
    ),
    "no transformer": (lambda f: shutil.rmtree(f / "transformer"), "config.json is missing"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "tokenizer holds no text tokenizer: "),
    "a missing shard": (lambda f: drop_shard(f / "transformer", UNET), r"shard .* is missing \(1 of 2 are\)"),
    "a missing shard of the text encoder": (
        lambda f: drop_shard(f / "text_encoder", "model.safetensors"),
        r"shard .* is missing \(1 of 2 are\)",
    ),
    "another shape": (
        lambda f: reshape(f / "transformer" / UNET, "proj_out.bias"),
        r"proj_out.bias has shape \(15,\), the config asks for \(16,\)",
    ),
    "another shape in the text encoder": (
        lambda f: reshape(f / "text_encoder" / "model.safetensors", "shared.weight"),
        r"shared.weight has shape \(13, 16\), the config asks for \(14, 16\)",
    ),
    "another text width": (
        lambda f: change(f / "text_encoder" / "config.json", num_layers=1),
        "unexpected",
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_one_line_and_nothing_read(copied, what, monkeypatch):
    spoil, says = SPOILT[what]
    folder = copied("wan")
    spoil(folder)
    monkeypatch.setattr(Checkpoint, "read", lambda self: pytest.fail(f"{self.where} was read"))
    with pytest.raises(VidgenError, match=rf"^[^\n]*{says}[^\n]*$"):
        vidgen.load_pipeline(str(folder))


def test_networks_that_do_not_fit_each_other(copied, published):
    folder = copied("wan")
    shutil.rmtree(folder / "text_encoder")
    shutil.copytree(published("cogvideox")[0] / "text_encoder", folder / "text_encoder")
    assert vidgen.load_pipeline(str(folder)).text_encoder.width == 16  # a T5 in place of a UMT5 fits
    tensors = load_file(folder / "transformer" / UNET)
    name = "condition_embedder.text_embedder.linear_1.weight"
    save_file({**tensors, name: tensors[name][:, :8].clone()}, folder / "transformer" / UNET)
    change(folder / "transformer" / "config.json", text_dim=8)
    with pytest.raises(VidgenError, match="the transformer's text width is 8, the text_encoder's 16; they do not fit"):
        vidgen.load_pipeline(str(folder))


def test_transformers_that_want_an_image_are_refused(copied):
    folder = copied("wan")
    tensors = load_file(folder / "transformer" / UNET)
    name = "patch_embedding.weight"
    save_file({**tensors, name: tensors[name].repeat(1, 3, 1, 1, 1)}, folder / "transformer" / UNET)
    change(folder / "transformer" / "config.json", in_channels=12)
    with pytest.raises(VidgenError, match="takes 12 channels and gives 4: it wants an image beside the latents"):
        vidgen.load_pipeline(str(folder))


def test_pipelines_for_images_need_a_transformer_that_takes_one(copied):
    folder = copied("wan")
    change(folder / "model_index.json", _class_name="WanImageToVideoPipeline")
    with pytest.raises(VidgenError, match="the transformer of this WanImageToVideoPipeline takes no image"):
        vidgen.load_pipeline(str(folder))


def test_bfloat16_goes_straight_to_its_place(published):
    folder, theirs = published("wan")
    pipe = vidgen.load_pipeline(str(folder), dtype=torch.bfloat16)
    wide = set()
    for name, value in pipe.transformer.network.named_parameters():
        source = theirs.transformer.get_parameter(name)
        assert torch.equal(value, source.to(value.dtype)), name
        if value.dtype == torch.float32:
            wide.add(name.split(".")[-2] if name.count(".") > 1 else name)
    assert "scale_shift_table" in wide and not wide & {"to_q", "proj_out", "time_proj"}  # as the class keeps them
    assert {value.dtype for value in pipe.text_encoder.parameters()} == {torch.bfloat16}
    out = pipe("a red circle", num_frames=5, height=32, width=32, num_inference_steps=2, output_type="latent").latents
    assert out.dtype == torch.float32 and out.isfinite().all()


def test_shards_are_read_like_one_file(published, tmp_path):
    folder, theirs = published("ltx")
    copy = Path(shutil.copytree(folder, tmp_path / "ltx"))
    for part in ("transformer", "text_encoder"):
        shutil.rmtree(copy / part)
        getattr(theirs, part).save_pretrained(copy / part, max_shard_size="4KB")
        assert len(list((copy / part).glob("*.safetensors"))) > 1
    assert model_hash(vidgen.load_pipeline(str(copy))) == model_hash(vidgen.load_pipeline(str(folder)))


def test_the_schedules_table_is_part_of_what_a_model_is(copied):
    folder = copied("cogvideox")
    before = vidgen.load_pipeline(str(folder))
    change(folder / "scheduler" / "scheduler_config.json", snr_shift_scale=1.0)
    after = vidgen.load_pipeline(str(folder))
    assert type(before.path) is type(after.path) and model_hash(before) != model_hash(after)


def test_a_sentencepiece_model_alone_needs_its_package(tmp_path, monkeypatch):
    from vidgen.models.text import tokenizers

    (tmp_path / "spiece.model").write_bytes(b"")
    monkeypatch.setattr(tokenizers, "is_installed", lambda name: False)
    with pytest.raises(VidgenError, match="spiece.model cannot be read without: pip install sentencepiece protobuf"):
        read_text_tokenizer(tmp_path)


def test_a_published_pipeline_is_not_written_anew(published, tmp_path):
    pipe = vidgen.load_pipeline(str(published("wan")[0]))
    with pytest.raises(VidgenError, match="copy the folder that it came from"):
        pipe.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_supported_is_in_the_docs():
    text = (Path(__file__).resolve().parents[2] / "docs" / "published_weights.md").read_text()
    assert all(f"`{name}`" in text for name in (*PIPELINES, *KINDS))
