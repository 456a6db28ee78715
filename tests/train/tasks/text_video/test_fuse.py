"""Task `fuse`: a run over a dual encoder that stays as it is, stopped runs go on alike, and what does not fit."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.text_video.fused_encoder import FusedEncoder
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import train
from vidgen.train.tasks.text_video.align import AlignTask
from vidgen.train.tasks.text_video.fuse import FuseTask

TINY = ["batch_size=6", "data.validation_clips=8", "data.num_frames=4", "data.size=[16,16]", "autocast=float32"]
DUAL = [
    "init_from=''", "encoder={width: 16, depth: 1, head_dim: 16}", "text={width: 16, depth: 1, head_dim: 16}",
    "heads={width: 16, head_dim: 8}", "counterfactuals=0", "changed_captions=0",
]  # fmt: skip
FUSED = [
    "steps=4", "log_every=1", "validate_every=2", "checkpoint_every=2", "fused={width: 16, depth: 1, head_dim: 8}",
    "terms={matching: 1.0, masked_words: 0.5}",
]  # fmt: skip


@pytest.fixture
def make_recipe(tmp_path):
    folder = tmp_path / "dual"
    AlignTask(load_recipe("align", [*TINY, *DUAL])).model.save_pretrained(folder)
    return lambda *more: load_recipe(
        "fuse", [*TINY, *FUSED, f"dual_encoder={folder}", f"out={tmp_path / 'run'}", *more]
    )


@pytest.mark.parametrize("stream", ["single", "dual"])
def test_a_run_gives_a_fused_encoder_and_leaves_the_dual_one(make_recipe, stream):
    recipe = make_recipe(f"fused.stream={stream}")
    task = FuseTask(recipe)
    before = {name: value.clone() for name, value in task.dual.state_dict().items()}
    model = FusedEncoder.from_pretrained(train(recipe))
    assert model.config.token_width == 16 and model.config.stream == stream
    assert model.config.dual_encoder
    metrics = task.validate()
    assert set(metrics) == {"loss", "dual_r1", "reranked_r1"}
    assert all(torch.equal(value, before[name]) for name, value in FuseTask(recipe).dual.state_dict().items())


def test_one_clip_of_each_caption_leaves_the_order_as_it_is(make_recipe):
    metrics = FuseTask(make_recipe("top=1")).validate()
    assert metrics["dual_r1"] == metrics["reranked_r1"]


def test_a_run_that_was_stopped_goes_on_alike(make_recipe, tmp_path):
    parts = train(make_recipe("steps=2", f"out={tmp_path / 'parts'}", "optimizer.final_lr=1.0"))
    again = train(make_recipe("steps=4", f"out={tmp_path / 'parts'}", "optimizer.final_lr=1.0"))
    straight = train(make_recipe("steps=4", f"out={tmp_path / 'straight'}", "optimizer.final_lr=1.0"))
    assert parts == again != straight
    one, other = (FusedEncoder.from_pretrained(folder).state_dict() for folder in (again, straight))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_fused_encoder_goes_on(make_recipe, tmp_path):
    first = FuseTask(make_recipe())
    first.export(tmp_path / "fused")
    task = FuseTask(make_recipe(f"init_from={tmp_path / 'fused'}", "seed=1"))
    one, other = first.model.state_dict(), task.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(parameter.requires_grad for parameter in task.model.parameters())


def test_what_does_not_fit_is_named(make_recipe):
    with pytest.raises(VidgenError, match="data.num_frames=4 data.size=\\[16,16\\]"):
        FuseTask(make_recipe("data.num_frames=8"))
    with pytest.raises(VidgenError, match="dual_encoder is the model whose tokens are read"):
        make_recipe("dual_encoder=''")
    with pytest.raises(VidgenError, match="fused.token_width is the dual encoder's"):
        make_recipe("fused.token_width=8")
    with pytest.raises(VidgenError, match="no negatives"):
        make_recipe("batch_size=1")
    task = FuseTask(make_recipe("terms={order: 1.0}"))
    batch = task.gather([task.dataset[(0, slot)] for slot in range(6)])
    with pytest.raises(VidgenError, match="choose from matching, masked_words, frame_order"):
        task.loss(batch, torch.Generator())
