"""Three ways to decode and two parts of bits: what is known beforehand comes out of the evaluation."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from vidgen.data.manifests import find_clips
from vidgen.data.reading import read_video
from vidgen.errors import VidgenError
from vidgen.metrics import psnr
from vidgen.tokenizers.evaluation.protocols import ClipProtocol
from vidgen.tokenizers.keyframes.ablation import decode_variants
from vidgen.tokenizers.keyframes.evaluation import evaluate_keyframes
from vidgen.tokenizers.keyframes.files import stack_groups
from vidgen.tokenizers.keyframes.model import KeyframeTokenizer
from vidgen.tokenizers.keyframes.rates import code_parts, round_codes, stored_bpp, vector_bits


@pytest.fixture
def exact(tokenizer_of, frame_tokenizer) -> KeyframeTokenizer:
    """Key frames come back to the bit; motion is of a fresh network."""
    key = frame_tokenizer()
    model = tokenizer_of(noise=0.0, key=key.config, block=16).float()
    model.key = key
    return model


@pytest.fixture
def folder(make_video, moving, tmp_path):
    """A clip of 7 frames, 64x80, that moves by (-3, 2) a frame, with vectors that say so."""
    frames = ((moving((-3, 2), 7)[0].permute(1, 2, 3, 0).numpy() + 1) * 127.5).astype(np.uint8)
    (tmp_path / "clips").mkdir()
    path = make_video(frames, options={"bf": "0", "refs": "1", "crf": "4", "g": "300"}, pix_fmt="yuv444p")
    path.rename(tmp_path / "clips" / "a.mp4")
    return tmp_path / "clips"


@pytest.mark.parametrize("motion", ["matched", "file"])
def test_the_ways_are_what_they_say(exact, folder, motion):
    report = evaluate_keyframes(exact, find_clips(folder), ClipProtocol(), motion=motion, step=1e-3)
    (row,) = report["clips"]
    video = torch.from_numpy(read_video(folder / "a.mp4").frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    stands = video[:, :, [0, 0, 0, 0, 4, 4, 4]]
    assert row["repeated"]["psnr"] == pytest.approx(psnr(stands, video).item(), abs=0.05)
    assert row["vectors"]["psnr"] > row["repeated"]["psnr"] + 5
    assert report["ways"]["learned"]["psnr"] == row["learned"]["psnr"] and report["dropped"] == []
    assert report["gain"]["mean"] == pytest.approx(row["learned"]["psnr"] - row["vectors"]["psnr"], abs=1e-3)
    assert set(report["bits_per_pixel"]) == {"key", "motion", "vectors"} and report["gain"]["ci"] is None


def test_matching_and_vectors_of_the_file_agree_where_nothing_enters(exact, folder):
    video = torch.from_numpy(read_video(folder / "a.mp4").frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    field = exact.measure_motion(video)
    ways = decode_variants(exact, video)
    inner = (slice(None), slice(None), slice(None), slice(16, -16), slice(16, -16))
    assert torch.equal(ways.field, field) and psnr(ways.vectors[inner], video[inner]).item() > 30
    assert torch.equal(ways.repeated, video[:, :, [0, 0, 0, 0, 4, 4, 4]].clamp(-1, 1))


def test_bits_of_key_frames_and_motion_are_counted_apart(tokenizer_of):
    model = tokenizer_of()
    video = torch.rand(2, 3, 5, 16, 24) * 2 - 1
    codes = model.encode(video)  # 2 key frames of 2x3 positions x 4 channels; 3 frames of 2x3 tokens of 25
    pixels = 5 * 16 * 24
    found = stored_bpp(model, codes)
    assert found["key"] == pytest.approx(2 * 6 * 4 * 16 / pixels) and found["motion"] == pytest.approx(
        3 * 6 * math.ceil(math.log2(25)) / pixels
    )
    one = model.encode(video[:1])
    parts = code_parts(model, round_codes(one, 0.5), 0.5)
    assert parts["motion"].raw_bits == 3 * 6 * 5 and parts["motion"].entropy_bits <= parts["motion"].raw_bits
    assert torch.equal(parts["key"].latents, round_codes(one, 0.5).key_latents)
    still = code_parts(model, model.encode(video[:1, :, :1]), 0.5)
    assert still["motion"].raw_bits == still["motion"].coded_bits == 0 < still["key"].coded_bits
    assert 0 < vector_bits(torch.zeros(1, 2, 3, 4, 5)) <= 2 * 33
    assert torch.equal(round_codes(one, 0.5).motion_latents, one.motion_latents)


def test_clips_pass_in_whole_groups(exact, monkeypatch, waves):
    monkeypatch.setattr("vidgen.tokenizers.keyframes.files.PIXELS_AT_ONCE", 5 * 24 * 32)
    pieces = list(stack_groups(waves(11, 24, 32), 4))
    assert [piece.shape[2] for piece in pieces] == [4, 4, 3] and not list(stack_groups([], 4))


def test_what_cannot_be_used_is_named(exact, folder, make_video, waves):
    (folder / "text.mp4").write_text("no video\n" * 50)
    make_video(waves(6, 64, 80), "b.mkv", codec="ffv1", pix_fmt="yuv420p").rename(folder / "b.mkv")
    said = []
    report = evaluate_keyframes(exact, find_clips(folder), ClipProtocol(), motion="file", say=said.append)
    assert len(report["clips"]) == 1 and len(said) == 2
    assert {"FFmpeg exports no vectors of ffv1" in d["reason"] for d in report["dropped"]} == {True, False}
    with pytest.raises(VidgenError, match="leave size and frame rate"):
        evaluate_keyframes(exact, find_clips(folder), ClipProtocol(size=(32, 32)), motion="file")
    with pytest.raises(VidgenError, match="none of 1 clips"):
        records = [r for r in find_clips(folder) if r.path.name == "text.mp4"]
        evaluate_keyframes(exact, [dataclasses.replace(records[0])], ClipProtocol())
