"""Pipelines of priors: the same clip whatever the batch, known frames kept, every order, saved and loaded."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from vidgen.checkpoints.hashing import model_hash
from vidgen.errors import VidgenError
from vidgen.models.priors.config import ORDERS, TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.loading import load_pipeline
from vidgen.pipelines.priors.coding import prior_hash
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.schedule import PriorSchedule
from vidgen.tokenizers.files.token_files import tokenizer_hash
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

LEVELS = (3, 3, 2)
CLIP = PriorSchedule(num_frames=5, height=16, width=16, num_inference_steps=3)


def make_pipeline(order: str = "causal", sizes=(18,), text: bool = True, **shape) -> PriorPipeline:
    torch.manual_seed(0)
    config = replace(PRESETS["tiny"], latent_channels=3, bottleneck="fsq", levels=LEVELS)
    encoder = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16)) if text else None
    prior = TokenPrior(
        TokenPriorConfig(
            codebook_sizes=sizes, order=order, width=32, depth=2, head_dim=16, text_width=16 if text else 0, **shape
        )
    )
    return PriorPipeline(VideoTokenizer(config).eval(), prior.eval(), encoder and encoder.eval(), CLIP)


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_makes_clips_that_do_not_depend_on_their_batch(order):
    pipe = make_pipeline(order)
    both = pipe(["a red circle moves right", "a blue star"], seed=3, guidance_scale=2.0)
    assert [clip.shape for clip in both.frames] == [(5, 16, 16, 3)] * 2
    first = pipe("a red circle moves right", seed=3, guidance_scale=2.0)
    assert np.array_equal(first.frames[0], both.frames[0])
    other = pipe("a red circle moves right", seed=4, guidance_scale=2.0)
    assert not np.array_equal(first.frames[0], other.frames[0])


@pytest.mark.parametrize("sizes", [(18,), (9, 2), (3, 3, 2)])
def test_digits_are_the_tokenizers_indices(sizes):
    pipe = make_pipeline(sizes=sizes)
    indices = torch.randint(0, 18, (2, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    tokens = pipe.tokens_of(indices)
    assert tokens.shape == (2, 48 * len(sizes))
    assert torch.equal(pipe.indices_of(tokens, (3, 4, 4)), indices)
    assert pipe("a star", num_frames=3).frames[0].shape == (3, 16, 16, 3)


@pytest.mark.parametrize("order", ORDERS)
def test_a_clip_goes_on_from_known_frames(order):
    pipe = make_pipeline(order)
    video = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    seen = []
    out = pipe("a star", video=video, callback_on_step_end=lambda step, tokens: seen.append(step))
    known = pipe.read_prefix(video, (5, 16, 16))
    rows, columns = out.latents.shape[3:]
    assert known.shape[1] == rows * columns and seen  # three frames fill the first latent frame alone
    prefix = pipe.vae.latents_from_indices(pipe.indices_of(known, (1, rows, columns)))
    assert torch.equal(out.latents[:, :, :1], prefix)


def test_without_a_condition_the_prior_reads_no_text():
    pipe = make_pipeline(text=False)
    assert pipe().frames[0].shape == (5, 16, 16, 3)
    with pytest.raises(VidgenError, match="reads no text"):
        pipe("a star")


def test_a_pipeline_is_saved_and_loaded(tmp_path):
    pipe = make_pipeline("masked", sizes=(9, 2))
    pipe.save_pretrained(tmp_path / "prior")
    loaded = PriorPipeline.from_pretrained(tmp_path / "prior")
    assert loaded.scheduler == CLIP and replace(loaded.prior.config, tokenizer_hash="") == pipe.prior.config
    assert np.array_equal(loaded("a star").frames[0], pipe("a star").frames[0])
    with pytest.raises(VidgenError, match="holds a PriorPipeline"):
        load_pipeline(str(tmp_path / "prior"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"num_inference_steps": -1}, "num_inference_steps"),
        ({"video": np.zeros((9, 16, 16, 3), np.uint8)}, "does not begin a clip"),
        ({"output_type": "gif"}, "output_type"),
    ],
)
def test_what_cannot_be_is_one_line(settings, message):
    with pytest.raises(VidgenError, match=message):
        make_pipeline()("a star", **settings)


def test_a_prior_of_other_codebooks_is_refused():
    with pytest.raises(VidgenError, match="is not for the tokenizer"):
        make_pipeline(sizes=(17,))
    with pytest.raises(VidgenError, match="is not for the tokenizer"):
        make_pipeline(sizes=(9, 3))


@pytest.mark.parametrize("order", ["causal", "frames"])
def test_a_longer_clip_begins_as_the_usual_one_and_rolls_on(order):
    pipe = make_pipeline(order)
    usual = pipe("a star", seed=1, output_type="latent").latents
    longer = pipe("a star", seed=1, num_frames=21, output_type="latent").latents
    assert longer.shape[2] == pipe.vae.latent_frames(21) and torch.equal(longer[:, :, : usual.shape[2]], usual)
    windowed = make_pipeline(order, window=pipe.vae.latent_frames(5))
    for name, part in windowed.components.items():
        part.load_state_dict(pipe.components[name].state_dict())
    assert torch.equal(windowed("a star", seed=1, num_frames=21, output_type="latent").latents, longer)


@pytest.mark.parametrize(("order", "attention"), [("masked", "full"), ("random", "full"), ("causal", "strided")])
def test_a_prior_that_knows_no_window_makes_no_longer_clip(order, attention):
    with pytest.raises(VidgenError, match="longer than this prior's 2, .* ask for a shorter clip"):
        make_pipeline(order, attention=attention)("a star", num_frames=21)


@pytest.mark.parametrize(
    ("order", "decoder", "count"),
    [
        *(("causal", "", 16), ("random", "", 16), ("masked", "", 3), ("frames", "", 6)),
        *(("masked", "any_order", 16), ("frames", "first_hitting", 16)),
        *(("frames", "rows", 8), ("masked", "far_apart", 10)),
    ],
)
def test_steps_are_counted(order, decoder, count):
    pipe, seen = make_pipeline(order, sizes=(9, 2)), []
    pipe("a star", decoder=decoder, callback_on_step_end=lambda step, tokens: seen.append(step))
    assert seen == list(range(count)) and pipe.steps_of((5, 16, 16), decoder=decoder) == count


def test_speculative_jacobi_draws_a_clip_in_fewer_passes():
    pipe, seen = make_pipeline(), []
    clip = pipe("a star", decoder="speculative_jacobi", callback_on_step_end=lambda step, tokens: seen.append(step))
    assert clip.frames[0].shape == (5, 16, 16, 3) and seen[-1] == 7 and seen == sorted(seen)
    with pytest.raises(VidgenError, match="choose autoregressive, or a clip of 2 latent frames"):
        pipe("a star", decoder="speculative_jacobi", num_frames=21)
    with pytest.raises(VidgenError, match="'maskgit' is not for a prior of order causal; choose one of autoregressive"):
        pipe("a star", decoder="maskgit")


def test_a_prior_says_whose_indices_it_is_over(trained_prior, tiny_priors, tmp_path):
    pipe = PriorPipeline.from_pretrained(trained_prior)
    config = json.loads((trained_prior / "prior" / "config.json").read_text())
    assert config["tokenizer_hash"] == tokenizer_hash(pipe.vae)
    folder = tmp_path / "mixed"
    shutil.copytree(trained_prior, folder)
    shutil.rmtree(folder / "vae")
    tiny_priors["make_random"](seed=1).vae.save_pretrained(folder / "vae")  # of the same codebook
    with pytest.raises(VidgenError, match="a prior over tokens of the tokenizer .* is not for"):
        PriorPipeline.from_pretrained(folder)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        pipe.save_pretrained(tmp_path / str(dtype), dtype=dtype)
        PriorPipeline.from_pretrained(tmp_path / str(dtype))


def test_folders_of_earlier_versions_load_and_code_the_same(trained_prior, tmp_path):
    folder = tmp_path / "old"
    shutil.copytree(trained_prior, folder)
    file = folder / "prior" / "config.json"
    config = json.loads(file.read_text())
    del config["tokenizer_hash"]
    file.write_text(json.dumps(config))
    old, new = PriorPipeline.from_pretrained(folder), PriorPipeline.from_pretrained(trained_prior)
    assert old.prior.config.tokenizer_hash == "" and prior_hash(old) == prior_hash(new)
    assert model_hash(old.prior) != model_hash(new.prior)
    old.save_pretrained(tmp_path / "new")
    assert PriorPipeline.from_pretrained(tmp_path / "new").prior.config == new.prior.config
    assert old.prior.config.tokenizer_hash == ""
