"""Adapted transformers: the class's own forward exactly, its blocks' outputs as layers, and levels per frame."""

import pytest
import torch
from einops import rearrange

from vidgen.errors import VidgenError
from vidgen.models.text.encoders import TextEncoding
from vidgen.pipelines.cogvideox import CogVideoXDenoiser
from vidgen.pipelines.ltx import LTXDenoiser
from vidgen.pipelines.published_denoiser import Clock
from vidgen.pipelines.wan.adapter import WanDenoiser

MAKERS = {
    "wan": lambda network: WanDenoiser(network, Clock()),
    "wan-frames": lambda network: WanDenoiser(network, Clock(), frame_levels=True),
    "cogvideox": lambda network: CogVideoXDenoiser(network, Clock()),
    "cogvideox-1.5": lambda network: CogVideoXDenoiser(network, Clock()),
    "ltx": lambda network: LTXDenoiser(network, Clock(), cell=(4, 16, 16), frame_rate=25.0),
}
T = torch.tensor([0.3, 0.7])


def draw(frames: int = 4) -> tuple[torch.Tensor, TextEncoding]:
    generator = torch.Generator().manual_seed(0)
    text = torch.randn(2, 226, 16, generator=generator)  # CogVideoX has places for so many
    mask = torch.arange(226) < torch.tensor([[5], [9]])
    return torch.randn(2, 4, frames, 4, 4, generator=generator), TextEncoding(tokens=text, mask=mask)


def forward(kind: str, network, x, timesteps, text, pipeline):
    """The class's own forward, called as its pipeline calls it; and the prediction as latents."""
    if kind.startswith("wan"):
        return network(x, timesteps, text.tokens).sample
    if kind.startswith("cogvideox"):
        rotary = None
        if network.config.use_rotary_positional_embeddings:
            rotary = pipeline._prepare_rotary_positional_embeddings(32, 32, x.shape[2], x.device)
        out = network(rearrange(x, "b c t h w -> b t c h w"), text.tokens, timesteps, image_rotary_emb=rotary).sample
        return rearrange(out, "b t c h w -> b c t h w")
    scale = (4 / 25, 16, 16)
    size = dict(num_frames=x.shape[2], height=4, width=4, rope_interpolation_scale=scale)
    out = network(rearrange(x, "b c t h w -> b (t h w) c"), text.tokens, timesteps, text.mask, **size).sample
    return rearrange(out, "b (t h w) c -> b c t h w", h=4, w=4)


@pytest.fixture(params=MAKERS)
def made(request, published):
    """Kind, adapter, and the pipeline whose transformer it holds."""
    pipeline = published(request.param)[1]
    return request.param, MAKERS[request.param](pipeline.transformer), pipeline


@torch.no_grad()
def test_it_is_the_classes_own_forward(made):
    kind, denoiser, pipeline = made
    x, text = draw()
    wanted = forward(kind, denoiser.network, x, 1000 * T, text, pipeline)
    assert torch.equal(denoiser(x, T, text), wanted)
    assert wanted.shape == x.shape and wanted.std() > 0.1


@torch.no_grad()
def test_taps_are_the_outputs_of_the_blocks(made):
    kind, denoiser, pipeline = made
    x, text = draw()
    seen = []
    blocks = getattr(denoiser.network, denoiser.blocks_name)
    hooks = [block.register_forward_hook(lambda module, args, out: seen.append(out)) for block in blocks]
    wanted = forward(kind, denoiser.network, x, 1000 * T, text, pipeline)
    for hook in hooks:
        hook.remove()
    walked = dict(denoiser.iter_features(x, T, text))
    assert list(walked) == ["blocks.0", "blocks.1", "out"] and torch.equal(walked["out"], wanted)
    assert [info.name for info in denoiser.feature_info] == list(walked)[:2]
    for info, out in zip(denoiser.feature_info, seen, strict=True):
        hidden = out[0] if isinstance(out, tuple) else out
        layer = walked[info.name]
        assert torch.equal(layer.flatten(1, 3), hidden) and layer.shape[-1] == info.num_chs
        assert layer.shape[1:4] == tuple(n // s for n, s in zip(x.shape[2:], info.reduction, strict=True))


@torch.no_grad()
def test_forward_intermediates_are_the_features_and_the_prediction(made):
    _, denoiser, _ = made
    x, text = draw()
    layers = dict(denoiser.iter_features(x, T, text))
    out, (last,) = denoiser.forward_intermediates(x, T, text, indices=[-1])
    assert torch.equal(out, layers["out"]) and torch.equal(last, layers[denoiser.feature_info[-1].name])
    assert denoiser.num_parameters() == sum(p.numel() for p in denoiser.network.parameters())
    denoiser.enable_gradient_checkpointing()
    assert denoiser.network.is_gradient_checkpointing and denoiser.dtype == denoiser.network.dtype
    denoiser.disable_gradient_checkpointing()


@torch.no_grad()
def test_nothing_runs_beyond_the_last_tap_asked_for(made):
    _, denoiser, _ = made
    x, text = draw()
    ran = []
    hooks = [
        block.register_forward_hook(lambda module, args, out, i=i: ran.append(i))
        for i, block in enumerate(getattr(denoiser.network, denoiser.blocks_name))
    ]
    name, _ = next(iter(denoiser.iter_features(x, T, text)))
    for hook in hooks:
        hook.remove()
    assert name == "blocks.0" and ran == [0]


@torch.no_grad()
def test_levels_per_frame(made):
    kind, denoiser, _ = made
    x, text = draw()
    levels = T[:, None].expand(-1, 4).clone()
    if kind not in ("wan-frames", "ltx"):
        with pytest.raises(VidgenError, match="one noise level for all frames of a clip, so no frames can be given"):
            denoiser(x, levels, text)
        assert not denoiser.config.frame_levels
        return
    assert torch.allclose(denoiser(x, levels, text), denoiser(x, T, text), atol=1e-5)
    levels[:, 1] = 0.0
    h = dict(denoiser.iter_features(x, levels, text))
    tokens = (1000 * levels)[:, :, None].expand(-1, -1, x[0, 0, 0].numel() // denoiser.config.patch[1] ** 2)
    assert torch.equal(h["out"], forward(kind, denoiser.network, x, tokens.flatten(1), text, None))
    assert (h["out"] - denoiser(x, T, text)).abs().max() > 1e-3


@torch.no_grad()
def test_patches_of_two_frames_are_filled_at_the_front(published):
    denoiser = MAKERS["cogvideox-1.5"](published("cogvideox-1.5")[1].transformer)
    x, text = draw(frames=3)
    filled = torch.cat([x[:, :, :1], x], dim=2)
    assert torch.equal(denoiser(x, T, text), denoiser(filled, T, text)[:, :, 1:])
    assert dict(denoiser.iter_features(x, T, text))["blocks.1"].shape[1] == 2


def test_what_does_not_fit_is_named(made):
    _, denoiser, _ = made
    x, text = draw()
    name = type(denoiser.network).__name__
    with pytest.raises(VidgenError, match=rf"latents \(2, 3, 4, 4, 4\) do not fit {name}: \(b, 4, t, h, w\) are"):
        denoiser(x[:, :3], T, text)
    with pytest.raises(VidgenError, match=f"{name} takes a text of width 16; it was given none"):
        denoiser(x, T)


def test_larger_frames_than_there_are_positions_for(published):
    denoiser = MAKERS["cogvideox-1.5"](published("cogvideox-1.5")[1].transformer)
    x, text = draw()
    with pytest.raises(VidgenError, match="latents of 8x8 are larger than 4x6, and this CogVideoX 1.5 has no"):
        denoiser(x.repeat(1, 1, 1, 2, 2), T, text)


@torch.no_grad()
def test_attention_is_chosen_by_our_names(made):
    kind, denoiser, _ = made
    x, text = draw()
    usual = denoiser(x, T, text)
    denoiser.set_attention("sdpa")
    assert torch.equal(denoiser(x, T, text), usual)
    if kind.startswith("cogvideox"):
        with pytest.raises(VidgenError, match="knows no attention but PyTorch's own"):
            denoiser.set_attention("plain")
    else:
        denoiser.set_attention("plain")
        assert torch.allclose(denoiser(x, T, text), usual, atol=1e-5)
    denoiser.set_attention("auto")
    with pytest.raises(VidgenError, match="attention 'magic' is unknown"):
        denoiser.set_attention("magic")


def test_the_same_architecture_anew(made):
    _, denoiser, _ = made
    x, text = draw()
    twin = denoiser.fresh().eval()
    assert twin.config == denoiser.config and twin(x, T, text).shape == x.shape
    for a, b in zip(twin.parameters(), denoiser.parameters(), strict=True):
        assert a.shape == b.shape and a is not b


def test_timesteps_are_rounded_as_schedulers_do():
    t = torch.tensor([0.0, 0.25, 0.9996, 1.0])
    assert Clock()(t).tolist() == pytest.approx([0.0, 250.0, 999.6, 1000.0])
    assert Clock(rounding="down")(t).tolist() == [0.0, 250.0, 999.0, 1000.0]
    near = Clock(offset=-1, rounding="near")
    k = torch.arange(1000)
    assert torch.equal(near((k + 1).float() / 1000), k.float()) and near(
        torch.tensor([0.5004])
    ).item() == pytest.approx(499.4)
    assert near(torch.zeros(1)).item() == 0.0
