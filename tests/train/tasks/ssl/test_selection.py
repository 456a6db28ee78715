"""Frame selection: the selector learns what is like the clip, the encoder stays, and terms of places refuse both."""

from dataclasses import replace

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.encoders.frame_selector import places_of_frames
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.pipelines.loading import load_feature_encoder
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.ssl.task import SSLTask

TINY = [
    "steps=2", "batch_size=4", "log_every=1", "validate_every=2", "checkpoint_every=1", "data.validation_clips=4",
    "data.num_frames=8", "data.size=[16,16]", "autocast=float32", "probe_clips=8",
]  # fmt: skip
FIRST = VideoViTConfig(patch=(2, 4, 4), width=32, depth=2, head_dim=16, clip=(8, 16, 16))
SHAPE = "patch: [2, 4, 4], width: 32, depth: 2, head_dim: 16"


def make(tmp_path, *more: str, name: str = "ssl/frame_selection", own: str = "selector_frames: 1") -> SSLTask:
    if name == "ssl/frame_selection" and not any(word.startswith("init_from=") for word in more):
        torch.manual_seed(0)
        VideoViT(FIRST).save_pretrained(tmp_path / "first")
        more = (*more, f"init_from={tmp_path / 'first'}")
    recipe = load_recipe(name, [*TINY, f"out={tmp_path / 'run'}", f"encoder={{{SHAPE}, {own}}}", *more])
    return SSLTask(recipe)


def odd_one_out(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of one texture, the same in all frames but those of one tube, which are of another; and which that is."""
    generator = torch.Generator().manual_seed(0)
    usual, odd = torch.rand(2, 3, 1, 16, 16, generator=generator) * 2 - 1
    where = torch.randint(4, (count,), generator=generator)
    video = usual.expand(3, 8, 16, 16).repeat(count, 1, 1, 1, 1)
    for clip, place in zip(video, where.tolist(), strict=True):
        clip[:, 2 * place : 2 * place + 2] = odd
    return video, where


def test_a_frame_that_is_unlike_the_clip_is_no_longer_chosen(tmp_path, learn):
    task = make(tmp_path)
    video, odd = odd_one_out(32)
    before = (task.encoder.selector.choose(video, 1)[:, 0] == odd).float().mean()
    rows = learn(task, {"video": video, "captions": [], "labels": []}, steps=60, lr=0.01)
    assert rows[-1]["selection_reward"] > rows[0]["selection_reward"] and before > 0
    assert not (task.encoder.selector.choose(video, 1)[:, 0] == odd).any()


def test_the_encoder_reads_the_frames_chosen_alone(tmp_path):
    encoder = make(tmp_path, own="selector_frames: 2").encoder.eval()
    video = odd_one_out(3)[0] + 0.1 * torch.randn(3, 3, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    frames, grid = encoder.selector.choose(video, 2), encoder.grid_of(video)
    assert torch.equal(encoder(video), encoder(video, places_of_frames(frames, grid)))
    assert encoder(video).shape == (3, 2 * 16, 32)
    maps = dict(encoder.iter_features(video))["blocks.1"]
    *_, stream = encoder.iter_tokens(video)
    assert maps.shape == (3, 32, 4, 4, 4) and torch.allclose(maps.mean((2, 3, 4)), stream.x.mean(1), atol=1e-5)


def test_a_trained_encoder_gains_a_selector_and_is_not_trained(tmp_path):
    plain = make(tmp_path, name="ssl/mae", own="mixer: joint").encoder
    plain.save_pretrained(tmp_path / "plain")
    task = make(tmp_path, f"init_from={tmp_path / 'plain'}")
    before = {k: v.clone() for k, v in task.encoder.state_dict().items()}
    folder = Trainer(task, task.recipe).fit()
    after = load_feature_encoder(str(folder))
    assert isinstance(after, VideoViT) and after.config.selector_frames == 1
    for name, value in plain.state_dict().items():
        assert torch.equal(after.state_dict()[name], value), name
    moved = [k for k, v in after.state_dict().items() if not torch.equal(v, before[k])]
    assert moved and all(name.startswith("selector.") for name in moved)


@pytest.mark.parametrize(
    ("name", "own", "line"),
    [
        ("ssl/mae", "selector_frames: 2", "told place by place"),
        ("ssl/sigma", "learner_tokens: 2", "a TokenLearner needs every token"),
        ("ssl/rsp", "learner_tokens: 2", "told place by place"),
        ("ssl/frame_selection", "selector_frames: 4", "selector_frames=4 of 4 leaves nothing"),
        ("ssl/frame_selection", "selector_frames: 0", "selector_frames=0 of 4 leaves nothing"),
    ],
)
def test_terms_that_do_not_fit_are_refused(tmp_path, name, own, line):
    with pytest.raises(VidgenError, match=line):
        make(tmp_path, name=name, own=own)


def test_a_selector_needs_an_encoder_that_something_trains(tmp_path):
    words = [*TINY, f"out={tmp_path / 'run'}", f"encoder={{{SHAPE}, selector_frames: 1}}"]
    with pytest.raises(VidgenError, match="a selector alone trains no encoder; give init_from=FOLDER"):
        SSLTask(load_recipe("ssl/frame_selection", words))
    VideoViT(replace(FIRST, learner_tokens=2)).save_pretrained(tmp_path / "learning")
    with pytest.raises(VidgenError, match="leave learner_tokens out"):
        make(tmp_path, f"init_from={tmp_path / 'learning'}")


def test_learned_tokens_are_trained_by_a_term_of_clips(tmp_path):
    task = make(tmp_path, "data.num_frames=16", name="ssl/token_learner", own="learner_tokens: 2, learner_block: 1")
    before = [p.clone() for p in task.encoder.learner.parameters()]
    after = VideoViT.from_pretrained(Trainer(task, task.recipe).fit())
    assert after.config.learner_tokens == 2
    assert any(not torch.equal(p, q) for p, q in zip(before, after.learner.parameters(), strict=True))
