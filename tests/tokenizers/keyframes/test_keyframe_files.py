"""Files of key frames and motion: there and back to the bit, part by part, and no damage that passes for a clip."""

import dataclasses

import pytest
import torch
from safetensors import safe_open

from vidgen.errors import VidgenError
from vidgen.tokenizers.files.token_files import tokenizer_hash
from vidgen.tokenizers.keyframes.codes import KeyframeCodes, join_codes
from vidgen.tokenizers.keyframes.files import decode_groups, encode_groups, holds_key_frames, read_codes, writing_codes
from vidgen.tokenizers.presets import PRESETS


def write(tokenizer, frames, path) -> KeyframeCodes:
    """Write the codes of frames (t, h, w, 3), and return them."""
    parts = [codes for _, codes in encode_groups(tokenizer, frames)]
    with writing_codes(path, tokenizer, tokenizer_hash(tokenizer)) as writer:
        for part in parts:
            writer.add(part)
        writer.finish(num_frames=len(frames), height=frames.shape[1], width=frames.shape[2], fps=8)
    return join_codes(parts, tokenizer.config.gop)


BOTH = {"key": dataclasses.replace(PRESETS["tiny"], bottleneck="fsq", levels=(5, 5, 5, 5))}


@pytest.mark.parametrize("count", [1, 4, 6, 9])
@pytest.mark.parametrize("changes", [{}, {"bottleneck": "kl", "levels": ()}, BOTH], ids=["fsq", "kl", "both"])
def test_a_clip_comes_back(tokenizer_of, tmp_path, count, changes) -> None:
    tokenizer = tokenizer_of(**changes).float()
    frames = torch.randint(0, 256, (count, 24, 20, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    codes = write(tokenizer, frames.numpy(), tmp_path / "a.safetensors")
    assert holds_key_frames(tmp_path / "a.safetensors")
    file = read_codes(tmp_path / "a.safetensors", tokenizer)
    assert (file.num_frames, file.height, file.width, file.fps) == (count, 24, 20, 8.0)
    for name in ("key_indices", "motion_indices", "key_latents", "motion_latents"):
        before, after = getattr(codes, name), getattr(file.codes, name)
        assert torch.equal(before, after) if before is not None else after is None
    whole = tokenizer.decode(codes)[0].clamp(-1, 1)
    for start in range(count):
        part = torch.cat(list(decode_groups(tokenizer, file.codes, start, count)), dim=1)
        torch.testing.assert_close(part, whole[:, start:], rtol=0, atol=1e-5)


def test_tokens_take_the_bits_that_they_need(tokenizer_of, tmp_path) -> None:
    tokenizer = tokenizer_of().float()  # 25 codes of motion: 5 bits for 8 x 8 pixels
    frames = torch.zeros(4, 16, 16, 3, dtype=torch.uint8).numpy()
    write(tokenizer, frames, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.get_tensor("motion").shape == (3, 3) and file.get_tensor("key").dtype == torch.float32


def test_damage_and_strangers_are_one_line(tokenizer_of, tmp_path) -> None:
    tokenizer, other = tokenizer_of().float(), tokenizer_of(noise=0.2).float()
    path = tmp_path / "a.safetensors"
    write(tokenizer, torch.zeros(5, 16, 16, 3, dtype=torch.uint8).numpy(), path)
    with pytest.raises(VidgenError, match="decode it with the model that it was made with"):
        read_codes(path, other)
    whole = path.read_bytes()
    for place in range(8, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        path.write_bytes(damaged)
        try:
            file = read_codes(path, tokenizer)
        except VidgenError as error:
            assert "\n" not in str(error)
        else:  # a blank behind the header
            path.write_bytes(whole)
            assert torch.equal(file.codes.motion_latents, read_codes(path, tokenizer).codes.motion_latents)
    assert not holds_key_frames(tmp_path / "none.safetensors")
    with pytest.raises(VidgenError, match="no whole file of key frames"):
        read_codes(tmp_path / "none.safetensors", tokenizer)
