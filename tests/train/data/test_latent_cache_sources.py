"""Caches of latents: made anew where clips or captions have changed, and gone on with where they were stopped."""

import os
import warnings

import numpy as np
import pytest
import torch

from vidgen.data.writing import write_video
from vidgen.errors import VidgenError
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config import DataConfig, SourceConfig
from vidgen.train.data import cache_files, latent_cache
from vidgen.train.data.latent_cache import LatentCache


@pytest.fixture(scope="module")
def tokenizer() -> VideoTokenizer:
    torch.manual_seed(0)
    return VideoTokenizer(PRESETS["tiny"]).eval()


def write(folder, number: int, level: int) -> None:
    write_video(np.full((8, 32, 32, 3), level, np.uint8), folder / f"{number}.mp4", fps=8)
    (folder / f"{number}.txt").write_text(f"caption {number}")


@pytest.fixture
def data(tmp_path) -> DataConfig:
    folder = tmp_path / "clips"
    folder.mkdir()
    for i in range(3):
        write(folder, i, 80 * i)
    source = SourceConfig(kind="clips", path=str(folder), hold_out=0, short_side=32)
    return DataConfig(sources=[source], num_frames=5, size=(16, 16))


def open_cache(tokenizer, data, folder, count: int = 6) -> tuple[LatentCache, bool]:
    """The cache, and whether it says that it was made anew."""
    latent_cache.Mixture.__init__.__globals__["decode_small"].cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cache = LatentCache(tokenizer, data, seed=0, count=count, cache=str(folder))
    return cache, any("encoded anew" in str(w.message) for w in caught)


def test_a_cache_follows_its_clips_and_captions(tokenizer, data, tmp_path):
    clips = tmp_path / "clips"
    first, _ = open_cache(tokenizer, data, tmp_path / "cache")
    os.utime(clips / "0.mp4", (1, 1))
    again, anew = open_cache(tokenizer, data, tmp_path / "cache")
    assert not anew and torch.equal(first.latents, again.latents) and first.rows == again.rows

    (clips / "0.txt").write_text("new\u2028words")
    cache, anew = open_cache(tokenizer, data, tmp_path / "cache")
    assert anew and {row["caption"] for row in cache.rows} <= {"new words", "caption 1", "caption 2"}

    write(clips, 1, 255)
    cache, anew = open_cache(tokenizer, data, tmp_path / "cache")
    fresh, _ = open_cache(tokenizer, data, tmp_path / "fresh")
    assert anew and torch.equal(cache.latents, fresh.latents) and cache.rows == fresh.rows

    write(clips, 3, 9)
    assert open_cache(tokenizer, data, tmp_path / "cache")[1]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_stopped_cache_goes_on(tokenizer, data, tmp_path, monkeypatch):
    monkeypatch.setattr(latent_cache, "ENCODE_BATCH", 2)
    monkeypatch.setattr(cache_files, "PART", 4)
    encode = latent_cache.encode_clips
    starts = []

    def stop_at_third(*args):
        starts.append(args[3])
        if len(starts) == 3:
            raise KeyboardInterrupt
        return encode(*args)

    monkeypatch.setattr(latent_cache, "encode_clips", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        open_cache(tokenizer, data, tmp_path / "cache", count=10)
    cache, _ = open_cache(tokenizer, data, tmp_path / "cache", count=10)
    assert starts == [0, 4, 8, 8]
    monkeypatch.setattr(latent_cache, "encode_clips", encode)
    fresh, _ = open_cache(tokenizer, data, tmp_path / "fresh", count=10)
    assert torch.equal(cache.latents, fresh.latents) and cache.rows == fresh.rows
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [
        path.name for path in (tmp_path / "fresh").iterdir()
    ]


def test_a_stopped_cache_of_other_clips_does_not(tokenizer, data, tmp_path, monkeypatch):
    monkeypatch.setattr(cache_files, "PART", 4)
    monkeypatch.setattr(cache_files.shutil, "copyfile", None)  # stops at the very end
    with pytest.raises(TypeError):
        open_cache(tokenizer, data, tmp_path / "cache")
    monkeypatch.undo()
    write(tmp_path / "clips", 0, 255)
    cache, _ = open_cache(tokenizer, data, tmp_path / "cache")
    fresh, _ = open_cache(tokenizer, data, tmp_path / "fresh")
    assert torch.equal(cache.latents, fresh.latents)


def test_keys_of_caches_without_files_are_what_they_were(tokenizer):
    data = DataConfig(sources=[SourceConfig()], num_frames=5, size=(16, 16))
    key = latent_cache.cache_key(tokenizer, data, "train", 0, 4)
    data.sources[0].max_stride = 9  # says nothing of the synthetic world
    assert latent_cache.cache_key(tokenizer, data, "train", 0, 4) == key
    data.sources[0].seed = 1
    assert latent_cache.cache_key(tokenizer, data, "train", 0, 4) != key


def test_a_damaged_cache_is_named(tokenizer, data, tmp_path):
    open_cache(tokenizer, data, tmp_path / "cache")
    (captions,) = (tmp_path / "cache").glob("*/captions.jsonl")
    captions.write_text("{not json\n")
    with pytest.raises(VidgenError, match="is damaged .*remove it"):
        open_cache(tokenizer, data, tmp_path / "cache")
