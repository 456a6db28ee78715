"""Priors over token grids: nothing is seen too early, caches change nothing, codes of a cell keep to their books."""

import pytest
import torch

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.interfaces import MASK
from vidgen.models.priors.cache import CachedPrior
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.frame_cache import CachedFrames
from vidgen.models.priors.likelihood import likelihood
from vidgen.models.priors.token_grid import flatten_indices, split_digits, unflatten_tokens, visible
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.samplers.autoregressive.decode import sample_autoregressive
from vidgen.samplers.autoregressive.speculative_jacobi import sample_speculative_jacobi
from vidgen.samplers.autoregressive.uncached import UncachedModel
from vidgen.samplers.evaluation.token_decoding import chi_square_p_value

GRID = (5, 2, 3)
CELLS = 30


def make_prior(**settings) -> TokenPrior:
    torch.manual_seed(0)
    shape = {"codebook_sizes": (7,), "width": 32, "depth": 2, "head_dim": 16}
    return TokenPrior(TokenPriorConfig(**{**shape, **settings})).double().eval()


def draw_tokens(prior: TokenPrior, b: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    codes = [torch.randint(0, size, (b, CELLS), generator=generator) for size in prior.config.codebook_sizes]
    return torch.stack(codes, dim=-1).flatten(1)


def moved(prior: TokenPrior, token: int, **settings) -> torch.Tensor:
    """Which logits change with a token."""
    tokens = draw_tokens(prior)
    changed = tokens.clone()
    changed[:, token] = (changed[:, token] + 1) % 3
    with torch.no_grad():
        one, other = (prior(x, GRID, **settings).nan_to_num(neginf=0.0) for x in (tokens, changed))
    return (one != other).any(-1).any(0)


@pytest.mark.parametrize("attention", ["full", "axial", "strided"])
def test_a_token_depends_on_those_before_it_alone(attention):
    prior = make_prior(attention=attention, stride=3)
    changes = moved(prior, 10)
    assert not changes[:11].any() and changes[11]
    assert attention != "full" or changes[11:].all()


def test_in_another_order_a_token_depends_on_those_that_come_before_it_there():
    prior = make_prior(order="random")
    order = torch.randperm(CELLS, generator=torch.Generator().manual_seed(3)).expand(2, -1)
    place = order[0, 7].item()
    changes = moved(prior, place, order=order)
    assert changes[order[0, 8:]].all() and not changes[order[0, :8]].any()


def test_a_window_ends_the_past_block_by_block():
    changes = moved(make_prior(window=2), 10)  # of frame 1, whose keys frames 1 and 2 see; two blocks reach frame 3
    assert changes[11:24].all() and not changes[24:].any()


def test_masked_tokens_see_all_others():
    prior = make_prior(order="masked")
    assert moved(prior, 10).all()
    tokens = draw_tokens(prior)
    hidden = tokens.clone()
    hidden[:, 4] = MASK
    other = hidden.clone()
    with torch.no_grad():
        assert torch.equal(prior(hidden, GRID), prior(other, GRID)) and not torch.equal(
            prior(hidden, GRID), prior(tokens, GRID)
        )


@pytest.mark.parametrize(
    "shape", [{}, {"window": 2}, {"window": 3, "sinks": 1}, {"codebook_sizes": (5, 3)}, {"order": "random"}]
)
@pytest.mark.parametrize("steps", [(1,) * 200, (4, 1, 1, 9, 50, 50)])
def test_cached_tokens_are_those_of_the_whole_pass(shape, steps):
    prior = make_prior(**shape)
    tokens = draw_tokens(prior)
    cached = CachedPrior(prior, GRID[1:], 2)
    with torch.no_grad():
        parts, done = [cached.start()[:, None]], 0
        for step in steps:
            if (part := tokens[:, done : min(done + step, tokens.shape[1] - 1)]).shape[1]:
                parts.append(cached.extend(part))
            done += step
        whole = prior(tokens, GRID)
    logits = torch.cat(parts, dim=1)
    assert torch.equal(logits.isinf(), whole.isinf())
    assert torch.allclose(logits.nan_to_num(neginf=0.0), whole.nan_to_num(neginf=0.0), atol=1e-12)
    assert shape.get("window") is None or cached.layers[0].count <= shape["window"] * 6


def test_cached_tokens_with_text_class_and_actions_batch_and_precision():
    text = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16)).eval()
    prior = make_prior(text_width=16, classes=3, actions=2).float()
    tokens, actions = draw_tokens(prior), torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0))
    conditions = {"class_id": torch.tensor([1, 3]), "actions": actions}
    with torch.no_grad():
        words = text(["a red circle", "a small blue star moves left"])
        whole = prior(tokens, GRID, words, **conditions)
        cached = CachedPrior(prior, GRID[1:], 2, words, **conditions)
        logits = torch.cat([cached.start()[:, None], cached.extend(tokens[:, :-1])], dim=1)
        assert (logits - whole).abs().max() < 1e-5
        alone = CachedPrior(prior, GRID[1:], 1, text(["a red circle"]), class_id=torch.tensor([1]), actions=actions[:1])
        one = torch.cat([alone.start()[:, None], alone.extend(tokens[:1, :-1])], dim=1)
        assert (one - whole[:1]).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [{}, {"window": 3, "sinks": 1}])
def test_tokens_that_are_drawn_from_the_cache_are_those_of_whole_passes(shape):
    text = ByteTextEncoder(ByteTextConfig(width=16, depth=1, head_dim=16)).double().eval()
    prior = make_prior(text_width=16, **shape)

    def whole(tokens: torch.Tensor) -> torch.Tensor:
        return prior(torch.cat([tokens, tokens.new_zeros(2, CELLS - tokens.shape[1])], dim=1), GRID, words)

    def logits(tokens: torch.Tensor) -> torch.Tensor:
        return whole(tokens)[:, : tokens.shape[1] + 1]

    with torch.no_grad():
        words = text(["a red circle", "a small blue star moves left"])
        drawn = [
            sample_autoregressive(model, CELLS, TokenSampling(), [sample_generator(0, k) for k in range(2)])
            for model in (CachedPrior(prior, GRID[1:], 2, words), UncachedModel(logits, 2))
        ]
    assert torch.equal(*drawn) and len(drawn[0].unique()) > 3


def test_speculation_keeps_the_law_where_codebooks_are_unequal():
    """Drafts are drawn by the law of a place before, whose codebook may be larger: those that are none are not kept."""
    prior = make_prior(codebook_sizes=(4, 2), width=16, head_dim=8, depth=1)
    torch.nn.init.normal_(prior.head.weight, std=0.5)
    states = torch.cartesian_prod(*(torch.arange(size) for size in (4, 2, 4, 2)))
    grid, draws = (1, 1, 2), 6000
    law = (-likelihood(prior, states, grid).nats).exp()
    assert law.sum().item() == pytest.approx(1.0)
    model, generator = CachedPrior(prior, grid[1:], draws), torch.Generator().manual_seed(3)
    drawn = sample_speculative_jacobi(model, 4, TokenSampling(), generator, window=2).tokens
    numbers = ((drawn[:, 0] * 2 + drawn[:, 1]) * 4 + drawn[:, 2]) * 2 + drawn[:, 3]
    assert chi_square_p_value(numbers.bincount(minlength=64), law) > 1e-3
    even = torch.full_like(law, 1 / 64)
    assert chi_square_p_value(numbers.bincount(minlength=64), even) < 1e-6  # and the test does see a difference


@pytest.mark.parametrize(
    ("token", "place", "line"),
    [(5, 0, "token 5 at place 0 is none of its codebook, whose ids are 0 to 4"), (3, 1, "0 to 2"), (-2, 4, "token -2")],
)
def test_ids_that_a_codebook_lacks_are_one_line(token, place, line):
    prior = make_prior(codebook_sizes=(5, 3))
    tokens = draw_tokens(prior)
    tokens[1, place] = token
    with pytest.raises(VidgenError, match=line):
        prior(tokens, GRID)
    with pytest.raises(VidgenError, match="token -1 at place 0"):
        likelihood(prior, torch.full_like(tokens, MASK), GRID)
    with pytest.raises(VidgenError, match="are not all below 15"):
        split_digits(torch.tensor([[[[15]]]]), (5, 3))


def test_what_is_rewound_is_as_if_it_had_not_been():
    prior = make_prior(window=3)
    tokens, other = draw_tokens(prior), draw_tokens(prior, seed=1)
    cached = CachedPrior(prior, GRID[1:], 2)
    with torch.no_grad():
        cached.extend(tokens[:, :10])
        cached.extend(other[:, 10:14])
        cached.rewind(10)
        assert cached.length == 10
        logits = cached.extend(tokens[:, 10:20])
        assert torch.allclose(logits, prior(tokens, GRID)[:, 11:21], atol=1e-12)
        cached.extend(tokens[:, 20:])
    with pytest.raises(ValueError, match="not possible to go back to 2"):
        cached.rewind(2)
    with pytest.raises(ValueError, match="not possible to go back to 40"):
        cached.rewind(40)


def test_frames_from_a_cache_are_those_of_the_whole_pass():
    prior = make_prior(order="frames")
    tokens = draw_tokens(prior)
    hidden = tokens.masked_fill(torch.arange(CELLS) % 3 == 0, MASK)
    with torch.no_grad():
        whole = prior(hidden, GRID, clean=tokens)
        cached = CachedFrames(prior, GRID[1:])
        for frame in range(GRID[0]):
            part = slice(6 * frame, 6 * frame + 6)
            assert torch.allclose(cached(hidden[:, part]), whole[:, part], atol=1e-12)
            cached.extend(tokens[:, part])


def test_codes_keep_to_their_books():
    prior = make_prior(codebook_sizes=(5, 3))
    logits = prior(draw_tokens(prior), GRID)
    assert logits.shape == (2, 60, 5)
    assert logits[:, 0::2].isfinite().all() and logits[:, 1::2, :3].isfinite().all()
    assert (logits[:, 1::2, 3:] == float("-inf")).all()


def test_tokens_and_indices_are_each_others_inverse():
    indices = torch.arange(2 * 60).reshape(2, *GRID, 2)
    assert torch.equal(unflatten_tokens(flatten_indices(indices), GRID, 2), indices)
    assert torch.equal(unflatten_tokens(flatten_indices(indices[..., 0]), GRID), indices[..., 0])
    with pytest.raises(VidgenError, match="29 tokens are not 1 for each cell of 5x2x3"):
        unflatten_tokens(torch.zeros(1, 29, dtype=torch.int64), GRID)


def test_sparse_patterns_are_what_their_papers_say():
    axial = visible(GRID, 1, "axial", False, 1, False)
    assert axial.sum(1).unique().tolist() == [5 + 2 + 3 - 2]
    local, strided = (visible(GRID, 1, "strided", True, 4, odd) for odd in (False, True))
    assert local[20].nonzero().flatten().tolist() == [17, 18, 19, 20]
    assert strided[20].nonzero().flatten().tolist() == [0, 4, 8, 12, 16, 20]
    assert visible(GRID, 1, "full", False, 1, False) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sinks": 2, "window": 2}, "no room for 2 sinks"),
        ({"attention": "axial", "order": "random"}, "attention axial is for order causal or masked"),
        ({"window": 2, "order": "masked"}, "a window of frames is for order causal or frames"),
        ({"codebook_sizes": (1,)}, "codebook_sizes"),
        ({"width": 40}, "must be a multiple of head_dim"),
    ],
)
def test_shapes_that_cannot_be(settings, message):
    with pytest.raises((VidgenError, ValueError), match=message):
        make_prior(**settings)


def test_conditions_are_there_where_the_model_has_them():
    with pytest.raises(ValueError, match="needs class_id"):
        make_prior(classes=2)(torch.zeros(1, CELLS, dtype=torch.int64), GRID)
    with pytest.raises(ValueError, match="takes no class_id"):
        make_prior()(torch.zeros(1, CELLS, dtype=torch.int64), GRID, class_id=torch.tensor([0]))


def test_a_prior_is_saved_and_loaded(tmp_path):
    prior = make_prior(codebook_sizes=(5, 3), order="random")
    prior.save_pretrained(tmp_path)
    loaded = TokenPrior.from_pretrained(tmp_path, dtype=torch.float64)
    tokens = draw_tokens(prior)
    assert loaded.config == prior.config and torch.equal(loaded(tokens, GRID), prior(tokens, GRID))
