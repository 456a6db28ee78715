"""Cached prompts: read back bit for bit, made again when damaged or of another encoder, and never in the way."""

import os
import threading
import warnings
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from vidgen.errors import VidgenError
from vidgen.models.text import cache as text_cache
from vidgen.models.text.cache import TextCache, cache_folder, encoder_hash, find_text_cache
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder

PROMPTS = ["a star", "", "a red circle moves right"]


class Counting(ByteTextEncoder):
    def __init__(self, seed=0, **config):
        torch.manual_seed(seed)
        super().__init__(ByteTextConfig(width=16, depth=1, head_dim=16, **config))
        self.eval().requires_grad_(False)
        self.seen = []

    def forward(self, prompts):
        self.seen.append(list(prompts))
        return super().forward(prompts)


@pytest.fixture
def encoder():
    return Counting()


def test_what_was_encoded_is_read_back_bit_for_bit(encoder, tmp_path):
    cache = TextCache(tmp_path)
    first = cache.encode(encoder, PROMPTS)
    assert encoder.seen == [[prompt] for prompt in PROMPTS]  # each by itself, so a file is a function of its prompt
    again = TextCache(tmp_path).encode(encoder, PROMPTS[::-1])
    assert len(encoder.seen) == 3
    assert torch.equal(again.tokens.flip(0), first.tokens) and torch.equal(again.mask.flip(0), first.mask)
    plain = encoder(PROMPTS)
    assert torch.equal(first.mask, plain.mask)
    torch.testing.assert_close(first.tokens * first.mask[..., None], plain.tokens * plain.mask[..., None])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_as_it_is(dtype, tmp_path):
    encoder = Counting().to(dtype)
    first, again = (TextCache(tmp_path).encode(encoder, PROMPTS) for _ in range(2))
    assert again.tokens.dtype == dtype and torch.equal(first.tokens, again.tokens) and len(encoder.seen) == 3


def flip(path):
    """One bit of the last tensor's bytes."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def rename(path):
    """Another prompt's sound file under this name."""
    other = next(p for p in path.parent.iterdir() if p != path)
    path.write_bytes(other.read_bytes())


SPOILED = {
    "another type": lambda path: path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"')),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "no tensors": lambda path: path.write_text("not safetensors"),
    "another bit": flip,
    "another prompt": rename,
    "other tensors": lambda path: save_file({"x": torch.zeros(2)}, path),
    "nothing said": lambda path: save_file(load_file(path), path),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_damaged_file_is_made_again(encoder, tmp_path, case):
    cache = TextCache(tmp_path)
    want = cache.encode(encoder, PROMPTS)
    path, _ = cache.file_of(encoder, "a star")
    SPOILED[case](path)
    assert torch.equal(cache.encode(encoder, PROMPTS).tokens, want.tokens)
    assert encoder.seen[3:] == [["a star"]]
    assert torch.equal(cache.encode(encoder, PROMPTS).tokens, want.tokens) and len(encoder.seen) == 4


@given(seed=st.integers(0, 2**32))
def test_whatever_happens_to_its_files_encodings_stay_the_same(encoder, tmp_path, fuzzing, seed):
    def contents(folder):
        return TextCache(folder).encode(encoder, PROMPTS).tokens.tolist()

    contents(tmp_path / "sound")
    TextCache(tmp_path / "other").encode(encoder, ["a blue star", "red"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a folder in a file's place cannot be written
        fuzzing["check_folder"](tmp_path / "sound", tmp_path / "other", tmp_path / "copy", seed, contents, ())


def test_another_encoder_has_files_of_its_own(encoder, tmp_path):
    cache = TextCache(tmp_path)
    cache.encode(encoder, ["a star"])
    for other in (Counting(seed=1), Counting(max_bytes=100), Counting().to(torch.bfloat16)):
        cache.encode(other, ["a star"])
        assert other.seen == [["a star"]]
    before = encoder_hash(encoder)
    with torch.no_grad():
        encoder.norm.weight[0] += 1.0  # trained on: the hash that was kept does not hold any more
    assert encoder_hash(encoder) != before
    cache.encode(encoder, ["a star"])
    assert len(encoder.seen) == 2 and len(list(tmp_path.rglob("*.safetensors"))) == 5


def test_tokenizer_and_settings_are_part_of_the_hash(encoder):
    plain = encoder_hash(encoder)
    found = {plain}
    for words in ({"a": 0, "b": 1}, {"a": 1, "b": 0}):
        encoder = Counting()
        encoder.tokenizer = SimpleNamespace(get_vocab=lambda words=words: words)
        found.add(encoder_hash(encoder))
    encoder = Counting()
    encoder.max_length = 7
    found.add(encoder_hash(encoder))
    assert len(found) == 4 and encoder_hash(Counting()) == plain
    with pytest.raises(VidgenError, match="function is no module"):
        encoder_hash(lambda prompts: None)


def test_the_hash_is_worked_out_once(encoder, monkeypatch, tmp_path):
    calls = []
    whole = text_cache.model_hash
    monkeypatch.setattr(text_cache, "model_hash", lambda model: calls.append(1) or whole(model))
    for _ in range(3):
        TextCache(tmp_path).encode(encoder, PROMPTS)
    assert len(calls) == 1


def test_writers_at_the_same_time_leave_a_whole_file(encoder, tmp_path):
    want = encoder(["a star"]).tokens
    threads = [threading.Thread(target=TextCache(tmp_path).encode, args=(encoder, ["a star"])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(TextCache(tmp_path).encode(encoder, ["a star"]).tokens, want)
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1


def test_what_cannot_be_written_is_warned_of(encoder, tmp_path):
    (tmp_path / "text").write_text("a file where the folder would be")
    with pytest.warns(UserWarning, match="encoded prompts are not kept: .*; set VIDGEN_CACHE to a folder"):
        text = TextCache(tmp_path).encode(encoder, ["a star"])
    assert torch.equal(text.tokens, encoder(["a star"]).tokens)


def test_prompts_that_are_too_long_leave_nothing(encoder, tmp_path):
    with pytest.raises(VidgenError, match="too long"):
        TextCache(tmp_path).encode(encoder, ["x" * 300])
    assert not list(tmp_path.rglob("*.safetensors"))


def test_where_the_cache_lies_and_for_whom(encoder, monkeypatch, tmp_path):
    monkeypatch.setenv("VIDGEN_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert find_text_cache(encoder) is None and find_text_cache(encoder, "off") is None
    assert find_text_cache(encoder, "on") == TextCache(tmp_path / "mine")
    monkeypatch.setattr(text_cache, "LARGE", 1000)
    assert find_text_cache(encoder) == TextCache(tmp_path / "mine") and find_text_cache(encoder, "off") is None
    monkeypatch.delenv("VIDGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if os.name == "posix" and text_cache.sys.platform != "darwin":
        assert cache_folder() == tmp_path / "vidgen"
    assert not list(tmp_path.iterdir())  # nothing is made before it is needed
