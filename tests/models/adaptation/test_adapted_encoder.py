"""Adapted encoders: the frozen encoder's output at the start, gradients where they belong, parameters as counted."""

import copy

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.interfaces import ClipFormat, Encoder
from vidgen.models.adaptation.adapted_encoder import AdaptedEncoder
from vidgen.models.adaptation.learned_tokens import unrotated_first
from vidgen.models.encoders.video_vit import rotary_rows
from vidgen.models.rope import apply_rotary_emb
from vidgen.representations.baselines import random_like

D, DEPTH = 32, 2
LINEAR = ((D, D), (D, 2 * D), (D, D), (D, 4 * D), (4 * D, D))  # of a block, (ins, outs)
KINDS = {
    "lora": {"rank": 2},
    "adapter": {"hidden": 5},
    "adapter kernel": {"hidden": 5, "kernel": [3, 1, 1]},
    "prompt": {"tokens": 3},
    "prompt shallow": {"tokens": 3, "deep": False},
    "memory": {"tokens": 3},
    "memory masked": {"tokens": 3, "masked": True},
}
COUNTS = {
    "lora": DEPTH * sum(2 * (ins + outs) for ins, outs in LINEAR),
    "adapter": DEPTH * 2 * (2 * D * 5 + 5 + D),
    "adapter kernel": DEPTH * 2 * (2 * D * 5 + 5 + D + 5 * 3 + 5),
    "prompt": DEPTH * 3 * D,
    "prompt shallow": 3 * D,
    "memory": DEPTH * 3 * D,
    "memory masked": DEPTH * 3 * D + D,
}


def adapt(encoder, name: str) -> AdaptedEncoder:
    return AdaptedEncoder(encoder, name.split()[0], KINDS[name], clip=(4, 8, 8), fps=8.0)


def shake(adapted: AdaptedEncoder) -> None:
    """Draw what is learned anew, so that nothing of it is zero."""
    with torch.no_grad():
        for i, x in enumerate(adapted.adaptation.parameters()):
            x.copy_(torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) * 0.3)


@pytest.mark.parametrize("name", ["lora", "adapter", "adapter kernel"])
@pytest.mark.parametrize("mixer", ["joint", "factorised"])
def test_the_start_is_the_frozen_encoder_to_the_bit(make, video, name, mixer):
    encoder = make(mixer=mixer)
    before, layers = encoder(video), dict(encoder.iter_features(video))
    adapted = adapt(encoder, name)
    assert torch.equal(adapted(video), before)
    assert all(torch.equal(x, layers[key]) for key, x in adapted.iter_features(video))
    shake(adapted)
    assert not torch.allclose(adapted(video), before, atol=1e-2)


@pytest.mark.parametrize("name", KINDS)
def test_only_the_adaptation_takes_gradients_and_all_of_it_does(make, video, name):
    adapted = adapt(make(), name)
    shake(adapted)
    adapted(video).square().sum().backward()
    learned = {id(x) for x in adapted.adaptation.parameters()}
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in adapted.adaptation.parameters())
    rest = [x for x in adapted.parameters() if id(x) not in learned]
    assert len(rest) > 20 and all(x.grad is None and not x.requires_grad for x in rest)


@pytest.mark.parametrize("name", KINDS)
def test_as_many_parameters_are_trained_as_the_formula_says(make, name):
    assert adapt(make(), name).num_parameters(only_trainable=True) == COUNTS[name]


@pytest.mark.parametrize("name", KINDS)
def test_it_is_an_encoder_of_clips(make, video, name):
    adapted = adapt(make(), name)
    assert isinstance(adapted, Encoder) and isinstance(adapted, ClipFormat) and adapted.fps == 8.0
    layers = dict(adapted.iter_features(video))
    assert list(layers) == [info.name for info in adapted.feature_info]
    for info in adapted.feature_info:
        cells = [n // r for n, r in zip(video.shape[2:], info.reduction, strict=True)]
        assert layers[info.name].shape == (2, info.num_chs, *cells)
    other = random_like(adapted, seed=3)
    assert not torch.allclose(other(video), adapted(video), atol=1e-2)


@pytest.mark.parametrize("name", ["lora", "adapter", "prompt", "memory"])
def test_hidden_tokens_change_nothing(make, video, name):
    adapted = adapt(make(), name)
    shake(adapted)
    keep = torch.tensor([[0, 3, 6], [0, 3, 6]])
    other = video.clone()
    other[:, :, :2, :4, 4:] = 1.0  # the token 1
    assert torch.equal(adapted(video, keep), adapted(other, keep))
    assert not torch.allclose(adapted(video), adapted(other))


@pytest.mark.parametrize(
    ("name", "words"), [("adapter kernel", "with a kernel needs every"), ("memory masked", "class")]
)
def test_where_every_token_is_needed_it_is_said(make, video, name, words):
    with pytest.raises(VidgenError, match=words):
        adapt(make(), name)(video, torch.zeros(2, 1, dtype=torch.long))


def test_a_kernel_over_time_joins_no_places(make, video):
    """What changes at a place changes the output there, in its own frame and the next."""
    adapted = adapt(make(), "adapter kernel")
    shake(adapted)
    layer, grid = adapted.adaptation.blocks[0].mlp, (2, 2, 2)
    h = torch.randn(1, 8, D, generator=torch.Generator().manual_seed(5))
    other = h.clone()
    other[:, 1] += 1.0  # frame 0, place 1: that of token 5 in frame 1
    moved = (layer(h, grid) != layer(other, grid)).any(-1)[0]
    assert moved.nonzero().flatten().tolist() == [1, 5]


def test_prompts_are_tokens_without_a_place():
    rotary = rotary_rows((1, 2, 2), 16, torch.zeros(1), None)
    x = torch.randn(1, 1, 7, 16, generator=torch.Generator().manual_seed(0))
    turned = apply_rotary_emb(x, unrotated_first(rotary, 3))
    assert torch.equal(turned[:, :, :3], x[:, :, :3])
    assert torch.equal(turned[:, :, 3:], apply_rotary_emb(x[:, :, 3:], rotary))


def test_a_shallow_prompt_is_read_by_what_comes_after_and_a_deep_one_is_new(make, video):
    encoder = make()
    for name in ("prompt", "prompt shallow"):
        adapted = adapt(copy.deepcopy(encoder), name)
        before = dict(adapted.iter_features(video))
        with torch.no_grad():
            adapted.adaptation.prompts[-1] += 1.0
        after = dict(adapted.iter_features(video))
        first = torch.equal(before["blocks.0"], after["blocks.0"])
        assert first == (name == "prompt") and not torch.allclose(before["blocks.1"], after["blocks.1"])


def test_tokens_of_the_old_do_not_see_the_new(make, video):
    """The frozen encoder's layers stay to the bit, whatever memory and class token are."""
    encoder = make()
    before = dict(encoder.iter_features(video))
    adapted = adapt(encoder, "memory masked")
    shake(adapted)
    after = dict(adapted.iter_features(video))
    assert all(torch.equal(x, after[name]) for name, x in before.items())
    assert adapted(video).shape == (2, 1, D)
    other = video.clone()
    other[0, :, :2, :4, 4:] = 1.0
    read = adapted(other)
    assert not torch.allclose(read[0], adapted(video)[0]) and torch.allclose(read[1], adapted(video)[1], atol=1e-6)


def test_memory_is_attention_to_keys_that_are_no_queries(make, video):
    """As the whole sequence with a mask, in which nothing sees what memory would have read."""
    adapted = adapt(make(), "memory")
    shake(adapted)
    encoder, block = adapted.encoder, adapted.encoder.blocks[0]
    x, grid, rotary = encoder.begin(video)
    memory = adapted.adaptation.memory[0].expand(2, -1, -1)
    joined = torch.cat([memory, x], dim=1)
    plain = block(joined, encoder.attention_of(0, grid, unrotated_first(rotary, 3)), None)[:, 3:]
    _, first, *_ = adapted.adaptation.iter_tokens(encoder, video, None)
    assert torch.allclose(first, plain, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "settings", "shape", "words"),
    [
        ("stars", {}, {}, "kind 'stars' is unknown; choose one of lora"),
        ("adapter", {"stars": 1}, {}, "kind adapter: unknown keys stars"),
        ("adapter", {"hidden": 0}, {}, "hidden"),
        ("adapter", {"kernel": [2, 1, 1]}, {}, "no three odd numbers"),
        ("adapter", {"kernel": [3]}, {}, "no three odd numbers"),
        ("adapter", {}, {"mixer": "scan"}, "this one's is scan; choose kind lora"),
        ("prompt", {"tokens": 0}, {}, "tokens"),
        ("prompt", {}, {"mixer": "factorised"}, "mixer is joint"),
        ("memory", {}, {"mixer": "local"}, "mixer is joint"),
        ("lora", {"rank": 99}, {}, "a LoRA of rank 99"),
        ("temporal", {}, {}, "needs an image tower"),
        ("temporal", {"width": 60}, {}, "must be a multiple of head_dim"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(make, kind, settings, shape, words):
    with pytest.raises(VidgenError, match=words) as error:
        AdaptedEncoder(make(**shape), kind, settings, clip=(4, 8, 8), fps=8.0)
    assert "\n" not in str(error.value)
