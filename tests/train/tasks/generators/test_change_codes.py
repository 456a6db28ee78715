"""Task change_codes: its loss is the model's error, runs end with a model, actions are read where codes have them."""

from dataclasses import replace

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.tokenizers.change_codes import ChangeCodes
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.generators.change_codes import ChangeCodesTask

SMALL = [
    "cached_clips=24", "steps=2", "batch_size=2", "log_every=1", "validate_every=2", "checkpoint_every=1",
    "data.validation_clips=12", "data.num_frames=9", "data.size=[16,16]", "autocast=float32",
    "optimizer={kind: adamw, lr: 0.003, warmup: 0, ema_decay: 0}", "model={width: 16, depth: 1, levels: [3, 5]}",
]  # fmt: skip


@pytest.fixture
def make(tmp_path):
    """Return a recipe over a tiny tokenizer."""
    torch.manual_seed(0)
    VideoTokenizer(replace(PRESETS["tiny"], latent_channels=3)).save_pretrained(tmp_path / "tok")
    places = [f"tokenizer={tmp_path / 'tok'}", f"cache={tmp_path / 'cache'}"]
    return lambda name, *more: load_recipe("change_codes", [*SMALL, *places, f"out={tmp_path / name}", *more])


def test_the_loss_is_the_error_of_each_frame_after_the_first(make):
    task = ChangeCodesTask(make("run"))
    batch = task.gather([task.dataset[(0, slot)] for slot in range(2)])
    loss, _ = task.loss(batch, torch.Generator())
    x = batch["latents"]  # a model that is new repeats the frame before
    assert loss.item() == pytest.approx((x[:, :, 1:] - x[:, :, :-1]).square().mean().item(), rel=1e-5)
    assert task.validate()["error_over_still"] == pytest.approx(1.0, rel=1e-5)


def test_a_run_ends_with_a_model_and_goes_on_bit_for_bit(make):
    whole = make("whole")
    final = Trainer(ChangeCodesTask(whole), whole).fit()
    half = make("half", "steps=1", "optimizer.final_lr=1.0")
    Trainer(ChangeCodesTask(half), half).fit()
    flat = make("flat", "optimizer.final_lr=1.0")
    straight = ChangeCodes.from_pretrained(Trainer(ChangeCodesTask(flat), flat).fit())
    on = make("half", "optimizer.final_lr=1.0")
    gone_on = ChangeCodes.from_pretrained(Trainer(ChangeCodesTask(on), on).fit())
    assert all(torch.equal(x, gone_on.state_dict()[name]) for name, x in straight.state_dict().items())
    assert ChangeCodes.from_pretrained(final).config.size == (2, 2)


def test_actions_are_read_from_codes_that_have_them_and_from_others_not(make, monkeypatch):
    task = ChangeCodesTask(make("run"))
    ratio = task.tokenizer.config.temporal_compression_ratio
    asked = []

    def own_actions(latents):
        """The actions of the clips themselves, in the order in which they are asked for."""
        cache = task.dataset if len(asked) < 24 else task.held_out
        first = len(asked) % 24
        rows = torch.stack([cache.actions(first + i)[1:] for i in range(len(latents))])
        asked.extend(range(len(latents)))
        return rows.reshape(len(latents), -1, 1, ratio * rows.shape[-1]), None

    monkeypatch.setattr(task.model, "encode", own_actions)
    assert task.read_actions() == pytest.approx(1.0, abs=1e-3)
    monkeypatch.setattr(task.model, "encode", lambda x: (torch.zeros(len(x), x.shape[2] - 1, 1, 4), None))
    assert task.read_actions() < 0.1


def test_clips_in_which_nothing_changes_are_refused(make):
    with pytest.raises(VidgenError, match="clips of 1 frames are one latent frame, of which nothing changes"):
        ChangeCodesTask(make("run", "data.num_frames=1"))
