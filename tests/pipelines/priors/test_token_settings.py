"""Settings of the decoders through a pipeline's call: the tokens of the sampler itself, misfits in one line."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.models.priors.cache import CachedPrior
from vidgen.models.priors.config import ORDERS, TokenPriorConfig
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.priors.token_values import blank_tokens
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.pipelines.priors.schedule import PriorSchedule
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.samplers.autoregressive.decode import sample_autoregressive
from vidgen.samplers.autoregressive.guidance import GuidedSequenceModel, guide_masked
from vidgen.samplers.masked.maskgit import MaskGITConfig, sample_maskgit
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS

CLIP = PriorSchedule(num_frames=5, height=16, width=16, num_inference_steps=3, top_k=12)
PROMPT = "a red circle moves right"
SEED = 3


def make_pipeline(order: str = "causal", text: bool = False, sizes=(18,), **shape) -> PriorPipeline:
    """Return a pipeline with random weights, whose logits are spread enough for settings to matter."""
    torch.manual_seed(0)
    tokenizer = VideoTokenizer(replace(PRESETS["tiny"], latent_channels=3, bottleneck="fsq", levels=(3, 3, 2)))
    encoder = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16)).eval() if text else None
    values = {"channels": 3, "head_width": 16, "head_depth": 1} if not sizes else {"codebook_sizes": sizes}
    small = {"width": 32, "depth": 2, "head_dim": 16, "text_width": 16 if text else 0}
    prior = TokenPrior(TokenPriorConfig(order=order, **values, **small, **shape)).eval()
    for parameter in prior.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return PriorPipeline(tokenizer.eval(), prior, encoder, CLIP)


def call(pipe: PriorPipeline, prompt: str = "", **settings) -> Tensor:
    """Return the last tokens that a call tells of: those of the clip."""
    seen = []
    pipe(prompt, seed=SEED, output_type="latent", callback_on_step_end=lambda _, x: seen.append(x.clone()), **settings)
    return seen[-1]


def grid_of(pipe: PriorPipeline) -> tuple[int, int, int]:
    return pipe.grid_of((CLIP.num_frames, CLIP.height, CLIP.width))


def draw_causal(pipe: PriorPipeline, sampling: TokenSampling, **conditions) -> Tensor:
    """Return the tokens of the sampler itself."""
    t, h, w = grid_of(pipe)
    with torch.inference_mode():
        model = CachedPrior(pipe.prior, (h, w), 1, **conditions)
        return sample_autoregressive(model, t * h * w, sampling, [sample_generator(SEED, 0)])


def draw_masked(pipe: PriorPipeline, config: MaskGITConfig) -> Tensor:
    """Return the tokens of the sampler itself."""
    grid, codes = grid_of(pipe), pipe.prior.config.codes
    tokens = blank_tokens(torch.zeros(1, 0, dtype=torch.int64), grid[0] * grid[1] * grid[2] * codes)
    wide = (grid[0], grid[1], grid[2] * codes)
    with torch.inference_mode():
        logits = partial(pipe.prior, grid=grid)
        sampling = TokenSampling(top_k=CLIP.top_k)
        return sample_maskgit(logits, tokens, sampling, [sample_generator(SEED, 0)], config=config, grid=wide)


@pytest.mark.parametrize(
    "settings", [{"min_p": 0.5}, {"repetition_penalty": 3.0}, {"top_k": 2}, {"top_p": 0.4, "min_p": 0.1}]
)
def test_filters_draw_what_the_sampler_draws(settings):
    pipe = make_pipeline()
    tokens = call(pipe, **settings)
    assert torch.equal(tokens, draw_causal(pipe, TokenSampling(**({"top_k": CLIP.top_k} | settings))))
    assert not torch.equal(tokens, call(pipe))
    assert torch.equal(call(pipe), draw_causal(pipe, TokenSampling(top_k=CLIP.top_k)))  # not said: the checkpoint's


def test_only_the_most_probable_is_left_of_the_largest_min_p():
    pipe = make_pipeline()
    assert torch.equal(call(pipe, min_p=1.0), call(pipe, temperature=0.0))
    own = PriorPipeline(pipe.vae, pipe.prior, None, replace(CLIP, min_p=1.0))
    assert torch.equal(call(own), call(pipe, min_p=1.0)) and torch.equal(call(own, min_p=0.0), call(pipe))


@pytest.mark.parametrize("sizes", [(18,), (9, 2)])
@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "linear"},
        {"schedule": "arccos", "choice_temperature": 0.0},
        {"order": "random"},
        {"order": "halton"},
        {"revised_share": 0.5},
    ],
)
def test_masks_draw_what_the_sampler_draws(settings, sizes):
    pipe = make_pipeline("masked", sizes=sizes)
    tokens = call(pipe, masking=MaskGITConfig(**settings))
    assert torch.equal(tokens, draw_masked(pipe, MaskGITConfig(num_steps=CLIP.num_inference_steps, **settings)))
    assert not torch.equal(tokens, call(pipe))
    assert torch.equal(call(pipe, masking=MaskGITConfig()), call(pipe))
    steps = call(pipe, masking=MaskGITConfig(**settings), num_inference_steps=5)
    assert torch.equal(steps, draw_masked(pipe, MaskGITConfig(num_steps=5, **settings)))


@pytest.mark.parametrize("order", ["masked", "frames"])
def test_continuous_tokens_take_an_order_that_needs_no_confidence(order):
    pipe = make_pipeline(order, sizes=())
    usual, halton = (call(pipe, masking=MaskGITConfig(order=name)) for name in ("random", "halton"))
    assert torch.equal(usual, call(pipe)) and not torch.equal(usual, halton)
    with pytest.raises(VidgenError, match="continuous tokens have no confidence"):
        call(pipe, masking=MaskGITConfig())


def test_guidance_of_a_causal_prior_acts_in_its_interval():
    pipe = make_pipeline(text=True)
    t, h, w = grid_of(pipe)
    interval = (0.25, 0.5)
    with torch.inference_mode():
        texts = pipe.text_encoder([PROMPT]), pipe.text_encoder([""])
        models = [CachedPrior(pipe.prior, (h, w), 1, text) for text in texts]
        guided = GuidedSequenceModel(*models, 4.0, t * h * w, interval)
        sampling = TokenSampling(top_k=CLIP.top_k)
        want = sample_autoregressive(guided, t * h * w, sampling, [sample_generator(SEED, 0)])
    settings = {"guidance_scale": 4.0}
    assert torch.equal(call(pipe, PROMPT, **settings, guidance_interval=interval), want)
    assert not torch.equal(call(pipe, PROMPT, **settings), want)
    assert torch.equal(call(pipe, PROMPT, **settings, guidance_interval=(0.0, 1.0)), call(pipe, PROMPT, **settings))


def test_guidance_of_masked_tokens_acts_in_its_interval():
    pipe = make_pipeline("masked", text=True)
    grid, interval = grid_of(pipe), (0.2, 1.0)
    with torch.inference_mode():
        models = [partial(pipe.prior, grid=grid, text=pipe.text_encoder([text])) for text in (PROMPT, "")]
        tokens = blank_tokens(torch.zeros(1, 0, dtype=torch.int64), grid[0] * grid[1] * grid[2])
        config = MaskGITConfig(num_steps=CLIP.num_inference_steps)
        draws = (TokenSampling(top_k=CLIP.top_k), [sample_generator(SEED, 0)])
        want = sample_maskgit(guide_masked(*models, 4.0, interval), tokens, *draws, config=config)
    settings = {"guidance_scale": 4.0}
    assert torch.equal(call(pipe, PROMPT, **settings, guidance_interval=interval), want)
    assert not torch.equal(call(pipe, PROMPT, **settings), want)


@pytest.mark.parametrize("order", ORDERS)
def test_guidance_that_acts_nowhere_is_none(order):
    pipe = make_pipeline(order, text=True)
    nowhere = call(pipe, PROMPT, guidance_scale=4.0, guidance_interval=(1.0, 1.0))
    assert torch.equal(nowhere, call(pipe, PROMPT, guidance_scale=1.0))


@pytest.mark.parametrize("order", ORDERS)
def test_a_class_is_told(order):
    pipe = make_pipeline(order, classes=3)
    classes = [0, 2]
    both = pipe(["", ""], class_id=classes, seed=SEED, num_videos_per_prompt=2).latents
    for row, number in enumerate(classes):
        alone = pipe(class_id=number, seed=SEED, num_videos_per_prompt=2).latents
        assert torch.equal(both[2 * row : 2 * row + 2], alone)
    assert not torch.equal(both[:2], both[2:])
    with torch.no_grad():
        pipe.prior.class_in.weight[3] = pipe.prior.class_in.weight[0]  # of none
    assert torch.equal(pipe(class_id=3, seed=SEED).latents, both[:1])


def test_a_class_is_the_samplers_own():
    pipe = make_pipeline(classes=3)
    own = draw_causal(pipe, TokenSampling(top_k=CLIP.top_k), class_id=torch.tensor([1]))
    assert torch.equal(call(pipe, class_id=1), own)


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ({}, {"top_k": 0}, "^top_k=0 is not a whole number from 1 to"),
        ({}, {"min_p": 1.5}, "^min_p=1.5 is not a number from 0 to 1"),
        ({}, {"repetition_penalty": 0.0}, "^repetition_penalty=0.0 is not a number above 0"),
        ({}, {"guidance_interval": (0.5, 0.2)}, "^guidance_interval is .*two shares of tokens done"),
        ({}, {"masking": MaskGITConfig()}, "^masking is for the decoder maskgit, .* draws by autoregressive; leave it"),
        ({"order": "masked"}, {"masking": MaskGITConfig(), "decoder": "rows"}, "draws by rows; leave it out"),
        ({"order": "masked"}, {"masking": MaskGITConfig(num_steps=4)}, "num_steps=4, .* num_inference_steps; say them"),
        ({"sizes": ()}, {"min_p": 0.1}, "^min_p is for codes, and this prior's tokens are continuous"),
        ({"sizes": ()}, {"top_k": 0, "repetition_penalty": 2.0}, "^top_k and repetition_penalty are for codes"),
        ({"sizes": ()}, {"guidance_interval": (0.0, 1.0)}, "^guidance_interval is for codes"),
        ({}, {"class_id": 0}, "^this prior is told no class; leave class_id out"),
        ({"classes": 3}, {}, "^this prior is told a class: in Python give class_id=, 0 to 2, or 3 for none"),
        ({"classes": 3}, {"class_id": 4}, "^class_id=4 is not 1 of 0 to 3; give one, or one a prompt"),
        ({"classes": 3}, {"class_id": [0, 1]}, r"^class_id=\[0, 1\] is not 1 of 0 to 3"),
        ({"classes": 3}, {"class_id": [-1]}, r"^class_id=\[-1\] is not 1 of 0 to 3"),
    ],
)
def test_what_cannot_be_is_one_line(shape, settings, message):
    with pytest.raises(VidgenError, match=message):
        make_pipeline(**shape)(**settings)
