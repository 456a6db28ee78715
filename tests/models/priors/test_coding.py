"""Tokens coded by a prior: digits have the token's law, streams come back whole, and take -log2 p."""

import math
import sys

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.priors.coding import BRANCHES, PriorLaw, TokenDecoder, TokenEncoder, check_coding, code_token
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.likelihood import likelihood
from vidgen.models.priors.token_prior import TokenPrior

SIZE = (2, 3)


def make_prior(sizes=(18,), sharpness: float = 1.0, seed: int = 0, **shape) -> TokenPrior:
    torch.manual_seed(seed)
    prior = TokenPrior(TokenPriorConfig(codebook_sizes=sizes, **{"width": 16, "depth": 2, "head_dim": 8, **shape}))
    if sizes:
        prior.head.weight.data.mul_(sharpness)
    return prior.eval()


def draw_tokens(frames: int, sizes=(18,), size=SIZE) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    codes = [torch.randint(n, (frames * math.prod(size),), generator=rng) for n in sizes]
    return torch.stack(codes, dim=1).flatten()


@pytest.mark.parametrize("count", [2, 18, BRANCHES, BRANCHES + 1, 300, 70000])
def test_the_digits_of_a_token_have_its_law(count):
    logits = 3 * torch.randn(count, generator=torch.Generator().manual_seed(0))
    for token in {0, 1, count // 2, count - 1}:
        seen, digits = [], []

        def code(probabilities: np.ndarray, digit: int | None) -> int:
            assert 1 < len(probabilities) <= BRANCHES and probabilities.sum() == pytest.approx(1.0, abs=1e-12)
            seen.append(probabilities[digit])  # noqa: B023
            digits.append(digit)  # noqa: B023
            return digit

        assert code_token(code, logits, token) == token
        assert np.prod(seen) == pytest.approx(logits.double().softmax(0)[token].item(), rel=1e-10)
        told = iter(digits)
        assert code_token(lambda p, digit: next(told), logits) == token  # noqa: B023


@pytest.mark.parametrize(
    ("sizes", "shape", "piece"),
    [
        ((18,), {}, 0),
        ((18,), {}, 2),
        ((9, 2), {}, 2),
        ((300, 257), {}, 0),
        ((18,), {"window": 2, "sinks": 1}, 0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_was_coded_comes_back_in_any_parts(sizes, shape, piece, dtype):
    pytest.importorskip("constriction", reason="the range coder of the extra `coding`")
    prior = make_prior(sizes, 4.0, **shape).to(dtype)
    tokens = draw_tokens(5, sizes)
    streams = []
    for parts in ([len(tokens)], [7, 20, len(tokens) - 27]):
        encoder = TokenEncoder(PriorLaw(prior, SIZE, piece=piece))
        for part in tokens.split(parts):
            encoder.add(part)
        streams.append(encoder.finish())
    assert streams[0] == streams[1]
    decoder = TokenDecoder(PriorLaw(prior, SIZE, piece=piece), streams[0])
    parts = [decoder.read(count) for count in (1, 11, len(tokens) - 12)]
    assert torch.equal(torch.cat(parts), tokens)
    grid = (5, *SIZE)
    if not piece:
        bits = likelihood(prior, tokens[None], grid).nats.item() / math.log(2)
        assert 0 <= 8 * len(streams[0]) - bits <= 32 + 1e-3 * bits
    other = TokenDecoder(PriorLaw(make_prior(sizes, 4.0, seed=1, **shape).to(dtype), SIZE, piece=piece), streams[0])
    assert not torch.equal(other.read(len(tokens)), tokens)


@pytest.mark.slow
def test_a_long_stream_takes_the_bits_of_its_law_within_a_thousandth():
    """Of a rolling window, whose clip may have any length; the law is far from even."""
    pytest.importorskip("constriction", reason="the range coder of the extra `coding`")
    prior = make_prior((4096,), 2.0, window=2)
    tokens = draw_tokens(430, (4096,))
    bits = likelihood(prior, tokens[None], (430, *SIZE)).nats.item() / math.log(2)
    assert bits > 32 * 1000 and abs(bits / len(tokens) - 12) > 0.1  # not what an even law takes
    encoder = TokenEncoder(PriorLaw(prior, SIZE))
    encoder.add(tokens)
    stream = encoder.finish()
    assert 8 * len(stream) == pytest.approx(bits, rel=1e-3)
    assert torch.equal(TokenDecoder(PriorLaw(prior, SIZE), stream).read(200), tokens[:200])


def test_pieces_are_clips_of_their_own():
    pytest.importorskip("constriction", reason="the range coder of the extra `coding`")
    prior = make_prior(sharpness=4.0)
    tokens = draw_tokens(6)
    encoder = TokenEncoder(PriorLaw(prior, SIZE, piece=2))
    encoder.add(tokens)
    halves = likelihood(prior, tokens.reshape(3, -1), (2, *SIZE)).nats.sum().item() / math.log(2)
    whole = likelihood(prior, tokens[None], (6, *SIZE)).nats.item() / math.log(2)
    assert 0 <= 8 * len(encoder.finish()) - halves <= 32.1
    assert abs(whole - halves) > 1.0


def test_the_threads_of_the_process_are_left_as_they_were():
    pytest.importorskip("constriction", reason="the range coder of the extra `coding`")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        TokenEncoder(PriorLaw(make_prior(), SIZE)).add(draw_tokens(1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"order": "masked"}, "a prior of order masked with full attention codes no tokens one after the other"),
        ({"order": "frames"}, "a prior of order frames"),
        ({"order": "random"}, "a prior of order random"),
        ({"attention": "axial"}, "of order causal with axial attention"),
        ({"classes": 3}, "told classes or actions"),
        ({"sizes": (), "channels": 3}, "a prior over latents has no law of indices"),
    ],
)
def test_priors_that_code_nothing_are_one_line(shape, message):
    with pytest.raises(VidgenError, match=message) as error:
        check_coding(make_prior(**shape), "mine")
    assert str(error.value).startswith("mine: ") and "\n" not in str(error.value)


def test_what_else_codes_nothing():
    with pytest.raises(VidgenError, match="in float32 or float64, not in torch.bfloat16"):
        check_coding(make_prior().to(torch.bfloat16), "mine")
    pytest.importorskip("constriction", reason="the range coder of the extra `coding`")
    prior = make_prior()
    prior.head.bias.data[3] = float("nan")
    with pytest.raises(VidgenError, match="logits are not finite"):
        TokenEncoder(PriorLaw(prior, SIZE)).add(draw_tokens(1))


def test_without_the_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(VidgenError, match=r"constriction, which is not installed; .*vidgen\[coding\]"):
        check_coding(make_prior(), "mine")
