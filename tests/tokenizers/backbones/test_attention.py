"""Attention of the backbones equals PyTorch's over the whole grid or clip, masked there; its state is bounded."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from vidgen.models.attention_patterns import cut_windows
from vidgen.models.rope import apply_rotary_angles
from vidgen.tokenizers.backbones.attention import (
    QUERY_FRAMES,
    CausalAttention,
    FrameAttention,
    WindowAttention,
    rotary_angles,
)
from vidgen.tokenizers.backbones.convolutions import Stream
from vidgen.tokenizers.backbones.transformer import TransformerBlock

WIDTH, HEAD = 24, 8


def fresh(layer: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for p in layer.parameters():
        nn.init.normal_(p, std=0.5)
    return layer.double().eval().requires_grad_(False)


def tokens(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def join(y: torch.Tensor) -> torch.Tensor:
    return rearrange(y, "n k m d -> n m (k d)")


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(("h", "w", "window"), [(8, 12, 4), (5, 7, 4), (1, 3, 4), (9, 10, 3), (2, 5, 1), (6, 6, 64)])
def test_windows_are_masked_attention_over_the_grid(h, w, window, shifted):
    layer, x = fresh(WindowAttention(WIDTH, HEAD, window, shifted)), tokens(2, 3, h, w)
    q, k, v = layer.attention.project(rearrange(layer.norm(x), "b t h w d -> (b t) (h w) d"))
    # Positions of the frame, not of windows: rotary attention sees differences only.
    rows, cols = (rotary_angles(torch.arange(n), HEAD // 4) for n in (h, w))
    angles = torch.cat([rows.repeat_interleave(w, 0), cols.repeat(h, 1)], dim=1)
    offset = window // 2 if shifted else 0
    down, across = ((torch.arange(n) - offset).div(window, rounding_mode="floor") for n in (h, w))
    number = (down[:, None] * 1000 + across).flatten()
    y = F.scaled_dot_product_attention(
        apply_rotary_angles(q, angles), apply_rotary_angles(k, angles), v, attn_mask=number[:, None] == number
    )
    expected = x + rearrange(layer.attention.out(join(y)), "(b t) (h w) d -> b t h w d", b=2, h=h)
    assert (layer(x) - expected).abs().max() < 1e-10
    assert not torch.equal(layer(x), x)


@pytest.mark.parametrize("window", [1, 2, 5, 60])
def test_the_past_is_masked_attention_over_the_clip(window):
    frames = 2 * QUERY_FRAMES + 3
    layer, x = fresh(CausalAttention(WIDTH, HEAD, window)), tokens(1, frames, 2, 3)
    q, k, v = layer.attention.project(rearrange(layer.norm(x), "b t h w d -> (b h w) t d"))
    # Zeros stand before the clip; a thousand frames on, all is the same.
    k, v = (F.pad(z, (0, 0, window - 1, 0)) for z in (k, v))
    angles = rotary_angles(1000 + torch.arange(k.shape[2]), HEAD // 2)
    ago = torch.arange(frames)[:, None] + window - 1 - torch.arange(k.shape[2])
    mask = (ago >= 0) & (ago < window)
    y = F.scaled_dot_product_attention(
        apply_rotary_angles(q, angles[window - 1 :]), apply_rotary_angles(k, angles), v, attn_mask=mask
    )
    expected = x + rearrange(layer.attention.out(join(y)), "(b h w) t d -> b t h w d", h=2, w=3)
    assert (layer(x, Stream()) - expected).abs().max() < 1e-10


def test_frames_are_attended_to_alone():
    layer = fresh(FrameAttention(WIDTH))
    x = rearrange(tokens(2, 3, 4, 5), "b t h w d -> b d t h w")
    q, k, v = layer.attention.project(layer.norm(rearrange(x, "b d t h w -> b (t h w) d")))
    frame = torch.arange(3).repeat_interleave(20)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=frame[:, None] == frame)
    expected = x + rearrange(layer.attention.out(join(y)), "b (t h w) d -> b d t h w", t=3, h=4)
    assert (layer(x, Stream()) - expected).abs().max() < 1e-10


def test_windows_cover_an_axis_once():
    for length in range(1, 30):
        for window in range(1, 12):
            for offset in {0, window // 2}:
                stretches = cut_windows(length, window, offset)
                assert 1 <= len(stretches) <= 3
                assert [k for a, b, _ in stretches for k in range(a, b)] == list(range(length))
                windows = [k for a, b, n in stretches for k in range(a, b, n)]
                assert all(1 <= n <= window and (b - a) % n == 0 for a, b, n in stretches)
                assert all((k - offset) % window == 0 for k in windows[1:])


def test_the_state_of_keys_and_values_has_one_size():
    layer, x = fresh(CausalAttention(WIDTH, HEAD, 5)), tokens(2, 90, 2, 3)
    layer.key = "time"
    whole, past, parts = layer(x, Stream()), {}, []
    for count in (1, 2, 1, 7, 0, 40, 39):
        stream = Stream(past=past)
        done = sum(part.shape[1] for part in parts)
        if count:
            parts.append(layer(x[:, done : done + count], stream))
            past = stream.next
        assert set(past) == {"time"} and past["time"].shape == (2, 2 * WIDTH, 4, 2, 3)
        assert past["time"].untyped_storage().nbytes() == past["time"].numel() * 8
    assert (torch.cat(parts, dim=1) - whole).abs().max() < 1e-10


def test_every_weight_of_a_block_learns():
    torch.manual_seed(0)
    block = TransformerBlock(12, WIDTH, head_dim=HEAD, window=2, shifted=True, time_window=3)
    out = block(torch.randn(2, 12, 4, 3, 3), Stream())
    assert out.shape == (2, WIDTH, 4, 3, 3)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters() if p.ndim > 1)
