"""The step cache: threshold 0 skips nothing, what does not change is exact, and clips decide one by one."""

import pytest
import torch
from torch import nn

from vidgen.errors import VidgenError
from vidgen.models.text.encoders import TextEncoding
from vidgen.samplers.step_cache import (
    KINDS,
    CachedNetwork,
    Caching,
    StepCacheConfig,
    cached_pass,
    relative_change,
    take_rows,
)

FAST = dict(num_frames=9, height=32, width=16, num_inference_steps=6, guidance_scale=3.0, output_type="latent")
PROMPTS = ["a star", "a red circle moves right"]


class Toy(nn.Module):
    """Blocks after the first add what does not depend on x: caching them is exact, whatever the bound."""

    def iter_features(self, x, t, text=None):
        h = x.movedim(1, -1)
        known = yield "patches", h
        for i in range(3):
            if known is not None:
                break
            h = h + (h.sin() if i == 0 else float(i))
            known = yield f"blocks.{i}", h
        h = h if known is None else known
        yield "out", h.movedim(-1, 1)

    def forward(self, x, t, text=None):
        *_, (_, out) = self.iter_features(x, t, text)
        return out


def clips(*seeds):
    return torch.cat([torch.randn(1, 4, 3, 4, 4, generator=torch.Generator().manual_seed(s)) for s in seeds])


LEVELS = torch.tensor([0.5, 0.5])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("passes", ["batched", "sequential"])
def test_bound_zero_is_no_caching_bit_for_bit(pipe, kind, passes):
    caching, settings = StepCacheConfig(threshold=0.0, kind=kind), {"guidance_passes": passes, **FAST}
    out = pipe(PROMPTS, step_cache=caching, **settings).latents
    assert torch.equal(out, pipe(PROMPTS, **settings).latents)
    assert (caching.passes.run, caching.passes.skipped) == (2 * 2 * 6, 0)


@pytest.mark.parametrize(("kind", "blocks"), [("first_block", [0]), ("step", [])])
def test_what_does_not_change_is_not_run_again(pipe, kind, blocks):
    network, text = pipe.transformer, pipe.text_encoder(PROMPTS)
    cached = CachedNetwork(network, StepCacheConfig(threshold=0.1, kind=kind))
    with torch.inference_mode():
        first = cached(clips(0, 1), LEVELS, text=text)
        calls = []
        hooks = [b.register_forward_hook(lambda *_, i=i: calls.append(i)) for i, b in enumerate(network.blocks)]
        second = cached(clips(0, 1), LEVELS, text=text)
        for hook in hooks:
            hook.remove()
        assert calls == blocks and torch.equal(first, network(clips(0, 1), LEVELS, text))
    torch.testing.assert_close(second, first, rtol=1e-5, atol=1e-6)


def test_blocks_that_add_the_same_are_cached_exactly():
    toy, caching = Toy(), StepCacheConfig(threshold=0.9)
    cached = CachedNetwork(toy, caching)
    for share in (0.0, 0.1, 0.3):
        x = clips(0, 1) + share * clips(2, 3)
        torch.testing.assert_close(cached(x, LEVELS), toy(x, LEVELS))
    assert str(caching.passes) == "4 of 6 passes skipped"


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_decides_for_itself(pipe, kind):
    network, text = pipe.transformer, pipe.text_encoder(PROMPTS)
    before, after = clips(0, 1), torch.cat([clips(0), clips(5)])  # the first is as before, the second another one
    config = StepCacheConfig(threshold=0.1, kind=kind)
    with torch.inference_mode():
        out, state, _ = cached_pass(network, config, None, before, LEVELS, text=text)
        out, state, whole = cached_pass(
            network, StepCacheConfig(threshold=0.1, kind=kind), state, after, LEVELS, text=text
        )
        assert whole.tolist() == [False, True]
        torch.testing.assert_close(out, network(after, LEVELS, text), rtol=1e-4, atol=1e-5)
        _, state, whole = cached_pass(
            network, StepCacheConfig(threshold=0.1, kind=kind), state, after, LEVELS, text=text
        )
        assert whole.tolist() == [False, False]  # the second was remembered
    per_frame = torch.tensor([[0.0, 0.5, 0.5]] * 2)
    with torch.inference_mode():
        _, state, _ = cached_pass(
            network, StepCacheConfig(threshold=0.1, kind=kind), None, before, per_frame, text=text
        )
        out, _, whole = cached_pass(
            network, StepCacheConfig(threshold=0.1, kind=kind), state, after, per_frame, text=text
        )
        assert whole.tolist() == [False, True]
        torch.testing.assert_close(out, network(after, per_frame, text), rtol=1e-4, atol=1e-5)


class Linear(Toy):
    """The first block doubles its input, so that changes of residual and of input are one and the same."""

    def iter_features(self, x, t, text=None):
        h = x.movedim(1, -1)
        known = yield "patches", h
        if known is None:
            h = 2 * h
            known = yield "blocks.0", h
        yield "out", (h if known is None else known).movedim(-1, 1)


def test_a_step_is_run_when_the_changes_add_up():
    cached = CachedNetwork(Linear(), StepCacheConfig(threshold=0.1, kind="step"))
    found = []
    for scale in (1.0, 1.06, 1.0, 1.06, 1.0):  # never more than 6% away from the first one
        before = cached.config.passes.run
        cached(scale * clips(0), LEVELS[:1])
        found.append(cached.config.passes.run > before)
    assert found == [True, False, True, False, True]
    cached = CachedNetwork(Linear(), StepCacheConfig(threshold=0.1))
    for scale in (1.0, 1.06, 1.0, 1.06, 1.0, 1.12, 1.15):
        cached(scale * clips(0), LEVELS[:1])
    assert cached.config.passes.run == 2  # the first, and that at 12%


def test_given_frames_do_not_hide_what_changes():
    old = torch.ones(1, 3, 2, 2, 4)
    new = old.clone()
    new[:, 2] += 0.3
    torch.testing.assert_close(relative_change(new, old), torch.tensor([0.3]))


@pytest.mark.parametrize("kind", KINDS)
def test_clips_do_not_depend_on_batch_or_passes_and_a_larger_bound_skips_more(pipe, kind):
    errors, skips = [], []
    plain = pipe(PROMPTS, **FAST).latents
    for bound in (0.05, 0.6):
        found = []
        for passes in ("batched", "sequential"):
            caching = StepCacheConfig(threshold=bound, kind=kind)
            found.append((pipe(PROMPTS, step_cache=caching, guidance_passes=passes, **FAST).latents, caching.passes))
        assert found[0][1] == found[1][1]  # each estimate and clip, whatever it is run with
        torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-4)
        alone = pipe(PROMPTS[1], step_cache=StepCacheConfig(threshold=bound, kind=kind), **FAST).latents
        torch.testing.assert_close(alone[0], found[0][0][1], rtol=1e-4, atol=1e-4)
        errors.append((found[0][0] - plain).norm() / plain.norm())
        skips.append(found[0][1].skipped)
    assert skips[0] < skips[1] and errors[0] <= errors[1] < 0.5


def test_conditions_of_some_rows():
    text = TextEncoding(tokens=torch.arange(6.0).reshape(3, 2, 1), mask=torch.ones(3, 2).bool())
    some = take_rows(text, torch.tensor([2]))
    assert some.tokens.flatten().tolist() == [4.0, 5.0] and some.mask.shape == (1, 2)
    assert take_rows((torch.arange(3), None), torch.tensor([1])) == (torch.tensor([1]), None)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"threshold": 1.5}, "step cache: threshold=1.5 is not a number from 0 and below 1"),
        ({"threshold": -0.1}, "step cache: threshold=-0.1"),
        ({"threshold": 0.1, "kind": "magic"}, "step cache: kind='magic' is unknown; choose one of first_block, step"),
    ],
)
def test_what_is_no_caching_is_named(said, line):
    with pytest.raises(VidgenError, match=line):
        StepCacheConfig(**said)


def test_networks_that_cannot_skip_are_named():
    class Mute(Toy):
        def iter_features(self, x, t, text=None):
            yield "blocks.0", x

    class Deaf(Toy):
        def iter_features(self, x, t, text=None):
            for name in ("patches", "blocks.0", "blocks.1", "out"):
                yield name, x.movedim(1, -1)

    with pytest.raises(VidgenError, match="Mute does not say what goes into its blocks; sample without a cache"):
        CachedNetwork(Mute(), StepCacheConfig(threshold=0.1))(clips(0), LEVELS[:1])
    deaf = CachedNetwork(Deaf(), StepCacheConfig(threshold=0.1))
    deaf(clips(0), LEVELS[:1])
    with pytest.raises(VidgenError, match="Deaf cannot leave blocks out; sample without a cache"):
        deaf(clips(0), LEVELS[:1])


def test_former_names_warn_with_the_new_ones(pipe):
    with pytest.warns(FutureWarning, match=r"Caching\(bound=...\) is now called StepCacheConfig\(threshold=...\)"):
        config = Caching(bound=0.9, kind="step")
    assert config == StepCacheConfig(threshold=0.9, kind="step")
    with pytest.warns(FutureWarning, match="caching=... is now called step_cache=..."):
        pipe(PROMPTS, caching=config, **FAST)
    assert config.passes.skipped > 0
