"""A side stream in a VideoDiT: what is absent is not seen, and without it the model is the one without."""

from dataclasses import replace

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.dit.config import VideoDiTConfig
from vidgen.models.dit.joint_network import JointNetwork, with_side_stream
from vidgen.models.dit.side_stream import (
    SideStream,
    join_streams,
    rows_of_latents,
    split_streams,
    values_of_rows,
)
from vidgen.models.dit.video_dit import VideoDiT
from vidgen.models.text.encoders import TextEncoding

CONFIG = VideoDiTConfig(latent_channels=4, width=64, depth=3, head_dim=32, text_width=24)
FRAMES, CHANNELS = 3, 5


@pytest.fixture(scope="module")
def plain() -> VideoDiT:
    torch.manual_seed(0)
    model = VideoDiT(CONFIG)
    for parameter in model.parameters():  # the zero start would make every test true
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def dit(plain) -> VideoDiT:
    model = with_side_stream(plain, CHANNELS)
    torch.nn.init.normal_(model.side.values_out.weight, std=0.05)
    return model


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, TextEncoding]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, FRAMES, 4, 6, generator=g, dtype=torch.float64)
    side = torch.randn(2, FRAMES, CHANNELS, generator=g, dtype=torch.float64)
    levels = torch.rand(2, 2 * FRAMES, generator=g, dtype=torch.float64)
    tokens = torch.randn(2, 5, 24, generator=g, dtype=torch.float64)
    return x, side, levels, TextEncoding(tokens=tokens, mask=torch.tensor([[True] * 3 + [False] * 2, [True] * 5]))


def run(dit, x, side, levels, text, absent):
    out = JointNetwork(transformer=dit, absent=absent)(join_streams(x, side), levels, text)
    return split_streams(out, CHANNELS)


def nothing() -> torch.Tensor:
    return torch.zeros(2 * FRAMES, dtype=torch.bool)


def test_streams_join_and_split():
    x, side, _, _ = inputs()
    both = join_streams(x, side)
    assert both.shape == (2, 4, 2 * FRAMES, 4, 6)
    back = split_streams(both, CHANNELS)
    assert torch.equal(back[0], x) and torch.equal(back[1], side)
    with pytest.raises(VidgenError, match="200 numbers a frame, in latents of 96"):
        join_streams(x, torch.zeros(2, FRAMES, 200))


def test_values_of_frames_are_rows_of_latent_frames():
    values = torch.arange(2 * 9 * 2.0).reshape(2, 9, 2)
    rows = rows_of_latents(values, 4)
    assert rows.shape == (2, 3, 8)
    assert torch.equal(rows[0, 0], torch.tensor([0.0, 0, 0, 0, 0, 0, 0, 1]))  # frame 0 alone
    assert torch.equal(rows[0, 1], values[0, 1:5].flatten())
    assert torch.equal(values_of_rows(rows, 4), values)
    with pytest.raises(VidgenError, match="8 frames ends within a latent frame"):
        rows_of_latents(values[:, :8], 4)


def test_without_its_stream_the_model_is_the_one_without(plain, dit):
    x, side, levels, text = inputs()
    expected = plain(x, levels[:, :FRAMES], text)
    assert torch.equal(dit(x, levels[:, :FRAMES], text), expected)
    absent = nothing()
    absent[FRAMES:] = True
    assert torch.equal(run(dit, x, side, levels, text, absent)[0], expected)
    one = nothing().repeat(2, 1)
    one[0, FRAMES:] = True  # of the first clip alone: by a mask
    out = run(dit, x, side, levels, text, one)[0]
    assert torch.allclose(out[0], expected[0], atol=1e-12)
    assert not torch.allclose(out[1], expected[1], atol=1e-3)


def test_what_is_absent_moves_nothing(dit):
    """Later frames and all rows but one are absent: whatever is in them and at any level, the rest stays."""
    x, side, levels, text = inputs()
    absent = nothing()
    absent[1:FRAMES] = True
    absent[FRAMES + 1 :] = True
    other_x, other_side, other_levels = x.clone(), side.clone(), levels.clone()
    other_x[:, :, 1:] += 3.0
    other_side[:, 1:] -= 7.0
    other_levels[:, 1:FRAMES], other_levels[:, FRAMES + 1 :] = 0.0, 1.0
    first = run(dit, x, side, levels, text, absent)
    second = run(dit, other_x, other_side, other_levels, text, absent)
    assert torch.equal(first[0][:, :, 0], second[0][:, :, 0]) and torch.equal(first[1][:, 0], second[1][:, 0])


@pytest.mark.parametrize("stream", [0, 1])
def test_each_stream_sees_the_other_and_its_level(dit, stream):
    x, side, levels, text = inputs()
    before = run(dit, x, side, levels, text, nothing())[stream]
    moved = (x, side + 1.0) if stream == 0 else (x + 1.0, side)
    assert not torch.allclose(run(dit, *moved, levels, text, nothing())[stream], before, atol=1e-4)
    later = levels.clone()
    later[:, FRAMES:] *= 0.5 if stream == 0 else 1.0
    later[:, :FRAMES] *= 0.5 if stream == 1 else 1.0
    assert not torch.allclose(run(dit, x, side, later, text, nothing())[stream], before, atol=1e-4)


def test_clips_do_not_see_each_other_and_one_level_is_that_of_every_frame(dit):
    x, side, levels, text = inputs()
    alone = TextEncoding(tokens=text.tokens[1:], mask=text.mask[1:])
    both = run(dit, x, side, levels, text, nothing())
    single = run(dit, x[1:], side[1:], levels[1:], alone, nothing())
    assert all(torch.allclose(a[1:], b, atol=1e-12) for a, b in zip(both, single, strict=True))
    flat = run(dit, x, side, levels[:, 0], text, nothing())
    wide = run(dit, x, side, levels[:, :1].expand(-1, 2 * FRAMES), text, nothing())
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(flat, wide, strict=True))


def test_positions_of_the_stream_are_its_frames(dit):
    """The same row in another frame is told something else: without positions, equal rows would be exchangeable."""
    x, side, _, text = inputs()
    x, side = x[:, :, :1].expand(-1, -1, FRAMES, -1, -1), side[:, :1].expand(-1, FRAMES, -1)
    out = run(dit, x, side, torch.full((2,), 0.5, dtype=torch.float64), text, nothing())[1]
    assert not torch.allclose(out[:, 0], out[:, 1], atol=1e-4)


def test_a_model_with_a_stream_is_saved_and_loaded(dit, tmp_path):
    dit.save_pretrained(tmp_path / "model")
    back = VideoDiT.from_pretrained(tmp_path / "model").double()
    x, side, levels, text = inputs()
    for a, b in zip(
        run(dit, x, side, levels, text, nothing()), run(back, x, side, levels, text, nothing()), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-12)
    assert with_side_stream(back, CHANNELS) is back
    with pytest.raises(VidgenError, match="side stream of 5 numbers a frame, not 6"):
        with_side_stream(back, 6)


def test_a_stream_that_cannot_be(plain, dit):
    x, side, levels, text = inputs()
    stream = SideStream(values=side, t=levels[:, FRAMES:])
    with pytest.raises(ValueError, match="side_channels=0"):
        list(plain.iter_features(x, levels[:, :FRAMES], text, side=stream))
    with pytest.raises(ValueError, match="is not 3 frames of 5"):
        short = SideStream(values=side[:, :2], t=levels[:, :2])
        list(dit.iter_features(x, levels[:, :FRAMES], text, side=short))
    with pytest.raises(VidgenError, match="has no side stream"):
        JointNetwork(transformer=plain, absent=nothing())
    for wrong in ({"attention": "factorised"}, {"causal_chunks": (1, 2)}, {"window": (0, 2, 2)}):
        with pytest.raises(VidgenError, match="side_channels 2 needs full attention"):
            replace(CONFIG, side_channels=2, **wrong)
