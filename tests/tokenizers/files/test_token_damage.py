"""Whatever happens to token files and their index, clips come back as they were or a line says what is wrong."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import safe_open, save_file

from vidgen.errors import VidgenError
from vidgen.files.seals import json_checksum
from vidgen.tokenizers.files.token_files import open_tokens, read_tokens
from vidgen.tokenizers.files.token_folders import TokenIndex, TokenRow, check_seal, read_index, unlisted
from vidgen.tokenizers.files.token_writing import Author, writing_tokens
from vidgen.tokenizers.streaming.chunks import Tokens

NAMES = [f"{name}.mp4.safetensors" for name in "abc"]


def write_tokens(folder: Path, seed: int, codebook: int) -> Path:
    """A folder of token files, of latents or, with a codebook, of indices, and its index."""
    folder.mkdir()
    index = TokenIndex(folder)
    rng = torch.Generator().manual_seed(seed)
    for name in NAMES:
        with writing_tokens(folder / name, Author(name="tiny", hash="t", codebook_size=codebook)) as writer:
            for _ in range(2):
                latents = torch.randn(1, 2, 2, 3, 4, generator=rng)
                codes = torch.randint(codebook, (1, 2, 3, 4), generator=rng) if codebook else None
                writer.add(Tokens(latents=latents, indices=codes))
            writer.finish(num_frames=13, height=24, width=32, fps=8.0, extra={"source": "a.mp4"})
        size = (folder / name).stat().st_size
        index.add(
            TokenRow(
                path=name, source=name, frames=13, fps=8.0, height=24, width=32, bytes=size, bits=writer.payload,
                hash="h", tokenizer_hash="t", seal=writer.seal,
            )
        )  # fmt: skip
    index.save()
    return folder


def contents(folder: Path) -> list:
    """All that a folder gives back; raises VidgenError as decoding does, where a clip would be left out too."""
    rows = read_index(folder)
    clips = []
    for row in rows:
        check_seal(folder / row.path, row)
        tokens = read_tokens(folder / row.path)
        tensor = tokens.indices if tokens.latents is None else tokens.latents
        clips.append(dataclasses.asdict(tokens) | {"latents": tensor.tolist(), "indices": None, "extra": tokens.extra})
    for path in unlisted(folder, rows):
        raise VidgenError(f"{path}: not in the index")
    return sorted(zip((dataclasses.astuple(row) for row in rows), clips, strict=True), key=lambda pair: pair[0])


@pytest.fixture(scope="module", params=[0, 1000], ids=["latents", "indices"])
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("tokens")
    return [write_tokens(home / f"{seed}", seed, request.param) for seed in range(2)]


@given(seed=st.integers(0, 2**32))
def test_no_change_passes_for_content(folders: list[Path], tmp_path: Path, fuzzing: dict, seed: int) -> None:
    fuzzing["check_folder"](*folders, tmp_path / "copy", seed, contents, VidgenError)


def test_a_range_of_frames_is_checked_by_itself(tmp_path: Path) -> None:
    file = write_tokens(tmp_path / "tokens", 0, 0) / NAMES[0]
    whole = read_tokens(file).latents
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # of the last latent frame, of four
    file.write_bytes(data)
    with open_tokens(file) as tokens:
        assert torch.equal(tokens.latents(1, 3), whole[:, :, 1:3])
        with pytest.raises(VidgenError, match="latent frame 3 is not as it was written"):
            tokens.latents(2)


def test_files_and_lines_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    folder = write_tokens(tmp_path / "tokens", 0, 0)
    truth = contents(folder)
    for name in NAMES:
        with safe_open(folder / name, framework="pt") as file:
            metadata = {k: v for k, v in file.metadata().items() if k not in ("seal", "checksums")}
            latents = file.get_tensor("latents")
        save_file({"latents": latents}, folder / name, metadata)
    lines = [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]
    older = [{k: v for k, v in line.items() if k not in ("seal", "checksum")} for line in lines]
    (folder / "index.jsonl").write_text("".join(json.dumps(line) + "\n" for line in older))
    assert [clip for _, clip in contents(folder)] == [clip for _, clip in truth]
    assert all(json_checksum({k: v for k, v in line.items() if k != "checksum"}) == line["checksum"] for line in lines)


def test_a_clip_whose_file_is_anothers_is_encoded_again(tmp_path: Path) -> None:
    folder = write_tokens(tmp_path / "tokens", 0, 0)
    assert all(TokenIndex(folder).holds(name, "h") for name in NAMES)
    shutil.copy(folder / NAMES[1], folder / NAMES[0])
    assert [TokenIndex(folder).holds(name, "h") for name in NAMES] == [False, True, True]
