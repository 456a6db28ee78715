"""TokenLearner: attention that is even gives the mean, attention to one place that place; frames stay apart."""

from dataclasses import replace

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.encoders.frame_selector import places_of_frames
from vidgen.models.encoders.token_learner import TokenLearner
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.models.rope import rotary_table

SHAPE = VideoViTConfig(patch=(2, 4, 4), width=32, depth=3, head_dim=16, clip=(4, 16, 16), learner_tokens=3)


def make(**shape) -> VideoViT:
    torch.manual_seed(0)
    return VideoViT(replace(SHAPE, **shape)).eval()


def clips() -> torch.Tensor:
    return torch.rand(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_even_attention_is_the_mean_and_equal_shares():
    learner, x = TokenLearner(8, 3), torch.randn(2, 4, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(learner.maps.weight)
    tokens, shares = learner(x)
    assert torch.allclose(tokens, x.mean(2, keepdim=True).expand(-1, -1, 3, -1), atol=1e-6)
    assert torch.allclose(shares, torch.full_like(shares, 1 / 3))


def test_sharp_attention_takes_places_and_stands_for_them():
    learner, x = TokenLearner(8, 2), torch.zeros(1, 1, 2, 8)
    x[0, 0, 0, 0], x[0, 0, 1, 1] = 1.0, 1.0
    with torch.no_grad():
        hidden = torch.nn.functional.gelu(learner.hidden(learner.norm(x)))[0, 0]
        learner.maps.weight.copy_(200.0 * torch.linalg.pinv(hidden).T)  # map i is high at place i alone
        learner.maps.bias.zero_()
    tokens, shares = learner(x)
    assert torch.allclose(tokens, x, atol=1e-5) and torch.allclose(shares[0, 0], torch.eye(2), atol=1e-5)


def test_the_order_of_places_does_not_matter_and_frames_do_not_mix():
    torch.manual_seed(0)
    learner, x = TokenLearner(8, 3), torch.randn(2, 4, 5, 8)
    order = torch.tensor([3, 0, 4, 1, 2])
    tokens, shares = learner(x)
    again, moved = learner(x[:, :, order])
    assert torch.allclose(again, tokens, atol=1e-6) and torch.allclose(moved, shares[:, :, order], atol=1e-6)
    x[:, 2] = 0.0
    other = learner(x)[0]
    assert torch.equal(other[:, [0, 1, 3]], tokens[:, [0, 1, 3]]) and not torch.equal(other[:, 2], tokens[:, 2])


@pytest.mark.parametrize(("scope", "count"), [("frame", 6), ("clip", 3)])
def test_blocks_have_the_learned_tokens_and_maps_stay_whole(scope, count):
    model, video = make(learner_scope=scope, learner_block=1), clips()
    streams = list(model.iter_tokens(video))
    assert [s.x.shape[1] for s in streams] == [32, 32, count, count] and model(video).shape == (2, count, 32)
    maps = dict(model.iter_features(video))
    assert all(x.shape == (2, 32, 2, 4, 4) for x in maps.values())
    plain = VideoViT(replace(SHAPE, learner_tokens=0)).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("learner")})
    assert torch.equal(dict(plain.iter_features(video))["blocks.0"], maps["blocks.0"])  # nothing is learned before it


def test_tokens_are_learned_by_what_comes_after(tmp_path):
    model = make(learner_block=2).train()
    model(clips()).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.learner.parameters() if p.ndim > 1)
    model.save_pretrained(tmp_path / "saved")
    again = VideoViT.from_pretrained(tmp_path / "saved")
    assert again.config == model.config and torch.equal(again(clips()), model.eval()(clips()))


def test_learned_tokens_know_their_time():
    model, grid = make(), (4, 4, 4)
    frames = torch.tensor([[1, 3], [0, 2]])
    x = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0))
    _, _, rotary = model.learn_tokens(x, places_of_frames(frames, grid), grid)
    times = rotary_table((4, 1, 1), 8, 0.0, x.device, x.dtype)
    for rows, table in zip(rotary, times, strict=True):
        assert torch.equal(rows[:, 0], table[frames.repeat_interleave(3, dim=1)])


def test_tokens_are_learned_of_frames_that_are_selected():
    model = make(selector_frames=2)
    *_, last = model.iter_tokens(clips())
    assert last.x.shape[1] == 2 * model.config.learner_tokens  # of each of two frames
    places = places_of_frames(model.selector.choose(clips(), 2), model.grid_of(clips()))
    alone = replace(SHAPE, selector_frames=0)
    twin = VideoViT(alone)
    twin.load_state_dict({name: x for name, x in model.state_dict().items() if not name.startswith("selector")})
    x, grid, rotary = twin.begin(clips(), places)
    for i, block in enumerate(twin.blocks):
        if i == alone.learner_block:
            x, _, rotary = twin.learn_tokens(x, places, grid)
        x = block(x, twin.attention_of(i, grid, rotary), None)
    torch.testing.assert_close(model(clips()), twin.norm_out(x))


def test_what_does_not_fit_is_refused():
    with pytest.raises(VidgenError, match="learner_block=3 is none of 3 blocks"):
        replace(SHAPE, learner_block=3)
    with pytest.raises(VidgenError, match="mixer factorised needs every token"):
        replace(SHAPE, mixer="factorised")
    with pytest.raises(VidgenError, match="TokenLearner needs every token"):
        make()(clips(), torch.zeros(2, 1, dtype=torch.long))
