"""Finding clips in every layout, and windows of them that are reproducible and exactly as long as asked."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from vidgen.data import ClipRecord, VideoDataset, find_clips, write_video
from vidgen.errors import VideoError, VidgenError


@pytest.fixture
def folder(make_video, numbered, tmp_path):
    """Three sound clips (12, 20 and 30 frames at 10 fps) and a broken one."""
    root = tmp_path / "clips"
    root.mkdir()
    for name, length in (("a", 12), ("b", 20), ("c", 30)):
        shutil.move(make_video(numbered(length), f"{name}.mp4", fps=10, options={"g": "8"}), root)
    (root / "broken.mp4").write_bytes(b"not a video")
    return root


def load(*args, **kwargs) -> VideoDataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return VideoDataset(*args, **kwargs)


def indices(item: dict, fps: float = 10) -> list[int]:
    """Frame numbers by the times of an item."""
    return torch.round(item["times"] * fps).long().tolist()


def test_captions_lie_beside_clips(folder):
    (folder / "a.txt").write_text("a red circle\nmoves right\n", "utf-8")
    (folder / ".hidden.mp4").touch()
    (folder / "notes.md").touch()
    records = find_clips(folder)
    assert [record.id for record in records] == ["a.mp4", "b.mp4", "broken.mp4", "c.mp4"]
    assert records[0].caption == "a red circle moves right" and records[1].caption is None
    assert find_clips(folder / "a.mp4")[0].caption == "a red circle moves right"


def test_class_folders(tmp_path):
    for name in ("jump/1.mp4", "jump/2.mp4", "bend/1.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [(r.id, r.label) for r in find_clips(tmp_path)] == [
        ("bend/1.mp4", "bend"),
        ("jump/1.mp4", "jump"),
        ("jump/2.mp4", "jump"),
    ]
    (tmp_path / "loose.mp4").touch()
    assert {record.label for record in find_clips(tmp_path)} == {None}


def test_images_and_folders_of_frames(tmp_path, waves):
    write_video(waves(4, 8, 8), tmp_path / "walk", fps=8)
    Image.fromarray(waves(1, 8, 8)[0]).save(tmp_path / "photo.jpg")
    assert [record.id for record in find_clips(tmp_path)] == ["photo.jpg", "walk"]
    assert len(find_clips(tmp_path, frame_folders=False)) == 5
    assert [record.path for record in find_clips(tmp_path / "walk")] == [tmp_path / "walk"]
    (tmp_path / "walk" / "00000.txt").write_text("captioned images are no clip")
    assert len(find_clips(tmp_path)) == 5
    photo = load(tmp_path / "photo.jpg", num_frames=1, size=8, fps=30)
    assert photo[0]["video"].shape == (3, 1, 8, 8)


@pytest.mark.parametrize("path_column", ["path", "file_name", "video"])
@pytest.mark.parametrize("caption_column", ["caption", "text", "prompt"])
def test_manifests(tmp_path, path_column, caption_column):
    rows = [
        {path_column: "x/1.mp4", caption_column: "one, two", "label": "u", "split": "train", "start": 1.5},
        {path_column: "x/1.mp4", caption_column: "", "label": "v", "split": "val", "start": 0},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", "utf-8")
    (tmp_path / "metadata.csv").write_text(
        f'\ufeff{path_column},{caption_column},label,split,start\nx/1.mp4,"one, two",u,train,1.5\nx/1.mp4,,v,val,0\n',
        "utf-8",
    )
    for source in (tmp_path, tmp_path / "list.jsonl"):
        first, second = find_clips(source)
        assert first == ClipRecord(
            path=tmp_path / "x/1.mp4", id="x/1.mp4", caption="one, two", label="u", start=1.5, extra={"split": "train"}
        )
        assert (second.id, second.caption, second.extra) == ("x/1.mp4#2", None, {"split": "val"})


@pytest.mark.parametrize(
    "name, text, reason",
    [
        ("m.jsonl", '{"path": "a"}\n{"path": \n', "line 2: not JSON"),
        ("m.jsonl", "[1]\n", "line 1: list"),
        ("m.jsonl", "", "lists no clips"),
        ("m.csv", "name,caption\na.mp4,x\n", "line 2: no path, file_name, video"),
        ("m.csv", "path,fps\na.mp4,fast\n", "line 2: fps is 'fast'"),
    ],
)
def test_malformed_manifests(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(VidgenError, match=reason) as error:
        find_clips(tmp_path / name)
    assert "\n" not in str(error.value)


def test_sources_that_hold_nothing(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(VidgenError):
            find_clips(path)


def test_items_and_what_is_left_out(folder, numbers):
    with pytest.warns(UserWarning, match=r"2 of 4 clips left out: .*a\.mp4: 12 frames, 16 needed; .*broken"):
        dataset = VideoDataset(folder, num_frames=16, size=32)
    assert [record.id for record in dataset.records] == ["b.mp4", "c.mp4"] and len(dataset) == 2
    assert [drop.path.name for drop in dataset.dropped] == ["a.mp4", "broken.mp4"]
    item = dataset[0]
    assert item["video"].shape == (3, 16, 32, 32) and item["video"].dtype == torch.float32
    assert item["video"].abs().max() <= 1 and item["id"] == "b.mp4" and item["caption"] == ""
    frames = ((item["video"].permute(1, 2, 3, 0) + 1) * 127.5).numpy()
    assert numbers(frames) == indices(item) == list(range(16))
    with pytest.raises(IndexError):
        dataset[2]


def test_short_clips_repeat_only_when_told(folder):
    dataset = load(folder, num_frames=16, size=16, short="repeat")
    assert [record.id for record in dataset.records] == ["a.mp4", "b.mp4", "c.mp4"]
    video = dataset[0]["video"]
    assert (video[:, 12:] == video[:, 11:12]).all() and not (video[:, 11] == video[:, 10]).all()


@pytest.mark.slow
@pytest.mark.parametrize("fps", [None, 10, 4, 25])
@pytest.mark.parametrize("decode", ["first", "full"])
def test_every_window_fits(folder, fps, decode):
    dataset = load(folder, num_frames=8, size=8, fps=fps, windows="random", decode=decode)
    assert len(dataset) == (2 if fps == 4 else 3)  # 8 frames at 4 fps last 1.75 s; clip a has 1.2 s
    starts = set()
    for epoch in range(12):
        dataset.set_epoch(epoch)
        for index in range(len(dataset)):
            item = dataset[index]
            assert item["video"].shape == (3, 8, 8, 8)
            np.testing.assert_allclose(np.diff(item["times"]), 1 / (fps or 10), atol=0.101)
            starts.add((index, indices(item)[0]))
    assert len(starts) > 6
    centre = load(folder, num_frames=8, size=8, windows="centre")
    assert indices(centre[2]) == list(range(11, 19))  # (30 - 8) / 2


def test_random_windows_depend_on_seed_epoch_and_index_alone(folder):
    def times(dataset: VideoDataset, epoch: int) -> list:
        dataset.set_epoch(epoch)
        return [dataset[index]["times"].tolist() for index in range(len(dataset))]

    first, again = (load(folder, num_frames=4, size=8, windows="random", seed=3) for _ in range(2))
    other = load(folder, num_frames=4, size=8, windows="random", seed=4)
    again[1], again[0]
    assert times(first, 5) == times(again, 5)
    assert times(first, 5) != times(first, 6) and times(first, 5) != times(other, 5)


def test_loader_workers_follow_the_epoch(folder):
    dataset = load(folder, num_frames=4, size=8, windows="random")
    loader = DataLoader(dataset, batch_size=3, num_workers=1, persistent_workers=True)
    for epoch in (0, 1, 2):
        dataset.set_epoch(epoch)
        (batch,) = loader
        assert batch["video"].shape == (3, 3, 4, 8, 8) and batch["id"] == ["a.mp4", "b.mp4", "c.mp4"]
        expected = torch.stack([dataset[index]["times"] for index in range(3)])
        torch.testing.assert_close(batch["times"], expected)


def test_records_name_a_part_of_a_file(folder, tmp_path):
    (tmp_path / "parts.csv").write_text("path,start,duration\nclips/c.mp4,1.0,0.5\nclips/c.mp4,2.0,\n")
    dataset = load(tmp_path / "parts.csv", num_frames=5, size=8, windows="random")
    assert len(dataset) == 2 and dataset[0]["id"] != dataset[1]["id"]
    for epoch in range(5):
        dataset.set_epoch(epoch)
        assert indices(dataset[0]) == [10, 11, 12, 13, 14]
        assert 20 <= indices(dataset[1])[0] <= 25
    with pytest.raises(VidgenError, match="none of 2 clips.*5 frames, 12 needed"):
        load(tmp_path / "parts.csv", num_frames=12, size=8)


def test_damage_found_later_is_an_error_with_a_name(folder):
    dataset = load(folder, num_frames=8, size=8)
    (folder / "b.mp4").write_bytes(b"overwritten")
    with pytest.raises(VideoError, match=r"b\.mp4"):
        dataset[1]


def test_real_actions(shared_data):
    dataset = VideoDataset(shared_data / "actions.csv", num_frames=9, size=32, windows="random")
    assert len(dataset) == 48 and dataset.classes == ["bend", "jack", "wave1", "wave2"] and not dataset.dropped
    assert {record.extra["split"] for record in dataset.records} == {"train", "val"}
    assert dataset[7]["video"].std() > 0.05
    assert find_clips(shared_data / "captions.jsonl")[0].caption.startswith("A city street")
