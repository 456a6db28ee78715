"""Task `align`: colours are learned in seconds, what is true is no negative, a run that was stopped goes on alike."""

import pytest
import torch

from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.errors import VidgenError
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.models.text_video.dual_encoder import DualEncoder
from vidgen.models.text_video.loading import load_text_video_encoder
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import train
from vidgen.train.tasks.text_video.align import AlignTask, draw_seen, find_truths

SMALL = [
    "init_from=''", "steps=4", "batch_size=6", "log_every=1", "validate_every=2", "checkpoint_every=2", "seen=1",
    "counterfactuals=0",
    "data.validation_clips=8", "data.num_frames=4", "data.size=[16,16]", "encoder={width: 16, depth: 1, head_dim: 16}",
    "text={width: 16, depth: 1, head_dim: 16}", "heads={width: 16, head_dim: 8}", "autocast=float32",
]  # fmt: skip


@pytest.fixture
def make_recipe(tmp_path):
    return lambda *more: load_recipe("align", [*SMALL, f"out={tmp_path / 'run'}", *more])


def test_a_run_gives_a_dual_encoder(make_recipe):
    recipe = make_recipe("changed_captions=2", "seen=0.5")
    model = load_text_video_encoder(train(recipe))
    assert isinstance(model, DualEncoder) and model.config.clip == (4, 16, 16)
    metrics = AlignTask(recipe).validate()
    assert set(metrics) == {"loss", "text_to_video_r1", "video_to_text_r1"}


def test_a_run_that_was_stopped_goes_on_alike(make_recipe, tmp_path):
    parts = train(make_recipe("steps=2", f"out={tmp_path / 'parts'}", "optimizer.final_lr=1.0"))
    again = train(make_recipe("steps=4", f"out={tmp_path / 'parts'}", "optimizer.final_lr=1.0"))
    straight = train(make_recipe("steps=4", f"out={tmp_path / 'straight'}", "optimizer.final_lr=1.0"))
    assert parts == again != straight
    one, other = (load_text_video_encoder(folder).state_dict() for folder in (again, straight))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_true_of_another_clip_is_no_negative(make_recipe, monkeypatch):
    world = ShapeWorld(ShapeWorldConfig(num_frames=4, height=16, width=16))
    labels = [world.sample_labels(i) for i in range(3)]
    captions = ["a red circle stays still"] * 3
    truths = find_truths(captions, [labels[0]] * 3, captions)
    assert truths.all() or not truths.any()
    assert find_truths(["a", "b"], [None, None], ["a", "b"]).tolist() == [[True, False], [False, True]]
    task = AlignTask(make_recipe())
    batch = task.gather([task.dataset[(0, slot)] for slot in range(6)])
    seen = {}

    def objective(scores, pairs, scale, bias):
        seen.update(own=pairs.positives, ignored=~pairs.compared)
        return scores.sum(), {}

    task.objective = objective
    batch["captions"][1], batch["labels"][1] = batch["captions"][0], batch["labels"][0]
    task.loss(batch, torch.Generator().manual_seed(0))
    assert torch.equal(seen["own"], torch.eye(12, 6, dtype=torch.bool))  # and a changed caption each, without a clip
    assert seen["ignored"][0, 1] and seen["ignored"][1, 0] and not seen["ignored"].diagonal().any()


@pytest.mark.slow
def test_colours_are_learned(make_recipe):
    recipe = make_recipe(
        "steps=120", "batch_size=32", "validate_every=120", "checkpoint_every=120", "log_every=40",
        "data.validation_clips=64", "optimizer.lr=1e-3", "optimizer.warmup=10", "optimizer.ema_decay=0.9",
        "data.sources=[{kind: shapes}]",
        "encoder.width=32", "encoder.patch=[4,4,4]", "text.width=32", "changed_captions=0",
    )  # fmt: skip
    model = load_text_video_encoder(train(recipe))
    world = ShapeWorld(ShapeWorldConfig(num_frames=4, height=16, width=16, split="held_out"))
    clips = [world[i] for i in range(48)]
    video = torch.stack([torch.from_numpy(clip.video).permute(3, 0, 1, 2) / 127.5 - 1 for clip in clips])
    colors = ["red", "yellow", "green", "blue"]
    texts = [f"a {color} circle moves right" for color in colors]
    rows = [i for i, clip in enumerate(clips) if clip.labels.objects[0].colour in colors]
    with torch.no_grad():
        best = model.score(model.embed_texts(texts), model.embed_videos(video[rows])).argmax(0)
    right = [colors[b] == clips[i].labels.objects[0].colour for b, i in zip(best.tolist(), rows, strict=True)]
    assert sum(right) / len(right) > 0.6  # a quarter by chance


def test_a_tower_that_stays(make_recipe, tmp_path):
    recipe = make_recipe("train_video=false")
    task = AlignTask(recipe)
    before = {name: x.clone() for name, x in task.model.video.state_dict().items()}
    after = VideoViT.from_pretrained(train(recipe)).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_counterfactuals_come_in_pairs(make_recipe):
    task = AlignTask(make_recipe("counterfactuals=0.6", "data.num_frames=16"))
    for step in range(6):
        pairs = [task.dataset[(step, slot)] for slot in range(4)]
        for one, other in zip(pairs[::2], pairs[1::2], strict=True):
            truths = find_truths([one.caption, other.caption], [one.labels, other.labels], [])
            assert truths.tolist() == [[True, False], [False, True]]
        assert torch.equal(task.dataset[(step, 4)].video, task.dataset.mixture[(step, 4)].video)
    plain = AlignTask(make_recipe("data.num_frames=16", "counterfactuals=0"))
    assert torch.equal(plain.dataset[(2, 5)].video, task.dataset[(2, 5)].video)


def test_tokens_that_are_seen():
    assert draw_seen(3, 8, 1.0, torch.Generator()) is None
    seen = draw_seen(100, 8, 0.5, torch.Generator().manual_seed(0))
    assert seen.shape == (100, 4) and (seen.diff(dim=1) > 0).all()
    assert seen.flatten().bincount(minlength=8).min() > 30


def test_recipes_that_cannot_be(make_recipe):
    for override, line in (
        ("encoder.clip=[4,16,16]", "encoder.clip is the data's to say"),
        ("heads.text_width=3", "heads.text_width is the tower's to say"),
        ("batch_size=1", "has no negatives"),
        ("objective=wishing", "objective"),
    ):
        with pytest.raises(VidgenError, match=line):
            make_recipe(override)
    with pytest.raises(VidgenError, match="made from labels"):
        make_recipe("changed_captions=1", "data.sources=[{kind: clips, path: here}]")
