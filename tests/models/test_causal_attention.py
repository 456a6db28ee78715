"""Causal layouts: no chunk sees a later one, and a cache gives what the whole clip gives."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from vidgen.errors import VidgenError
from vidgen.models.causal_attention import (
    KVCache,
    causal_layout,
    chunk_ends,
    seen_frames,
    teacher_forcing_layout,
)
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.wan.transformer import WanTransformer
from vidgen.pipelines.wan.transformer_config import WanTransformerConfig

CONFIGS = {
    VideoDiT: VideoDiTConfig(latent_channels=4, width=32, depth=3, head_dim=16, text_width=24, causal_chunks=(1, 2)),
    WanTransformer: WanTransformerConfig(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        text_dim=24,
        ffn_dim=64,
        num_layers=3,
        causal_chunks=(1, 2),
    ),
}
NETWORKS = pytest.mark.parametrize("network", [VideoDiT, WanTransformer])


def make(network: type, **settings) -> VideoDiT | WanTransformer:
    torch.manual_seed(0)
    model = network(replace(CONFIGS[network], **settings))
    for parameter in model.parameters():  # the zero start would make every test true
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model.double().eval().requires_grad_(False)


def inputs(frames: int) -> tuple[torch.Tensor, TextEncoding]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, frames, 4, 6, generator=g, dtype=torch.float64)
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    return x, TextEncoding(tokens=torch.randn(2, 5, 24, generator=g, dtype=torch.float64), mask=mask)


def level(value: float, frames: int) -> torch.Tensor:
    return torch.full((2, frames), value, dtype=torch.float64)


def predict_by_cache(model, clean, noisy, text, t: float, cache: KVCache) -> torch.Tensor:
    """Return the predictions of all chunks, each after the clean frames before it."""
    out, start = [], 0
    for end in chunk_ends(clean.shape[2], model.config.causal_chunks):
        part = slice(start, end)
        out.append(model(noisy[:, :, part], level(t, end - start), text, layout=cache.layout(end - start)))
        model(clean[:, :, part], level(0.0, end - start), text, layout=cache.layout(end - start, extend=True))
        start = end
    return torch.cat(out, dim=2)


def test_chunks_and_what_they_see():
    assert chunk_ends(6, (1, 2)) == [1, 3, 5, 6]
    assert chunk_ends(1, (3, 2)) == [1]
    assert seen_frames(5) == (0, 1, 2, 3, 4)
    assert seen_frames(9, window=4, sinks=1) == (0, 6, 7, 8)
    groups = causal_layout(6, (1, 2), window=4, sinks=1).groups
    assert [group.seen for group in groups] == [(0,), (0, 1, 2), (0, 2, 3, 4), (0, 3, 4, 5)]
    assert [list(group.positions) for group in groups] == [[0], [1, 2], [2, 3], [3]]
    assert teacher_forcing_layout(3, (1, 2)).groups[3].seen == (0, 4, 5)


@NETWORKS
def test_no_chunk_sees_a_later_one(network):
    model = make(network)
    x, text = inputs(6)
    out = model(x, level(0.5, 6), text)
    for first, frame in [(1, 2), (3, 4), (5, 5)]:  # a frame, and where its chunk begins
        other = x.clone()
        other[:, :, frame] += 1.0
        changed = (model(other, level(0.5, 6), text) - out).abs().amax(dim=(0, 1, 3, 4))
        assert not changed[:first].any()
        assert changed[first:].all()  # its own chunk, and all later ones


@NETWORKS
def test_one_chunk_of_the_whole_clip_is_attention_of_all(network):
    x, text = inputs(5)
    t = torch.rand(2, 5, dtype=torch.float64)
    causal, plain = make(network, causal_chunks=(5, 1)), make(network, causal_chunks=(0, 0))
    torch.testing.assert_close(causal(x, t, text), plain(x, t, text), atol=1e-12, rtol=0)


@NETWORKS
@pytest.mark.parametrize(("frames", "window", "sinks"), [(6, 0, 0), (7, 0, 0), (11, 5, 1), (12, 4, 0), (10, 6, 3)])
def test_a_cache_gives_what_the_whole_clip_gives(network, frames, window, sinks):
    """In the whole clip the frames before a chunk are clean and all later ones are left out."""
    model = make(network)
    clean, text = inputs(frames)
    noisy = clean.flip(2) * 0.7
    cache = KVCache(window, sinks)
    by_cache = predict_by_cache(model, clean, noisy, text, 0.6, cache)
    assert cache.frames == min(frames, window or frames)
    start = 0
    for end in chunk_ends(frames, (1, 2)):
        x = torch.cat([clean[:, :, :start], noisy[:, :, start:end]], dim=2)
        t = torch.cat([level(0.0, start), level(0.6, end - start)], dim=1)
        whole = model(x, t, text, layout=causal_layout(end, (1, 2), window, sinks))
        torch.testing.assert_close(by_cache[:, :, start:end], whole[:, :, start:], atol=1e-10, rtol=0)
        start = end


@NETWORKS
def test_teacher_forcing_is_generation_from_the_true_past(network):
    """Training sees in one pass what every chunk sees when it is generated, and its cache with it."""
    model = make(network)
    clean, text = inputs(6)
    noisy = clean.flip(2) * 0.7
    both = model(
        torch.cat([clean, noisy], dim=2),
        torch.cat([level(0.0, 6), level(0.6, 6)], dim=1),
        text,
        layout=teacher_forcing_layout(6, (1, 2)),
    )
    by_cache = predict_by_cache(model, clean, noisy, text, 0.6, KVCache())
    torch.testing.assert_close(both[:, :, 6:], by_cache, atol=1e-10, rtol=0)


def test_prepared_text_and_a_rolling_cache_in_float32():
    model = make(VideoDiT).float()
    clean, text = inputs(21)
    clean = clean.float()
    text = TextEncoding(tokens=text.tokens.float(), mask=text.mask)
    plain, prepared = (
        predict_by_cache(model, clean, clean.flip(2), words, 0.3, KVCache(5, 1))
        for words in (text, model.prepare_text(text))
    )
    torch.testing.assert_close(plain, prepared, atol=1e-5, rtol=0)


def test_what_does_not_go_together():
    with pytest.raises(VidgenError, match="first chunk and of the others"):
        replace(CONFIGS[VideoDiT], causal_chunks=(0, 2))
    with pytest.raises(VidgenError, match="needs full attention"):
        replace(CONFIGS[VideoDiT], attention="divided")
    with pytest.raises(VidgenError, match="first chunk and of the others"):
        replace(CONFIGS[WanTransformer], causal_chunks=(1, 0)).check("config.json")
    with pytest.raises(ValueError, match="room"):
        KVCache(window=3, sinks=3)


def test_saved_configs_of_plain_models_do_not_change(tmp_path):
    plain = replace(CONFIGS[WanTransformer], causal_chunks=(0, 0))
    assert "causal_chunks" not in plain.published()
    assert CONFIGS[WanTransformer].published()["causal_chunks"] == (1, 2)
    model = make(VideoDiT)
    model.save_pretrained(tmp_path / "causal")
    again = VideoDiT.from_pretrained(tmp_path / "causal")
    assert again.config.causal_chunks == (1, 2)
