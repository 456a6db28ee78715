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
from vidgen.tokenizers.files import token_writing
from vidgen.tokenizers.files.index_packing import bits_for, pack_indices, unpack_indices
from vidgen.tokenizers.files.token_files import open_tokens, read_tokens, tokenizer_hash
from vidgen.tokenizers.files.token_writing import Author, write_tokens, writing_tokens
from vidgen.tokenizers.model import Encoded, TokenizerConfig, VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.tokenizers.streaming import chunks
from vidgen.tokenizers.streaming.chunks import Plan
from vidgen.tokenizers.streaming.halos import decoder_context
from vidgen.tokenizers.streaming.tiles import ExactTiles


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
    save_file({"latents": encoded.latents.contiguous()}, path)
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
    monkeypatch.setattr(chunks, "CHUNK_PIXELS", pixels)
    double = copy.deepcopy(tokenizer).double()
    latents = torch.cat(list(chunks.encode_stream(double, iter(frames))), dim=2)
    video = to_tensor(frames)[None].double()
    whole = double.encode(video)
    torch.testing.assert_close(latents, whole.latents, rtol=0, atol=1e-10)
    decoded = double.decode(whole).float().clamp(-1.0, 1.0)[0]
    size = {"num_frames": 11, "height": 18, "width": 26}
    streamed = torch.cat(list(chunks.decode_stream(double, latents, **size)), dim=1)
    torch.testing.assert_close(streamed, decoded, rtol=0, atol=1e-6)
    pairs = list(chunks.reconstruct_stream(double, iter(frames)))
    assert len(pairs) == {1: 4, 18 * 26 * 4: 4, 18 * 26 * 8: 2, 10**9: 1}[pixels]
    torch.testing.assert_close(torch.cat([x for x, _ in pairs], dim=1), video[0].float(), rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([y for _, y in pairs], dim=1), decoded, rtol=0, atol=1e-6)


def test_a_stream_reads_no_further_than_it_must(tokenizer, monkeypatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_PIXELS", 1)
    read = []

    def endless():
        while True:
            read.append(1)
            yield np.zeros((8, 8, 3), np.uint8)

    pieces = chunks.reconstruct_stream(tokenizer, endless())
    most = 0
    for _ in range(20):
        original, made = next(pieces)
        assert original.shape == made.shape
        most = max(most, len(read))
    assert most <= 4 * 22


SMALL = dict(patch_t=2, patch=2, widths=(8, 12), temporal=(True,), encoder_blocks=1, decoder_blocks=1)
DISCRETE = {
    "fsq": dict(bottleneck="fsq", latent_channels=3, levels=(5, 5, 3)),  # 75 codes: 7 bits
    "lfq": dict(bottleneck="lfq", latent_channels=11),
    "residual": dict(bottleneck="residual", latent_channels=3, levels=(5, 5, 3), quantizers=3),
}


@pytest.fixture(params=["kl", *DISCRETE])
def any_tokenizer(request) -> VideoTokenizer:
    torch.manual_seed(0)
    config = TokenizerConfig(**SMALL, **DISCRETE.get(request.param, {"latent_channels": 3}))
    return VideoTokenizer(config).double().eval().requires_grad_(False)


def write_in_pieces(path: Path, tokenizer: VideoTokenizer, frames: np.ndarray, plan: Plan) -> Path:
    with writing_tokens(path, Author.of(tokenizer)) as writer:
        for tokens in chunks.encode_tokens(tokenizer, iter(frames), lambda *_: plan):
            writer.add(tokens)
        writer.finish(num_frames=len(frames), height=frames.shape[1], width=frames.shape[2], fps=8)
    return path


def test_a_file_written_in_pieces_is_the_file_written_at_once(
    any_tokenizer, frames, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(token_writing, "COPIED_AT_ONCE", 2 * 3 * 5 * 7 * 8)  # of four latent frames, two
    encoded = any_tokenizer.encode(to_tensor(frames)[None])
    whole = write_tokens(tmp_path / "whole.safetensors", encoded, any_tokenizer, fps=8)
    plan = Plan(latents=2, tiles=ExactTiles(rows=3, cols=4))
    pieces = write_in_pieces(tmp_path / "pieces.safetensors", any_tokenizer, frames, plan)
    assert {p.name for p in tmp_path.iterdir()} == {whole.name, pieces.name}
    first, second = read_tokens(whole, any_tokenizer), read_tokens(pieces, any_tokenizer)
    if encoded.indices is None:
        assert first.indices is None and torch.equal(first.latents, encoded.latents)
        assert (second.latents - encoded.latents).abs().max() < 1e-10
    else:
        assert first.latents is None and torch.equal(first.indices, encoded.indices)
        assert whole.read_bytes() == pieces.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("plan", [Plan(latents=1), Plan(latents=3, tiles=ExactTiles(rows=4, cols=3))])
def test_a_part_is_that_part_of_the_whole(any_tokenizer, tmp_path: Path, plan: Plan) -> None:
    frames = np.random.default_rng(1).integers(0, 255, (70, 9, 14, 3), np.uint8)
    path = write_in_pieces(tmp_path / "x.safetensors", any_tokenizer, frames, Plan(latents=4))
    size = {"num_frames": 70, "height": 9, "width": 14}
    with open_tokens(path, any_tokenizer) as tokens:
        asked = []

        def read(low: int, high: int) -> torch.Tensor:
            asked.append((low, high))
            return tokens.for_tokenizer(any_tokenizer, low, high)

        def decode(start: int, stop: int) -> torch.Tensor:
            parts = chunks.decode_stream(any_tokenizer, read, **size, start=start, stop=stop, plan=lambda *_: plan)
            return torch.cat(list(parts), dim=1)

        whole = decode(0, 70)
        direct = any_tokenizer.decode(any_tokenizer.encode(to_tensor(frames)[None]))[0]
        assert (whole - direct.float().clamp(-1.0, 1.0)).abs().max() < 1e-6
        for start, stop in ((0, 1), (0, 2), (1, 2), (1, 6), (4, 5), (37, 38), (53, 61), (60, 70), (69, 70)):
            asked.clear()
            assert (decode(start, stop) - whole[:, start:stop]).abs().max() < 1e-6
            first, last = -(-start // 4), 1 + -(-(stop - 1) // 4)
            assert asked[0][0] == max(0, first - decoder_context(any_tokenizer)) and asked[-1][1] == last
        assert decoder_context(any_tokenizer) < 15  # the parts at the end do leave latents out


def test_no_part_is_refused(tokenizer, encoded: Encoded) -> None:
    for start, stop in ((3, 3), (0, 12), (-1, 2), (11, 12)):
        with pytest.raises(ValueError, match="no part of a clip of 11"):
            size = {"num_frames": 11, "height": 18, "width": 26}
            list(chunks.decode_stream(tokenizer, encoded.latents, **size, start=start, stop=stop))


@pytest.mark.parametrize("bits", range(1, 19))
def test_packing_is_undone_and_takes_its_bits(bits: int) -> None:
    generator = torch.Generator().manual_seed(bits)
    indices = torch.randint(0, 2**bits, (5, 7), generator=generator)
    indices[0, 0], indices[0, 1] = 0, 2**bits - 1
    packed = pack_indices(indices, bits)
    assert packed.shape == (5, -(-7 * bits // 8)) and torch.equal(unpack_indices(packed, bits, 7), indices)
    with pytest.raises(ValueError, match=f"{bits} bits do not hold"):
        pack_indices(indices + 1, bits)
    if bits in (8, 16):  # plain little-endian integers
        assert packed.numpy().tobytes() == indices.numpy().astype({8: "<u1", 16: "<u2"}[bits]).tobytes()


def test_bits_of_codebooks() -> None:
    assert [bits_for(n) for n in (1, 2, 3, 256, 257, 1000, 64000, 2**18)] == [1, 1, 2, 8, 9, 10, 16, 18]


def test_indices_that_no_codebook_has_are_refused(tmp_path: Path, frames) -> None:
    tokenizer = VideoTokenizer(TokenizerConfig(**SMALL, **DISCRETE["fsq"])).eval().requires_grad_(False)
    path = write_tokens(tmp_path / "x.safetensors", tokenizer.encode(to_tensor(frames)[None]), tokenizer, fps=8)
    data = path.read_bytes()
    path.write_bytes(data[:-20] + b"\xff" * 20)
    with pytest.raises(VidgenError, match="holds index 127, and its codebook has 75 codes"):
        read_tokens(path, tokenizer)
    path.write_bytes(data[:-20])
    with pytest.raises(VidgenError, match="not a whole token file"):
        read_tokens(path, tokenizer)


def test_latents_that_are_not_finite_are_refused(tokenizer, encoded: Encoded, tmp_path: Path) -> None:
    path = write_tokens(tmp_path / "x.safetensors", encoded, tokenizer, fps=8)
    path.write_bytes(path.read_bytes()[:-4] + b"\xff" * 4)
    with open_tokens(path, tokenizer) as tokens:
        assert torch.equal(tokens.latents(0, 1), encoded.latents[:, :, :1])  # the damage is in the last
        with pytest.raises(VidgenError, match="holds latents that are not finite; the file is damaged"):
            tokens.latents()


def test_a_file_of_another_shape_is_refused(tokenizer, encoded: Encoded, tmp_path: Path) -> None:
    clip = Encoded(latents=encoded.latents, num_frames=30, height=18, width=26)
    path = write_tokens(tmp_path / "x.safetensors", clip, tokenizer, fps=8)
    with pytest.raises(VidgenError, match=r"do not fit 30 frames of 18x26, which need \(9, 3, 4\)"):
        read_tokens(path, tokenizer)
