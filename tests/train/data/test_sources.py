"""Training data: the same at every run, never the validation clips, bad files named."""

import warnings

import numpy as np
import pytest
import torch

from vidgen.data.frames import to_tensor
from vidgen.data.shapes import ShapeWorld, ShapeWorldConfig
from vidgen.errors import VidgenError
from vidgen.train.config import DataConfig, SourceConfig
from vidgen.train.data.sources import ClipSource, Mixture, ShapeSource, Steps, collate, named_sources, rng_of


def frames_of(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 24, 32, 3), dtype=np.uint8)


SHAPES = DataConfig(sources=[SourceConfig()], num_frames=5, size=(16, 16))


def test_items_are_functions_of_seed_step_and_slot():
    one, two = Mixture(SHAPES, seed=3), Mixture(SHAPES, seed=3)
    assert torch.equal(one[(7, 1)].video, two[(7, 1)].video)
    assert not torch.equal(one[(7, 1)].video, one[(7, 2)].video)
    assert not torch.equal(one[(7, 1)].video, Mixture(SHAPES, seed=4)[(7, 1)].video)


def share_of_stars(part: str) -> float:
    source = ShapeSource(SourceConfig(weights={"star": 3.0, "still": 2.0, "motion circle": 2.0}), SHAPES, part)
    rng = rng_of(0)
    return np.mean([source.world.sample_labels(source.draw(rng)).objects[0].shape == "star" for _ in range(1500)])


@pytest.mark.slow
def test_weights_draw_words_as_often_as_they_say():
    # Clips of five frames have one in six of each shape whatever the motion: stars are 3 / (3 + 5) under the weights.
    assert share_of_stars("train") == pytest.approx(3 / 8, abs=0.04)
    assert share_of_stars("validation") == pytest.approx(1 / 6, abs=0.03)


def test_steps_resume_where_they_stopped():
    assert list(Steps(0, 6, 2))[4:] == list(Steps(4, 6, 2))


def test_batches_have_the_declared_layout():
    batch = collate([Mixture(SHAPES, seed=0)[(0, i)] for i in range(2)])
    assert batch["video"].shape == (2, 3, 5, 16, 16) and len(batch["captions"]) == 2
    assert batch["video"].min() >= -1 and batch["video"].max() <= 1


def test_crops_hold_the_object():
    data = DataConfig(sources=[SourceConfig(world_size=[64, 64])], num_frames=5, size=(40, 40))
    source = ShapeSource(data.sources[0], data, "train")
    world = ShapeWorld(ShapeWorldConfig(num_frames=5))
    for i in range(20):
        sample = source.sample(rng_of(i))
        assert sample.video.shape == (3, 5, 40, 40)
        top, left = source.corner(world[i].labels, (64, 64), rng_of(i))
        position = world[i].labels.objects[0].position - np.array([left, top])
        assert ((position >= 0) & (position <= 40)).all(axis=1).any()


def test_shares_are_kept(make_video, tmp_path):
    make_video(frames_of(8), "a.mp4", fps=8)
    sources = [SourceConfig(share=0.75), SourceConfig(kind="clips", path=str(tmp_path), share=0.25, hold_out=0)]
    mixture = Mixture(DataConfig(sources=sources, num_frames=5, size=(16, 16)), seed=0)
    from_files = sum(mixture[(0, i)].caption == "" for i in range(200))
    assert 30 <= from_files <= 70


IMAGES = [SourceConfig(share=0.7), SourceConfig(share=0.3, num_frames=1)]


def test_a_batch_is_all_images_or_all_video():
    mixture = Mixture(DataConfig(sources=IMAGES, num_frames=5, size=(16, 16)), seed=0)
    frames = [collate([mixture[(step, slot)] for slot in range(2)])["video"].shape[2] for step in range(200)]
    assert set(frames) == {1, 5} and 40 <= frames.count(1) <= 80
    held_out = Mixture(DataConfig(sources=IMAGES, num_frames=5, size=(16, 16)), 0, "validation")
    assert all(held_out[(0, i)].video.shape[1] == 5 for i in range(20))


def test_video_alone_draws_what_it_always_did():
    mixture = Mixture(DataConfig(sources=[SourceConfig(), SourceConfig(seed=1)], num_frames=5, size=(16, 16)), seed=3)
    (sources, _), rng = mixture.groups[0], rng_of(3, 7, 1)
    assert torch.equal(mixture[(7, 1)].video, sources[int(rng.random() > 0.5)].sample(rng).video)


def test_images_of_files(make_video, tmp_path):
    make_video(frames_of(8), "a.mp4")
    source = SourceConfig(kind="clips", path=str(tmp_path), num_frames=1, hold_out=0)
    assert Mixture(DataConfig(sources=[source], size=(16, 16)), seed=0)[(0, 0)].video.shape == (3, 1, 16, 16)


def test_strides_are_bounded(make_video, tmp_path):
    frames = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None] * 10, (24, 32, 32, 3))
    make_video(np.ascontiguousarray(frames), "ramp.mp4")
    for most in (1, 3):
        source = SourceConfig(kind="clips", path=str(tmp_path), max_stride=most, hold_out=0, fps=0)
        mixture = Mixture(DataConfig(sources=[source], num_frames=4, size=(16, 16)), seed=0)
        steps = [mixture[(0, i)].video.mean(dim=(0, 2, 3)).diff().mean().item() * 127.5 / 10 for i in range(30)]
        assert {round(step) for step in steps} == set(range(1, most + 1))


@pytest.mark.parametrize("rate", [15, 30, 60])
@pytest.mark.parametrize("fps, source_fps", [(8, None), (30, 8)])
def test_windows_last_as_long_as_they_play(make_video, numbered, numbers, tmp_path, rate, fps, source_fps):
    make_video(numbered(3 * rate), "a.mp4", fps=rate, options={"crf": "1"})
    source = SourceConfig(kind="clips", path=str(tmp_path), hold_out=0, fps=source_fps)
    mixture = Mixture(DataConfig(sources=[source], num_frames=9, size=(32, 32), fps=fps), seed=0)
    drawn = ClipSource(source, mixture.groups[0][0][0].data, "train").clips[0]
    expected = [int(k * rate / 8 + 1e-6) for k in range(len(drawn))]  # the frame that is shown at k / 8 s
    assert numbers(drawn) == expected and len(drawn) == 24
    assert mixture[(0, 0)].video.shape == (3, 9, 32, 32)


def test_a_manifests_part_is_what_is_trained_on(make_video, numbered, numbers, tmp_path):
    make_video(numbered(60), "a.mp4", fps=30, options={"crf": "1"})
    (tmp_path / "metadata.csv").write_text("path,caption,start,duration\na.mp4,late,1,0.5\na.mp4,early,0.2,0.5\n")
    source = SourceConfig(kind="clips", path=str(tmp_path), hold_out=0, fps=0)
    clips = ClipSource(source, DataConfig(sources=[source], num_frames=5, size=(32, 32)), "train")
    assert [numbers(clip) for clip in clips.clips] == [list(range(30, 45)), list(range(6, 21))]
    assert clips.captions == ["late", "early"]


def test_a_part_may_end_with_its_window(make_video, numbered, numbers, tmp_path):
    make_video(numbered(60), "a.mp4", fps=30, options={"crf": "1"})
    (tmp_path / "metadata.csv").write_text("path,start,duration\na.mp4,1,1\n")
    source = SourceConfig(kind="clips", path=str(tmp_path), hold_out=0)
    data = DataConfig(sources=[source], num_frames=9, size=(32, 32), fps=8)
    assert numbers(ClipSource(source, data, "train").clips[0]) == [30, 33, 37, 41, 45, 48, 52, 56, 56]
    data.num_frames = 10
    with pytest.warns(UserWarning, match="8 frames at 8 fps, 10 needed"), pytest.raises(VidgenError):
        ClipSource(source, data, "train")


def test_unusable_clips_are_named(make_video, tmp_path):
    make_video(frames_of(8), "good.mp4", fps=8)
    make_video(frames_of(2), "short.mp4", fps=8)
    source = SourceConfig(kind="clips", path=str(tmp_path), hold_out=0)
    data = DataConfig(sources=[source], num_frames=5, size=(16, 16))
    with pytest.warns(UserWarning, match="1 clips left out: short.mp4"):
        mixture = Mixture(data, seed=0)
    assert mixture[(0, 0)].video.shape == (3, 5, 16, 16)
    source.include = ["short.mp4"]
    with pytest.warns(UserWarning), pytest.raises(VidgenError, match="no usable clip of 5 frames"):
        Mixture(data, seed=0)


def test_a_missing_folder_says_how_to_name_another():
    source = SourceConfig(kind="clips", path="nowhere")
    with pytest.raises(VidgenError, match=r"nowhere: no such file or folder; .*data\.sources\.N\.path=FOLDER"):
        Mixture(DataConfig(sources=[source], num_frames=5, size=(16, 16)), seed=0)


def test_to_float_is_the_inverse_of_rounding():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    back = ((to_tensor(levels) + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(back[0, 0].flatten(), torch.arange(256, dtype=torch.uint8))


def test_a_source_without_a_folder_is_left_out_beside_others_and_asked_for_alone():
    shapes, clips = SourceConfig(), SourceConfig(kind="clips")
    with pytest.warns(UserWarning, match="data.sources.1 names no folder of clips and is left out"):
        assert named_sources(DataConfig(sources=[shapes, clips]), "train") == [shapes]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert named_sources(DataConfig(sources=[shapes, clips]), "validation") == [shapes]
    with pytest.raises(VidgenError, match="this recipe is for clips of your own: data.sources.N.path=FOLDER"):
        Mixture(DataConfig(sources=[clips]), 0)
