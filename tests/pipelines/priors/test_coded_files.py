"""Files of coded tokens: indices bit for bit, the bits of the law, and whatever else in one line."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vidgen.data.frames import to_tensor
from vidgen.errors import VidgenError
from vidgen.files.seals import open_sealed, save_sealed
from vidgen.pipelines.priors.coded_files import CodedReader, holds_coded, read_coded, writing_coded
from vidgen.pipelines.priors.coding import PriorCoder
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.tokenizers.files.token_files import CODED_ENTRY, open_tokens, read_seal, read_tokens
from vidgen.tokenizers.files.token_writing import Author, write_tokens
from vidgen.tokenizers.streaming.chunks import Tokens

pytest.importorskip("constriction", reason="the range coder of the extra `coding`")


def encode(pipe: PriorPipeline, clip) -> Tokens:
    with torch.no_grad():
        encoded = pipe.vae.encode(to_tensor(clip)[None])
    return Tokens(latents=encoded.latents, indices=encoded.indices)


def write(path: Path, coder: PriorCoder, tokens: Tokens, frames: int, parts=None) -> Path:
    with writing_coded(path, Author.of(coder.pipe.vae), coder) as writer:
        whole = tokens.indices
        for indices in whole.split(parts or [whole.shape[1]], dim=1):
            writer.add(Tokens(latents=tokens.latents, indices=indices))
        writer.finish(num_frames=frames, height=32, width=32, fps=8.0, extra={"source": "a.mp4"})
    assert read_seal(path) == writer.seal and writer.payload == 8 * len(read_coded(path).stream)
    return path


@pytest.fixture(scope="module")
def coder(trained_prior: Path) -> PriorCoder:
    return PriorCoder(PriorPipeline.from_pretrained(trained_prior), str(trained_prior))


@pytest.fixture(scope="module")
def stored(coder, tiny_priors, tmp_path_factory) -> tuple[Path, Tokens]:
    tokens = encode(coder.pipe, tiny_priors["make_frames"](0))
    return write(tmp_path_factory.mktemp("coded") / "a.safetensors", coder, tokens, 9), tokens


def test_indices_come_back_and_take_the_bits_of_a_trained_law(coder, stored, tmp_path):
    path, tokens = stored
    assert holds_coded(path) and read_coded(path).info.extra == {"source": "a.mp4"}
    reader = CodedReader(read_coded(path), coder.pipe.vae, coder)
    assert torch.equal(reader.indices(1, 2), tokens.indices[:, 1:2]) and reader.done == 2
    assert torch.equal(reader.indices(0, 3), tokens.indices)
    assert torch.equal(reader.for_tokenizer(coder.pipe.vae, 0, 3), coder.pipe.vae.latents_from_indices(tokens.indices))
    bits = 8 * len(read_coded(path).stream)
    assert coder.bits(tokens.indices) - 32 <= bits <= 1.001 * coder.bits(tokens.indices)
    again = write(tmp_path / "b.safetensors", coder, tokens, 9, parts=[1, 2])
    assert again.read_bytes() == path.read_bytes()


def test_checksums_are_those_of_plain_files(coder, stored, tiny_priors, tmp_path):
    encoded = coder.pipe.vae.encode(to_tensor(tiny_priors["make_frames"](0))[None])
    plain = write_tokens(tmp_path / "c.safetensors", encoded, coder.pipe.vae, fps=8)
    assert not holds_coded(plain) and torch.equal(read_tokens(plain).indices, stored[1].indices)
    with open_tokens(plain) as tokens:
        assert tokens.info.checksums == read_coded(stored[0]).info.checksums


def test_a_trained_law_saves_most_of_what_plain_files_take(coder, tiny_priors):
    """Of many clips, each a piece: within a thousandth and the last word of the likelihood, half of five bits each."""
    many = torch.cat([encode(coder.pipe, tiny_priors["make_frames"](i)).indices for i in range(6)], dim=1)
    exact = coder.bits(many) - 32
    alone = sum(coder.bits(part) - 32 for part in many.split(3, dim=1))
    assert coder.piece == 3 and exact == pytest.approx(alone, rel=1e-5)
    assert exact < 0.75 * 5 * many.numel()
    untrained = PriorCoder(tiny_priors["make_random"](), "random")
    assert exact < 0.75 * untrained.bits(many)


@pytest.mark.parametrize(
    ("settings", "frames"),
    [
        ({"sizes": (9, 2)}, 9),
        ({"text": True}, 9),
        ({"window": 2}, 17),
        ({}, 17),  # longer than the clips of its training: in pieces
    ],
)
def test_every_kind_of_prior_codes_clips_of_any_length(tiny_priors, waves, tmp_path, settings, frames):
    coder = PriorCoder(tiny_priors["make_random"](**settings), "random")
    tokens = encode(coder.pipe, waves(frames, 32, 32))
    path = write(tmp_path / "a.safetensors", coder, tokens, frames)
    reader = CodedReader(read_coded(path), coder.pipe.vae, coder)
    assert torch.equal(reader.indices(0, tokens.indices.shape[1]), tokens.indices)
    assert 0 <= coder.bits(tokens.indices) - 8 * len(read_coded(path).stream) + 1e-3 * coder.bits(tokens.indices)
    assert coder.piece == (0 if "window" in settings else 3)


def test_other_weights_are_refused(coder, stored, tiny_priors):
    path, _ = stored
    clip = read_coded(path)
    with pytest.raises(VidgenError, match="coded by the prior .*; decode it with the prior that it was made with"):
        CodedReader(clip, coder.pipe.vae, PriorCoder(tiny_priors["make_random"](), "random"))
    other = tiny_priors["make_random"](seed=1)
    with pytest.raises(VidgenError, match="written for tokenizer .*; decode it with the model that it was made with"):
        CodedReader(clip, other.vae, PriorCoder(other, "random"))


def test_another_arithmetic_is_found_out_at_the_first_frame_that_differs(coder, stored):
    path, _ = stored
    clip = replace(read_coded(path), arithmetic={"torch": "1.0"})
    moved = PriorCoder(PriorPipeline.from_pretrained(coder.name), coder.name)
    moved.hash = coder.hash  # as if the weights were the same, and sums came out otherwise
    moved.prior.head.weight.data += 0.1 * torch.randn(moved.prior.head.weight.shape)
    reader = CodedReader(clip, coder.pipe.vae, moved)
    with pytest.raises(
        VidgenError, match=r"latent frame \d does not come out as it was coded.*torch 1.0, here"
    ) as error:
        reader.indices(0, 3)
    assert "\n" not in str(error.value)


@given(data=st.data())
def test_no_damage_passes_for_tokens(stored, tmp_path, fuzzing, data):
    whole = stored[0].read_bytes()
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(data.draw(fuzzing["damaged"](whole)))
    if path.read_bytes() == whole:
        return
    with pytest.raises(VidgenError) as error:
        read_coded(path)
    assert "\n" not in str(error.value)


def test_damage_that_is_known_and_files_of_other_kinds(stored, tmp_path):
    data = stored[0].read_bytes()
    for name, changed in (("cut", data[:-5]), ("bit", data[:-3] + bytes([data[-3] ^ 4]) + data[-2:]), ("empty", b"")):
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(VidgenError, match="not a whole file of coded tokens .*; encode the clip again"):
            read_coded(tmp_path / name)
    with pytest.raises(VidgenError, match="not a whole file of coded tokens"):
        read_coded(tmp_path / "nothing")
    with (
        pytest.raises(VidgenError, match="holds tokens that a prior has coded; name that, by --prior"),
        open_tokens(stored[0]),
    ):
        pass


def test_a_header_that_makes_no_sense_is_one_line(stored, tmp_path):
    """Whoever wrote it, with a seal that fits."""
    clip = read_coded(stored[0])
    with open_sealed(stored[0], entry=CODED_ENTRY) as file:
        about = file.about
    for name, value in (
        *(("index_shape", [3, 4]), ("index_shape", [3, -4, 4]), ("fps", 0.0), ("fps", "8"), ("checksums", ["a"])),
        *(("num_frames", None), ("codebook_size", 0), ("version", 2), ("piece", "3"), ("arithmetic", 3), ("extra", 4)),
    ):
        tensor = torch.frombuffer(bytearray(clip.stream), dtype=torch.uint8)
        save_sealed({"coded": tensor}, tmp_path / "a", {**about, name: value}, entry=CODED_ENTRY)
        with pytest.raises(VidgenError, match="not a whole file of coded tokens"):
            read_coded(tmp_path / "a")
