"""Captions among a prior's tokens: bytes there and back, a law of words and clip, what goes wrong in one line."""

import math
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.interfaces import MASK
from vidgen.models.priors.cache import CachedPrior
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.likelihood import likelihood
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import WORD_IDS
from vidgen.pipelines.priors.decoding import list_decoders
from vidgen.pipelines.priors.encoder import PriorEncoder
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.schedule import PriorSchedule
from vidgen.pipelines.priors.words import (
    describe_clips,
    describe_tokens,
    join_words,
    read_words,
    word_tokens,
    words_grid,
)
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config.files import load_recipe
from vidgen.train.tasks.generators.prior import PriorTask

SCHEDULE = PriorSchedule(num_frames=5, height=16, width=16, num_inference_steps=3)
WORDS = 16
GRID = (5, 2, 2)  # of the words and a frame of one code a cell
SMALL = [
    "cached_clips=2", "data.validation_clips=2", "data.num_frames=5", "data.size=[16,16]", "autocast=float32",
    "digits=[]",
]  # fmt: skip


def make_prior(**settings) -> TokenPrior:
    torch.manual_seed(0)
    shape = {"codebook_sizes": (9, 2), "words": WORDS, "width": 32, "depth": 2, "head_dim": 16}
    prior = TokenPrior(TokenPriorConfig(**{**shape, **settings})).double().eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return prior


def make_pipeline(order: str) -> PriorPipeline:
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(replace(PRESETS["tiny"], latent_channels=3, bottleneck="fsq", levels=(3, 3, 2))).eval()
    return PriorPipeline(tokenizer, make_prior(order=order).float(), None, SCHEDULE)


def test_captions_are_their_own_inverse():
    captions = ["a red circle", "", "ein grüner ster"]
    tokens = word_tokens(captions, WORDS)
    assert tokens.shape == (3, WORDS) and tokens.max() == WORD_IDS - 1
    assert read_words(tokens) == captions
    assert read_words(torch.tensor([[104, 105, 255]])) == ["hi\ufffd"]  # no end, and a byte that is no text
    assert torch.equal(word_tokens(["A  red circle "], WORDS), tokens[:1])
    assert torch.equal(word_tokens(["a red circle and more"], 12, cut=True), tokens[:1, :12])
    with pytest.raises(VidgenError, match="a caption of 17 bytes, and this prior has places for 16"):
        word_tokens(["a large red circle"[:17]], WORDS)


@pytest.mark.parametrize("order", ["causal", "random"])
@torch.no_grad()
def test_words_and_clip_have_one_law_that_the_cache_keeps(order):
    prior = make_prior(order=order)
    clip = torch.stack([torch.randint(0, n, (2, 8), generator=torch.Generator().manual_seed(1)) for n in (9, 2)], -1)
    tokens, grid = join_words(prior.config, ["a red circle", "a star"], clip.flatten(1), (2, 2, 2))
    assert grid == (4, 2, 2) and tokens.shape == (2, WORDS + 16)
    logits = prior(tokens, grid)
    cached = CachedPrior(prior, (2, 2), 2)
    from_cache = torch.cat([cached.start()[:, None], cached.extend(tokens[:, :-1])], dim=1)
    assert torch.allclose(logits.exp(), from_cache.exp(), atol=1e-12)
    counts = torch.isfinite(logits[0]).sum(-1)  # a word is a byte or an end, and a code is of its own book
    assert (counts[:WORDS] == WORD_IDS).all() and counts[WORDS:].tolist() == [9, 2] * 8


@pytest.mark.parametrize("order", ["causal", "random", "masked"])
def test_clips_follow_words(order, tmp_path):
    pipe = make_pipeline(order)
    prompts = ["a red circle", "a blue star"]
    clips = pipe(prompts, output_type="latent", seed=1, num_videos_per_prompt=4).latents
    assert clips.shape == (8, 3, 2, 2, 2)
    other = pipe(["a red circle", "a star"], output_type="latent", seed=1, num_videos_per_prompt=4).latents
    assert torch.equal(clips[:4], other[:4]) and not torch.equal(clips[4:], other[4:])
    for decoder in list_decoders(pipe.prior.config):
        steps = []
        pipe("a blue star", decoder=decoder, callback_on_step_end=lambda step, _, steps=steps: steps.append(step))
        assert steps[-1] < pipe.steps_of((5, 16, 16), decoder=decoder)
        assert decoder == "speculative_jacobi" or steps[-1] + 1 == pipe.steps_of((5, 16, 16), decoder=decoder)
    pipe.save_pretrained(tmp_path / "pipe")
    again = PriorPipeline.from_pretrained(tmp_path / "pipe")
    assert torch.equal(again(prompts, output_type="latent", seed=1, num_videos_per_prompt=4).latents, clips)


@pytest.mark.parametrize("order", ["random", "masked"])
@torch.no_grad()
def test_features_of_clips_read_no_words(order):
    pipe = make_pipeline(order)
    video = torch.rand(2, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    features = dict(PriorEncoder(pipe).iter_features(video))["blocks.1"]
    assert features.shape == (2, 32, 2, 2, 2)
    before = features.clone()
    torch.nn.init.zeros_(pipe.prior.embed.weight[-WORD_IDS:])
    assert torch.equal(dict(PriorEncoder(pipe).iter_features(video))["blocks.1"], before)
    with pytest.raises(VidgenError, match="clips without captions, which this prior reads first"):
        PriorEncoder(make_pipeline("causal"))


@pytest.mark.parametrize("order", ["causal", "random", "masked"])
@torch.no_grad()
def test_the_likelihood_of_a_clip_is_that_after_its_words(order):
    prior = make_prior(order=order, codebook_sizes=(2,))
    words = word_tokens(["a red circle"], WORDS)
    clip = torch.tensor([[0, 1, 1, 0]])
    if order == "masked":
        result = likelihood(prior, torch.cat([words, clip], dim=1), GRID, draws=4000, given=WORDS)
        assert result.nats.item() == pytest.approx(
            mean_over_orders(prior, words, clip), abs=4 * float(result.standard_error)
        )
        return
    total = 0.0
    for bits in product((0, 1), repeat=4):  # of the same orders for each clip
        tokens = torch.cat([words, torch.tensor([bits])], dim=1)
        total += math.exp(-likelihood(prior, tokens, GRID, draws=1, given=WORDS).nats.item())
    assert total == pytest.approx(1.0, abs=1e-9)


def mean_over_orders(prior: TokenPrior, words: torch.Tensor, clip: torch.Tensor) -> float:
    """Return the mean over all orders of -log p of the clip, one token after the other, each given the words."""
    totals = []
    for order in permutations(range(4)):
        hidden, total = torch.full_like(clip, MASK), 0.0
        for place in order:
            logits = prior(torch.cat([words, hidden], dim=1), GRID)[0, WORDS + place]
            total -= logits.log_softmax(-1)[clip[0, place]].item()
            hidden[0, place] = clip[0, place]
        totals.append(total)
    return sum(totals) / len(totals)


@pytest.mark.slow
def test_a_prior_says_the_captions_of_the_clips_it_has_learned(tmp_path):
    torch.manual_seed(0)
    config = replace(PRESETS["tiny"], latent_channels=3, bottleneck="fsq", levels=(3, 3, 2))
    VideoTokenizer(config).save_pretrained(tmp_path / "tok")
    places = [f"tokenizer={tmp_path / 'tok'}", f"cache={tmp_path / 'cache'}", f"out={tmp_path / 'run'}"]
    shape = "model={order: masked, width: 32, depth: 2, head_dim: 16, words: 80}"
    recipe = load_recipe("prior_words", [*SMALL, *places, shape])
    task = PriorTask(recipe)
    first, *others = (task.dataset[(0, slot)] for slot in range(20))
    clips = [first, next(clip for clip in others if not torch.equal(clip.latents, first.latents))]
    batch, generator = task.gather(clips * 4), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(task.model.parameters(), lr=5e-3)
    for _ in range(400):
        optimizer.zero_grad()
        task.loss(batch, generator)[0].backward()
        optimizer.step()
    tokens, grid = task.tokens_of(torch.stack([clip.latents for clip in clips]))
    assert describe_tokens(task.prior.eval(), tokens, grid, generator) == [clip.caption for clip in clips]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"text_width": 16}, "words=16 do not go with text_width"),
        ({"order": "frames"}, "words=16 do not go with order frames"),
        ({"words": 15}, "words=15 fill no whole cells, of 2 tokens each"),
    ],
)
def test_shapes_that_cannot_be(settings, line):
    with pytest.raises(VidgenError, match=line):
        make_prior(**settings)


def test_what_cannot_be_said_is_one_line():
    clips = np.zeros((1, 5, 16, 16, 3), np.uint8)
    with pytest.raises(
        VidgenError, match="a prior of order causal, 16 places for words, 0 classes has no words for a clip"
    ):
        describe_clips(make_pipeline("causal"), clips)
    with pytest.raises(VidgenError, match="a prior with words makes clips of 16x16, as in training, alone"):
        make_pipeline("masked")("a star", height=32, width=32)
    for name, value in (("guidance_scale", 2.0), ("negative_prompt", "a square"), ("repetition_penalty", 1.2)):
        with pytest.raises(VidgenError, match=f"{name} says nothing to a prior with words among its tokens"):
            make_pipeline("masked")("a star", **{name: value})
    with pytest.raises(VidgenError, match="words=16 fill no whole frames of 4x4 cells with 2 tokens each"):
        words_grid(make_prior().config, (2, 4, 4))
    for key in ("text_model={width: 16}", "drop_text=0.1"):
        with pytest.raises(VidgenError, match="with model.words"):
            load_recipe("prior_words", [key])
    with pytest.raises(VidgenError, match="and words among its tokens it knows no window"):
        make_pipeline("causal")("a star", num_frames=9)
