"""Captions among a prior's tokens: bytes there and back, a law of words and clip, what goes wrong in one line."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.priors.cache import CachedPrior
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import WORD_IDS
from vidgen.pipelines.priors.encoder import PriorEncoder
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.schedule import PriorSchedule
from vidgen.pipelines.priors.words import describe_clips, describe_tokens, join_words, read_words, word_tokens
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config.files import load_recipe
from vidgen.train.tasks.generators.prior import PriorTask

SCHEDULE = PriorSchedule(num_frames=5, height=16, width=16, num_inference_steps=3)
WORDS = 16
SMALL = [
    "cached_clips=2", "data.validation_clips=2", "data.num_frames=5", "data.size=[16,16]", "autocast=float32",
    "drop_text=0", "digits=[]",
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
    captions = ["a red circle", "", "ein grüner Stern"[:15]]
    tokens = word_tokens(captions, WORDS)
    assert tokens.shape == (3, WORDS) and tokens.max() == WORD_IDS - 1
    assert read_words(tokens) == captions
    assert read_words(torch.tensor([[104, 105, 255]])) == ["hi\ufffd"]  # no end, and a byte that is no text
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
    steps = []
    pipe("a blue star", callback_on_step_end=lambda step, tokens: steps.append(step))
    assert steps[-1] + 1 == pipe.steps_of((5, 16, 16))
    pipe.save_pretrained(tmp_path / "pipe")
    again = PriorPipeline.from_pretrained(tmp_path / "pipe")
    assert torch.equal(again(prompts, output_type="latent", seed=1, num_videos_per_prompt=4).latents, clips)
    features = dict(PriorEncoder(pipe).iter_features(torch.zeros(1, 3, 5, 16, 16)))
    assert features["blocks.1"].shape == (1, 32, 2, 2, 2)


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
    assert describe_tokens(task.prior.eval(), tokens, grid) == [clip.caption for clip in clips]


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
    with pytest.raises(VidgenError, match="a prior of order causal with 16 places for words has none for a clip"):
        describe_clips(make_pipeline("causal"), clips)
    with pytest.raises(VidgenError, match="16 tokens of words fill no whole frames of 4x4 cells"):
        make_pipeline("masked")("a star", height=32, width=32)
    with pytest.raises(VidgenError, match="and words among its tokens it knows no window"):
        make_pipeline("causal")("a star", num_frames=9)
