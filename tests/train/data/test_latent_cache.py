"""A cache of latents gives back what was encoded, with the captions of the same clips, or says what is wrong."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from vidgen.errors import VidgenError
from vidgen.files.seals import save_sealed
from vidgen.train.data.cache_files import CAPTIONS, describe_cache, read_tensor

LATENTS = torch.arange(24, dtype=torch.float16).reshape(3, 2, 1, 2, 2)


def write_cache(folder: Path, latents: torch.Tensor = LATENTS, word: str = "clip") -> Path:
    folder.mkdir()
    captions = "".join(json.dumps({"caption": f"{word} {i}"}) + "\n" for i in range(len(latents))).encode()
    (folder / CAPTIONS).write_bytes(captions)
    save_sealed({"latents": latents}, folder / "latents.safetensors", describe_cache(folder, captions))
    return folder


def test_a_cache_is_read_and_one_of_an_earlier_version(tmp_path: Path) -> None:
    folder = write_cache(tmp_path / "latents-1")
    latents, rows, _ = read_tensor(folder, "latents")
    assert torch.equal(latents, LATENTS) and rows == [{"caption": f"clip {i}"} for i in range(3)]
    save_file(load_file(folder / "latents.safetensors"), folder / "latents.safetensors")
    assert torch.equal(read_tensor(folder, "latents")[0], LATENTS)


@pytest.mark.parametrize("older", [False, True])
def test_a_caption_gone_is_named(tmp_path: Path, older: bool) -> None:
    folder = write_cache(tmp_path / "latents-1")
    if older:
        save_file(load_file(folder / "latents.safetensors"), folder / "latents.safetensors")
    lines = (folder / CAPTIONS).read_text().splitlines(keepends=True)
    (folder / CAPTIONS).write_text("".join(lines[1:]))
    with pytest.raises(VidgenError, match="latents-1 is damaged.*are not of one cache.*remove it"):
        read_tensor(folder, "latents")


def test_captions_swapped_files_of_another_cache_and_changed_bytes_are_named(tmp_path: Path) -> None:
    lines = [{"caption": "clip 1"}, {"caption": "clip 0"}, {"caption": "clip 2"}]
    first, second = write_cache(tmp_path / "latents-1"), write_cache(tmp_path / "latents-2")
    (first / CAPTIONS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    third = write_cache(tmp_path / "latents-3")
    (third / "latents.safetensors").write_bytes((second / "latents.safetensors").read_bytes())
    data = bytearray((second / "latents.safetensors").read_bytes())
    data[-1] ^= 1
    (second / "latents.safetensors").write_bytes(data)
    for folder, words in ((first, "one cache"), (second, "not as it was written"), (third, "one cache")):
        with pytest.raises(VidgenError, match=words):
            read_tensor(folder, "latents")


def test_numbers_that_are_not_finite_are_named(tmp_path: Path) -> None:
    folder = write_cache(tmp_path / "latents-1")
    broken = LATENTS.clone()
    broken[1, 0, 0, 0, 0] = float("nan")
    save_file({"latents": broken}, folder / "latents.safetensors")
    with pytest.raises(VidgenError, match="not finite"):
        read_tensor(folder, "latents")


@given(seed=st.integers(0, 2**32))
def test_no_change_passes_for_content(tmp_path: Path, fuzzing: dict, seed: int) -> None:
    sound, other = tmp_path / "sound" / "latents-1", tmp_path / "other" / "latents-1"
    if not sound.exists():
        sound.parent.mkdir()
        other.parent.mkdir()
        write_cache(sound)
        write_cache(other, -LATENTS, "other")

    def contents(folder: Path) -> list:
        latents, rows, _ = read_tensor(folder, "latents")
        return [latents.tolist(), rows]

    fuzzing["check_folder"](sound, other, tmp_path / "latents-1", seed, contents, VidgenError)
