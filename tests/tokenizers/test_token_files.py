"""Token files: there and back again, refused where they do not belong; streams of frames equal the whole clip."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from vidgen.data.frames import to_tensor
from vidgen.errors import VidgenError
from vidgen.tokenizers import streaming
from vidgen.tokenizers.model import Encoded, VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.tokenizers.token_files import read_tokens, tokenizer_hash, write_tokens


@pytest.fixture(scope="module")
def tokenizer() -> VideoTokenizer:
    torch.manual_seed(0)
    return VideoTokenizer(PRESETS["tiny"]).eval().requires_grad_(False)


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (11, 18, 26, 3), np.uint8)


@pytest.fixture
def encoded(tokenizer: VideoTokenizer, frames: np.ndarray) -> Encoded:
    return tokenizer.encode(to_tensor(frames)[None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_written_is_read(tokenizer, encoded: Encoded, tmp_path: Path, dtype: torch.dtype) -> None:
    clip = Encoded(latents=encoded.latents.to(dtype), num_frames=11, height=18, width=26)
    path = write_tokens(tmp_path / "ü x.safetensors", clip, tokenizer, fps=30000 / 1001, extra={"prompt": "ü"})
    back = read_tokens(path, tokenizer)
    assert torch.equal(back.latents, clip.latents) and back.latents.dtype == dtype
    assert (back.num_frames, back.height, back.width, back.fps) == (11, 18, 26, 30000 / 1001)
    assert back.tokenizer == tokenizer.config.name and back.extra == {"prompt": "ü"}
    with safe_open(path, framework="pt") as file:
        assert file.metadata()["time_base"] == "1001/30000"


def test_a_tokenizer_is_itself_in_any_precision_and_no_other(tokenizer: VideoTokenizer) -> None:
    own = tokenizer_hash(tokenizer)
    assert (
        own == tokenizer_hash(copy.deepcopy(tokenizer).bfloat16()) == tokenizer_hash(copy.deepcopy(tokenizer).double())
    )
    assert next(tokenizer.parameters()).dtype == torch.float32
    other = copy.deepcopy(tokenizer)
    other.latents_std[0] *= 1.1
    assert tokenizer_hash(other) != own


def test_another_tokenizer_is_refused(tokenizer, encoded: Encoded, tmp_path: Path) -> None:
    path = write_tokens(tmp_path / "x.safetensors", encoded, tokenizer, fps=8)
    torch.manual_seed(1)
    other = VideoTokenizer(PRESETS["tiny"])
    with pytest.raises(VidgenError, match=r"written for tokenizer kl_causal_4x8x8_4ch .* made with"):
        read_tokens(path, other)


def test_files_of_other_kinds_are_refused(tokenizer, encoded: Encoded, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with pytest.raises(VidgenError, match="no such file"):
        read_tokens(path)
    save_file({"latents": encoded.latents}, path)
    with pytest.raises(VidgenError, match="not a token file"):
        read_tokens(path)
    write_tokens(path, encoded, tokenizer, fps=8)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(VidgenError, match="not a whole token file"):
        read_tokens(path)
    path.write_bytes(b"")
    with pytest.raises(VidgenError, match="not a whole token file"):
        read_tokens(path)


def test_nothing_is_left_where_writing_fails(tokenizer, encoded: Encoded, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(VidgenError):
        write_tokens(tmp_path / "file" / "x.safetensors", encoded, tokenizer, fps=8)
    assert {p.name for p in tmp_path.iterdir()} == {"file"}


@pytest.mark.parametrize("pixels", [1, 18 * 26 * 4, 18 * 26 * 8, 10**9])
def test_streams_of_frames_equal_the_whole_clip(tokenizer, frames, encoded: Encoded, monkeypatch, pixels: int) -> None:
    monkeypatch.setattr(streaming, "CHUNK_PIXELS", pixels)
    double = copy.deepcopy(tokenizer).double()
    latents = torch.cat(list(streaming.encode_stream(double, iter(frames))), dim=2)
    video = to_tensor(frames)[None].double()
    whole = double.encode(video)
    torch.testing.assert_close(latents, whole.latents, rtol=0, atol=1e-10)
    decoded = double.decode(whole).float().clamp(-1.0, 1.0)[0]
    size = {"num_frames": 11, "height": 18, "width": 26}
    streamed = torch.cat(list(streaming.decode_stream(double, latents, **size)), dim=1)
    torch.testing.assert_close(streamed, decoded, rtol=0, atol=1e-6)
    pairs = list(streaming.reconstruct_stream(double, iter(frames)))
    assert len(pairs) == {1: 3, 18 * 26 * 4: 3, 18 * 26 * 8: 2, 10**9: 1}[pixels]
    torch.testing.assert_close(torch.cat([x for x, _ in pairs], dim=1), video[0].float(), rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([y for _, y in pairs], dim=1), decoded, rtol=0, atol=1e-6)


def test_a_stream_reads_no_further_than_it_must(tokenizer, monkeypatch) -> None:
    monkeypatch.setattr(streaming, "CHUNK_PIXELS", 1)
    read = []

    def endless():
        while True:
            read.append(1)
            yield np.zeros((8, 8, 3), np.uint8)

    pieces = streaming.reconstruct_stream(tokenizer, endless())
    most = 0
    for _ in range(20):
        original, made = next(pieces)
        assert original.shape == made.shape
        most = max(most, len(read))
    assert most <= 4 * 22
