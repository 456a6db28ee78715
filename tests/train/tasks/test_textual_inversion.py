"""Textual inversion: tokens alone are trained, and stand where a picture's would."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from vidgen.checkpoints.pretrained import CONFIG_NAME
from vidgen.errors import VidgenError
from vidgen.models.text.learned_tokens import LearnedTokens, LearnedTokensConfig
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.scheduler_config import SchedulerConfig
from vidgen.samplers.conditioning.ip_adapter import encode_reference
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.textual_inversion import TextualInversionTask

SMALL = [
    "cached_clips=2", "steps=30", "batch_size=2", "log_every=10", "validate_every=30", "checkpoint_every=30",
    "data.validation_clips=2", "data.num_frames=5", "data.size=[16,16]", "autocast=float32", "tokens=3",
    "optimizer={kind: adamw, lr: 0.1, warmup: 0, ema_decay: 0}", "task=textual_inversion", "caption=it moves",
    "drop_text=0",
]  # fmt: skip


@pytest.fixture
def make(tiny_base):
    """Return the recipe of tokens for a tiny model."""
    base = tiny_base(SchedulerConfig())
    return lambda *more: load_recipe("diffusion_default", [*SMALL, *base, *more])


def test_tokens_alone_move_and_lower_the_loss(make):
    recipe = make()
    task = TextualInversionTask(recipe)
    for parameter in task.transformer.parameters():  # as made, its blocks are shut
        torch.nn.init.normal_(parameter, std=0.2)
    before, text = deepcopy(task.transformer.state_dict()), deepcopy(task.text_encoder.state_dict())
    batch = task.gather([task.dataset[(0, slot)] for slot in range(2)])

    def loss() -> float:
        return task.loss(batch, torch.Generator().manual_seed(0))[0].item()

    start = loss()
    final = Trainer(task, recipe).fit()
    assert loss() < start
    assert all(torch.equal(value, before[name]) for name, value in task.transformer.state_dict().items())
    assert all(torch.equal(value, text[name]) for name, value in task.text_encoder.state_dict().items())
    learned = LearnedTokens.from_pretrained(final)
    assert torch.equal(learned(), task.learned()) and learned().shape == (3, task.text_encoder.width)
    metrics = task.validate()
    assert metrics["loss"] != metrics["loss_without_tokens"]


def test_tokens_of_a_picture_are_as_the_picture():
    pipe = load_pipeline("default")
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[16:48, 16:48] = (255, 0, 0)
    tokens = encode_reference(pipe.image_prompt, pipe.vae, picture, (64, 64))
    learned = LearnedTokens(LearnedTokensConfig(tokens=len(tokens), text_width=tokens.shape[1]))
    with torch.no_grad():
        learned.tokens.copy_(tokens)
    settings = {"num_inference_steps": 1, "output_type": "latent"}
    by_picture = pipe("it moves left", reference=picture, **settings).latents
    by_tokens = pipe("it moves left", reference=learned, **settings).latents
    torch.testing.assert_close(by_tokens, by_picture, atol=1e-3, rtol=0)  # layouts in memory differ
    assert (pipe("it moves left", **settings).latents - by_picture).abs().max() > 0.1


def test_sampling_takes_a_folder_of_tokens(tmp_path):
    from vidgen.scripts.cli.conditioning import read_learned

    pipe = load_pipeline("default")
    width = pipe.text_encoder.width
    LearnedTokens(LearnedTokensConfig(text_width=width)).save_pretrained(tmp_path / "own")
    LearnedTokens(LearnedTokensConfig(text_width=width + 1)).save_pretrained(tmp_path / "other")
    assert (tmp_path / "own" / CONFIG_NAME).is_file()
    assert read_learned([tmp_path / "own"])().shape == (4, width)
    assert read_learned([tmp_path / "picture.png"]) is None
    with pytest.raises(VidgenError, match=f"are {width + 1} wide, and this model reads {width}"):
        pipe("it moves", reference=read_learned([tmp_path / "other"]), num_inference_steps=1)
    with pytest.raises(VidgenError, match="the one reference"):
        read_learned([tmp_path / "own", tmp_path / "picture.png"])


def test_what_cannot_be_is_named(make):
    with pytest.raises(VidgenError, match="needs a trained model"):
        make("init_from=''")
    with pytest.raises(VidgenError, match="optimizer.kind=adamw, not muon"):
        make("optimizer.kind=muon")
    with pytest.raises(VidgenError, match="set drop_text=0, reference=0 and no tasks"):
        make("reference=0.5")
    with pytest.raises(VidgenError, match="set drop_text=0"):
        make("drop_text=0.1")
