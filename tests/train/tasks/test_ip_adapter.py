"""Reference images in training: pictures of the same thing elsewhere, kept beside the clips; the encoder alone learns
to say what the words left out."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from vidgen.data.shapes import COLOURS, ClipLabels, describe, describe_unnamed
from vidgen.data.writing import write_video
from vidgen.errors import VidgenError
from vidgen.models.ip_adapter import IPAdapterConfig, IPAdapterEncoder
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.pipelines.video import VideoPipeline
from vidgen.train.config.files import load_recipe
from vidgen.train.data.latent_cache import LatentCache, draw_picture
from vidgen.train.data.sources import Mixture
from vidgen.train.losses.contrastive import ImageTextContrastiveLoss
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.diffusion import DiffusionTask
from vidgen.train.tasks.ip_adapter import IPAdapterTask

SMALL = [
    "cached_clips=4", "steps=4", "batch_size=2", "log_every=1", "validate_every=4", "checkpoint_every=2",
    "data.validation_clips=2", "data.num_frames=5", "data.size=[16,16]", "autocast=float32", "validation_levels=2",
    "image_model={tokens: 3, width: 32, depth: 1, head_dim: 16}", "optimizer.warmup=0", "optimizer.lr=0.01",
]  # fmt: skip


@pytest.fixture
def words(tiny_base) -> list[str]:
    """Overrides of the recipe on a tiny pipeline."""
    return [*SMALL, *tiny_base(SchedulerConfig(num_frames=5, height=16, width=16))]


def load(words, *changes):
    return load_recipe("diffusion_default_reference", [*words, *changes])


def test_only_the_encoder_is_trained_and_the_pipeline_has_it(words, tmp_path):
    recipe, base = load(words), load_pipeline(str(tmp_path / "base"))
    task = IPAdapterTask(recipe)
    before = {name: p.clone() for name, p in task.image_prompt.named_parameters()}
    assert set(task.model) == {"image_prompt", "matching"}  # the latter is not exported
    trainer = Trainer(task, recipe)
    made = load_pipeline(str(trainer.fit()))
    for name in ("transformer", "text_encoder", "vae"):
        own, kept = (getattr(pipe, name).state_dict() for pipe in (made, base))
        assert all(torch.equal(own[key], value) for key, value in kept.items())
    assert all((p - before[name]).abs().max() > 0 for name, p in task.image_prompt.named_parameters())
    with trainer.averaged():  # what is exported is the average
        mean = {name: p.clone() for name, p in task.image_prompt.state_dict().items()}
    assert all(torch.equal(mean[name], p) for name, p in made.image_prompt.state_dict().items())
    picture = torch.zeros(3, 16, 16)
    assert made("it moves", reference=picture, num_inference_steps=2).frames[0].shape == (5, 16, 16, 3)


def test_a_run_goes_on_where_it_stood(words, tmp_path):
    recipe = load(words)
    whole = Trainer(IPAdapterTask(recipe), recipe)
    whole.fit()
    for path in (tmp_path / "run" / "checkpoint-4", tmp_path / "run" / "final"):
        path.rename(tmp_path / f"first-{path.name}")
    again = Trainer(IPAdapterTask(recipe), recipe)
    assert again.step == 2
    again.fit()
    for one, two in zip(whole.task.model.parameters(), again.task.model.parameters(), strict=True):
        assert torch.equal(one, two)


class Painter(nn.Module):
    """A denoiser that is told what x0 is: one value a channel throughout, the sum of all tokens that it may see."""

    config = SimpleNamespace(patch=(1, 1, 1))

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, x, t, text):
        x0 = (text.tokens * text.mask[..., None]).sum(1)
        return x0[:, :, None, None, None].expand_as(x)


class Colourist(nn.Module):
    """A text encoder that knows the names of colours, and nothing else: one token, red, green, blue and 0."""

    width = 4

    def forward(self, prompts):
        named = [next((COLOURS[word] for word in prompt.split() if word in COLOURS), None) for prompt in prompts]
        rows = [[0.0] * 4 if rgb is None else [v / 127.5 - 1.0 for v in rgb] + [0.0] for rgb in named]
        return TextEncoding(tokens=torch.tensor(rows)[:, None], mask=torch.ones(len(rows), 1, dtype=torch.bool))


def test_the_encoder_learns_to_say_what_the_words_left_out(words):
    """With a picture and the words for the motion alone a clip gets the colour that the caption would have named: of
    each of two pictures its own."""
    changes = ("cached_clips=2", "whole_captions=0", "match_weight=0", "seed=10")  # a blue and a red one
    task = IPAdapterTask(load(words, *changes))
    torch.manual_seed(0)
    shape = IPAdapterConfig(latent_channels=4, text_width=4, tokens=2, width=16, depth=1, head_dim=16)
    task.transformer, task.text_encoder, task.image_prompt = Painter(), Colourist(), IPAdapterEncoder(shape)
    task.model["matching"] = ImageTextContrastiveLoss(4)
    optimizer = torch.optim.Adam(task.image_prompt.parameters(), lr=0.01)
    data = task.dataset
    labels = [ClipLabels.from_dict(row["labels"]) for row in data.rows]
    batch = {
        "latents": data.latents.float(),
        "pictures": data.pictures.float(),
        "captions": [describe(each) for each in labels],
        "beside": [describe_unnamed(each) for each in labels],
        "shows": ["blue", "red"],
    }
    for step in range(60):
        loss, _ = task.loss(batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = task.text_encoder(batch["captions"]).tokens[:, 0]
    assert (right[0] - right[1]).abs().max() > 1.0
    scheduler = SchedulerConfig(prediction_type="sample", num_frames=5, height=16, width=16)
    pipe = VideoPipeline(task.tokenizer, task.transformer, task.text_encoder, scheduler, task.image_prompt)
    for each, row, colour in zip(labels, range(2), right, strict=True):
        picture = draw_picture(row, {"labels": each.to_dict()}, Mixture(task.recipe.data, task.recipe.seed), (16, 16))
        said = {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "latent"}
        clip = pipe(describe_unnamed(each), reference=picture, **said).latents[0]
        assert (clip - colour[:, None, None, None]).abs().max() < 0.1
        assert not pipe(describe_unnamed(each), **said).latents.any()


def test_pictures_are_matched_with_different_texts():
    matching = ImageTextContrastiveLoss(4)
    with torch.no_grad():
        for layer in (matching.of_picture, matching.of_text):
            layer.weight.copy_(torch.eye(4)), layer.bias.zero_()
        matching.log_scale.fill_(3.0)
    words, axes = ["red", "blue", "red"], torch.eye(4)[[0, 1, 0]]
    text = TextEncoding(tokens=axes[:, None], mask=torch.ones(3, 1, dtype=torch.bool))
    sure = matching(7.0 * axes[:, None].expand(-1, 2, -1), text, words)  # of two texts, as equal ones are one
    assert sure.item() == pytest.approx(math.log(1.0 + math.exp(-math.exp(3.0))), abs=1e-6)
    blank = matching(torch.eye(4)[[3, 3, 3], None], text, words)
    assert blank.item() == pytest.approx(math.log(2.0), abs=1e-6)


def test_with_the_denoiser_all_are_trained(words):
    recipe = load(words, "task=diffusion", "reference=0.7")
    task = DiffusionTask(recipe)
    assert set(task.model) == {"transformer", "text_encoder", "image_prompt"}
    batch = task.gather([task.dataset[(0, slot)] for slot in range(4)])
    loss, _ = task.loss(batch, torch.Generator().manual_seed(0))
    loss.backward()
    assert (
        all(p.grad is not None for p in task.image_prompt.parameters()) and task.transformer.patch_in.weight.grad.any()
    )


def test_pictures_are_added_to_a_cache_that_has_none(words, tmp_path):
    recipe = load(words)
    said = {"seed": 0, "count": 4, "cache": recipe.cache}
    tokenizer = IPAdapterTask(recipe).tokenizer
    old = LatentCache(tokenizer, recipe.data, **{**said, "seed": 7})
    folder = max((tmp_path / "cache").iterdir(), key=lambda f: f.stat().st_mtime)
    assert sorted(f.name for f in folder.iterdir()) == ["captions.jsonl", "latents.safetensors", "sources.jsonl"]
    bytes_before = (folder / "latents.safetensors").read_bytes()
    new = LatentCache(tokenizer, recipe.data, **{**said, "seed": 7}, pictures=True)
    assert (folder / "latents.safetensors").read_bytes() == bytes_before and (folder / "pictures.safetensors").exists()
    again = LatentCache(tokenizer, recipe.data, **{**said, "seed": 7}, pictures=True)
    fresh = LatentCache(tokenizer, recipe.data, seed=7, count=4, pictures=True)
    assert new.pictures.shape == (4, 4, 1, 2, 2) and old.pictures is None
    assert torch.equal(new.pictures, again.pictures)
    torch.testing.assert_close(new.pictures, fresh.pictures)
    one, two = old[(3, 1)], new[(3, 1)]
    assert torch.equal(one.latents, two.latents) and one.caption == two.caption and one.picture is None
    row = next(i for i in range(4) if torch.equal(new.latents[i].float(), two.latents))
    assert torch.equal(two.picture, new.pictures[row].float()) and two.beside != two.caption
    assert two.shows in two.caption and two.shows not in two.beside
    assert not torch.allclose(two.picture, two.latents[:, :1], atol=0.1)  # not the first frame
    (folder / "pictures.safetensors").write_bytes(b"half")
    with pytest.raises(VidgenError, match="is damaged .*; remove it, and it is made again"):
        LatentCache(tokenizer, recipe.data, **{**said, "seed": 7}, pictures=True)


def test_of_files_the_picture_is_one_of_the_clips_frames(words, tmp_path, waves):
    (tmp_path / "clips").mkdir()
    for name in "ab":
        write_video(waves(5, 16, 16), tmp_path / "clips" / f"{name}.mkv", fps=8)
        (tmp_path / "clips" / f"{name}.txt").write_text("water")
    recipe = load(words, f"data.sources=[{{kind: clips, path: {tmp_path / 'clips'}, short_side: 16, hold_out: 2}}]")
    task = IPAdapterTask(recipe)
    frames = task.tokenizer.encode(torch.stack([
        torch.from_numpy(frame).permute(2, 0, 1)[:, None] / 127.5 - 1.0 for frame in waves(5, 16, 16)
    ])).latents  # fmt: skip
    item = task.dataset[(0, 0)]
    assert (frames - item.picture).abs().flatten(1).amax(1).min() < 0.05
    assert item.caption == item.beside == item.shows == "water"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("reference=1.5", "reference=1.5 is not a number from 0 to 1"),
        ("whole_captions=-1", "whole_captions=-1.0 is not a number"),
        ("match_weight=-1", "match_weight=-1.0 is not a number from 0"),
        ("part=decoder", "part 'decoder': choose 'all' or 'image_prompt'"),
        ("reference=0", "task ip_adapter needs a trained model and clips with a picture"),
        ("init_from=''", "task ip_adapter needs a trained model"),
        ("lora_rank=4", "a LoRA is trained"),
    ],
)
def test_recipes_that_cannot_be(words, change, says):
    with pytest.raises(VidgenError, match=says):
        load(words, change)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            "prediction_type=v_prediction",
            "its prediction_type is flow_prediction, not v_prediction; an image prompt encoder needs the same",
        ),
        ("image_model={colour: 3}", "recipe key `image_model`: unknown keys colour"),
    ],
)
def test_encoders_that_cannot_be(words, change, says):
    with pytest.raises(VidgenError, match=says):
        IPAdapterTask(load(words, change))
