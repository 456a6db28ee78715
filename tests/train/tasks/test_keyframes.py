"""Training motion between key frames: it is learned, key frames stay where they should, and baselines stand beside."""

import json

import pytest
import torch
from safetensors.torch import load_file

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.tokenizers.keyframes.model import KeyframeTokenizer
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import train
from vidgen.train.tasks.keyframes import KeyframeTask

SMALL = [
    "batch_size=2", "log_every=1", "validate_every=3", "checkpoint_every=3", "autocast=float32", "steps=6",
    "data.num_frames=6", "data.size=[16,16]", "data.validation_clips=4", "data.sources=[{kind: shapes}]",
    "model={gop: 4, block: 8, motion_channels: 2, levels: [5, 5], width: 8, motion_blocks: 1, frame_blocks: 1}",
]  # fmt: skip


@pytest.fixture
def overrides(tmp_path) -> list[str]:
    torch.manual_seed(0)
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(tmp_path / "tiny")
    return [*SMALL, f"key={tmp_path / 'tiny'}", f"out={tmp_path / 'run'}"]


@pytest.mark.slow
def test_a_run_ends_in_a_model_with_its_baselines_beside(overrides, tmp_path):
    final = train(load_recipe("keyframe_motion", overrides))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    last = [row for row in rows if "validation_psnr" in row][-1]
    assert last["step"] == 6 and last["validation_bpp_key"] > 0 and last["validation_bpp_motion"] > 0
    assert {f"validation_psnr_{way}" for way in ("repeated", "vectors", "keys")} <= set(last)
    assert {"warped", "field", "reconstruction", "codebook_usage"} <= set(rows[0])
    model = KeyframeTokenizer.from_pretrained(final)
    before = load_file(tmp_path / "tiny" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in model.key.named_parameters())
    assert model(torch.zeros(1, 3, 5, 16, 16)).shape == (1, 3, 5, 16, 16)
    again = train(load_recipe("keyframe_motion", [*overrides, f"init_from={final}", f"out={tmp_path / 'second'}"]))
    assert KeyframeTokenizer.from_pretrained(again).config == model.config


def test_all_trains_key_frames_too(overrides):
    task = KeyframeTask(load_recipe("keyframe_motion", [*overrides, "part=all"]))
    task.model.train()
    loss, metrics = task.loss(task.gather([task.dataset[(0, 0)]]), sample_generator(0, "a"))
    loss.backward()
    assert "key_kl" in metrics and task.model.key.encoder.conv_in.weight.grad.any()
    kept = KeyframeTask(load_recipe("keyframe_motion", overrides))
    _, metrics = kept.loss(kept.gather([kept.dataset[(0, 0)]]), sample_generator(0, "a"))
    assert "key_kl" not in metrics and not any(p.requires_grad for p in kept.model.key.parameters())


@pytest.mark.slow
def test_motion_is_learned(overrides):
    task = KeyframeTask(load_recipe("keyframe_motion", overrides))
    task.model.train()
    batch = task.gather([task.dataset[(0, slot)] for slot in range(4)])
    optimizer = torch.optim.Adam([p for p in task.model.parameters() if p.requires_grad], lr=3e-3)
    seen = []
    for _ in range(40):
        loss, metrics = task.loss(batch, sample_generator(0, "a"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(metrics)
    assert seen[-1]["field"] < 0.9 * seen[0]["field"] and seen[-1]["l1"] < seen[0]["l1"]
    assert seen[-1]["warped"] < seen[0]["warped"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("part=decoder", "choose one of motion, all"),
        ("key=''", "needs a trained tokenizer for key frames"),
        ("model.key={patch: 4}", "two tokenizers for key frames"),
        ("data.num_frames=1", "motion needs 2 frames"),
        ("motion_loss.fields=1", "fields"),
    ],
)
def test_mistakes_are_named(override, says):
    with pytest.raises(VidgenError, match=says) as caught:
        load_recipe("keyframe_motion", [override])
    assert "\n" not in str(caught.value)


def test_a_setting_that_the_model_lacks_is_named(overrides):
    with pytest.raises(VidgenError, match="gops"):
        KeyframeTask(load_recipe("keyframe_motion", [*overrides, "model.gops=3"]))
