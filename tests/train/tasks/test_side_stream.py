"""Task `side_stream`: its loss is of what a mode asks for, and a run gives a pipeline with a side stream."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.dit.side_stream import join_streams
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.side_stream.sampling import sample_side_stream
from vidgen.samplers.conditioning.side_modes import SIDE_MODES, find_states
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import train
from vidgen.train.tasks.side_stream import SideStreamTask

SMALL = [
    "init_from=''", "cached_clips=6", "steps=4", "batch_size=3", "log_every=1", "validate_every=2",
    "checkpoint_every=2",
    "data.validation_clips=2", "data.num_frames=9", "data.size=[16,16]", "model.width=32", "model.depth=1",
    "model.head_dim=32", "text_model={width: 16, depth: 1, head_dim: 16}", "autocast=float32", "validation_levels=2",
    "optimizer.kind=adamw",
]  # fmt: skip


@pytest.fixture
def make_recipe(tmp_path):
    torch.manual_seed(0)
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(tmp_path / "tok")
    places = [f"tokenizer={tmp_path / 'tok'}", f"cache={tmp_path / 'cache'}", f"out={tmp_path / 'run'}"]
    return lambda *more: load_recipe("side_stream", [*SMALL, *places, *more])


@pytest.mark.parametrize("mode", list(SIDE_MODES))
def test_a_fresh_loss_is_the_power_of_what_is_wanted(make_recipe, mode):
    """A fresh network predicts 0 where the target is eps - x0: 1 in frames and 4 in rows, a frame of each as much."""
    task = SideStreamTask(make_recipe())
    x0, side = torch.zeros(2, 4, 3, 2, 2), torch.zeros(2, 3, 8)
    eps = join_streams(torch.ones_like(x0), 2.0 * torch.ones_like(side))
    states = find_states(mode, 3, 1)
    states = type(states)(known=states.known.expand(2, -1), absent=states.absent.expand(2, -1))
    loss = task.joint_loss(join_streams(x0, side), ["a", "b"], states, torch.tensor([[0.2, 0.7], [1.0, 0.4]]), eps)
    frames, rows = (~find_states(mode, 3, 1).fixed).chunk(2)
    expected = (frames.sum() + 4.0 * rows.sum()) / (frames.sum() + rows.sum())
    assert torch.allclose(loss, expected.expand(2), atol=1e-5)


def test_actions_of_a_batch_are_those_of_its_clips(make_recipe):
    task = SideStreamTask(make_recipe())
    clips = [task.dataset[(0, slot)] for slot in range(3)]
    side = task.gather(clips)["side"]
    assert side.shape == (3, 3, 8) and not side[:, 0].any()
    assert torch.equal(side[1, 2], clips[1].actions[5:9].flatten())
    assert float(side[:, 1:].std()) > 0.3


def test_a_run_gives_a_pipeline_with_a_side_stream(make_recipe):
    recipe = make_recipe()
    pipe = load_pipeline(str(train(recipe)))
    assert pipe.transformer.config.side_channels == 8
    metrics = SideStreamTask(recipe).validate()
    assert set(metrics) == {"loss", *(f"loss_{mode}" for mode in SIDE_MODES)}
    assert sample_side_stream(pipe, "joint", ["a"], num_inference_steps=2).side.shape == (1, 9, 2)
    assert pipe("a star", num_inference_steps=2).frames[0].shape == (9, 16, 16, 3)  # and clips alone, as any


def test_a_trained_denoiser_gets_a_stream_and_keeps_its_clips(tiny_base, make_recipe):
    from vidgen.pipelines.scheduler_config import SchedulerConfig

    base = tiny_base(SchedulerConfig(num_frames=9, height=16, width=16))
    task = SideStreamTask(make_recipe(*base))
    plain = load_pipeline(base[0].removeprefix("init_from="))
    x, t = torch.randn(1, 4, 3, 2, 2), torch.tensor([0.4])
    text = plain.encode_prompt(["a"])
    with torch.no_grad():
        assert torch.equal(task.transformer(x, t, text), plain.transformer(x, t, text))


def test_recipes_that_cannot_be(make_recipe):
    for override, line in (
        ("side={telepathy: 1.0}", "side.telepathy is unknown"),
        ("data.sources=[{kind: shapes}]", "give sources of kind=walks alone"),
        ("data.sources=[{kind: walks, max_objects: 2}]", "kind=walks is of one object"),
        ("given_frames=0.5", "leave given_frames out"),
        ("gradient_checkpointing=true", "leave gradient_checkpointing out"),
    ):
        with pytest.raises(VidgenError, match=line):
            make_recipe(override)
