"""VideoDiT: levels per frame, positions, masks and backends mean what they say."""

from dataclasses import asdict, replace

import pytest
import torch

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.errors import VidgenError
from vidgen.models.attention import ATTENTION, plain_attention, sdpa_attention
from vidgen.models.dit.video_dit import VideoDiT, VideoDiTConfig
from vidgen.models.rope import apply_rotary_angles, position_angles, rotary_table
from vidgen.models.text.encoders import TextEncoding
from vidgen.models.text.prepared import fill, fill_once

CONFIG = VideoDiTConfig(latent_channels=4, width=64, depth=3, head_dim=32, text_width=24)


@pytest.fixture(scope="module")
def dit() -> VideoDiT:
    torch.manual_seed(0)
    model = VideoDiT(CONFIG)
    for parameter in model.parameters():  # the zero start would make every test true
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return model.double().eval().requires_grad_(False)


def inputs(b: int = 2, t: int = 3) -> tuple[torch.Tensor, TextEncoding]:
    g = torch.Generator().manual_seed(1)
    x = torch.randn(b, 4, t, 4, 6, generator=g, dtype=torch.float64)
    tokens = torch.randn(b, 5, 24, generator=g, dtype=torch.float64)
    mask = torch.ones(b, 5, dtype=torch.bool)
    mask[0, 3:] = False
    return x, TextEncoding(tokens=tokens, mask=mask)


def test_a_fresh_model_predicts_zero():
    x, text = inputs()
    fresh = VideoDiT(CONFIG).double()
    assert torch.equal(fresh(x, torch.tensor([0.3, 0.6]), text), torch.zeros_like(x))


def test_one_level_equals_that_level_for_every_frame(dit):
    x, text = inputs()
    t = torch.tensor([0.2, 0.9], dtype=torch.float64)
    assert torch.allclose(dit(x, t, text), dit(x, t[:, None].expand(2, 3), text), atol=1e-12)
    other = t[:, None].repeat(1, 3)
    other[:, 1] = 0.5
    assert not torch.allclose(dit(x, t, text), dit(x, other, text), atol=1e-4)


def test_batch_members_do_not_see_each_other(dit):
    x, text = inputs()
    t = torch.tensor([0.2, 0.9], dtype=torch.float64)
    alone = dit(x[1:], t[1:], TextEncoding(tokens=text.tokens[1:], mask=text.mask[1:]))
    assert torch.allclose(dit(x, t, text)[1:], alone, atol=1e-12)


def test_masked_text_is_not_seen(dit):
    x, text = inputs()
    t = torch.tensor([0.2, 0.9], dtype=torch.float64)
    changed = text.tokens.clone()
    changed[0, 3:] = 100.0
    assert torch.allclose(dit(x, t, text), dit(x, t, TextEncoding(tokens=changed, mask=text.mask)), atol=1e-12)


def test_backend_by_name(dit):
    x, text = inputs()
    t = torch.tensor([0.2, 0.9], dtype=torch.float64)
    outs = []
    for name in ("plain", "sdpa", "flash", "auto"):
        dit.set_attention(name)
        outs.append(dit(x, t, text))
    assert all(torch.allclose(outs[0], out, atol=1e-10) for out in outs)
    with pytest.raises(VidgenError, match="choose one of " + ", ".join(ATTENTION)):
        dit.set_attention("telepathy")


def test_rotary_products_depend_on_differences_only():
    angles = position_angles((3, 4, 5), 16).double()
    q, k = torch.randn(2, 1, 1, 1, 32, dtype=torch.float64)
    cell = {(t, h, w): (t * 4 + h) * 5 + w for t in range(3) for h in range(4) for w in range(5)}

    def product(a, b):
        return (apply_rotary_angles(q, angles[cell[a]][None]) * apply_rotary_angles(k, angles[cell[b]][None])).sum()

    assert torch.allclose(product((0, 0, 0), (1, 2, 1)), product((1, 1, 2), (2, 3, 3)), atol=1e-10)
    assert not torch.allclose(product((0, 0, 0), (1, 2, 1)), product((0, 0, 0), (1, 1, 2)), atol=1e-3)


def test_tables_of_positions_are_made_once_a_shape_and_serve_training_too(dit):
    x, text = inputs()
    t = torch.tensor([0.2, 0.9], dtype=torch.float64)
    rotary_table.cache_clear()
    with torch.inference_mode():
        before = dit(x, t, text)
        dit(x[:, :, :2], t, text)
    out = dit(x.requires_grad_(), t, text)
    assert torch.allclose(out, before, atol=1e-12) and rotary_table.cache_info().misses == 2
    out.sum().backward()
    assert x.grad.isfinite().all()


def test_prepared_text_serves_every_step():
    torch.manual_seed(0)
    model = VideoDiT(CONFIG).double()
    for parameter in model.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    x, text = inputs()
    ready, calls = model.prepare_text(text), []
    for block in model.blocks:
        block.cross.to_kv.register_forward_hook(lambda *_: calls.append(1))
    for t in (torch.tensor([0.2, 0.9]), torch.rand(2, 3)):
        out = model(x, t.double(), ready)
        assert not calls and torch.allclose(out, model(x, t.double(), text), atol=1e-12)
        assert len(calls) == 3
        calls.clear()
    seen = TextEncoding(tokens=text.tokens, mask=torch.ones(2, 5, dtype=torch.bool))
    whole = model.prepare_text(seen)
    assert whole.blocks[0].mask is None
    assert torch.allclose(model(x, torch.ones(2), whole), model(x, torch.ones(2), seen), atol=1e-12)


def test_zeros_that_are_seen_count_as_one_with_a_higher_score():
    _, text = inputs()
    q, width = torch.randn(2, 3, 7, 24, dtype=torch.float64), 24
    whole = fill(text, 40).tokens.reshape(2, 1, 40, width).expand(-1, 3, -1, -1)
    tokens, bias = fill_once(text, 40)
    short = tokens.reshape(2, 1, 6, width).expand(-1, 3, -1, -1)
    for attend in (plain_attention, sdpa_attention):
        assert torch.allclose(attend(q, short, short, bias), plain_attention(q, whole, whole), atol=1e-12)


def test_walk_stops_where_the_reader_stops(dit):
    x, text = inputs()
    calls = []
    handles = [b.register_forward_hook(lambda *_, i=i: calls.append(i)) for i, b in enumerate(dit.blocks)]
    for name, hidden in dit.iter_features(x, torch.tensor([0.2, 0.9]), text):
        if name == "blocks.1":
            assert hidden.shape == (2, 3, 2, 3, 64)
            break
    for handle in handles:
        handle.remove()
    assert calls == [0, 1]
    assert [layer.name for layer in dit.feature_info] == ["blocks.0", "blocks.1", "blocks.2"]


def test_what_is_sent_stands_for_the_blocks_that_are_left_out(dit):
    x, text = inputs()
    t = torch.tensor([0.2, 0.9])
    whole, calls = dict(dit.iter_features(x, t, text)), []
    assert list(whole) == ["patches", "blocks.0", "blocks.1", "blocks.2", "out"]
    handles = [b.register_forward_hook(lambda *_, i=i: calls.append(i)) for i, b in enumerate(dit.blocks)]
    walk = dit.iter_features(x, t, text)
    assert next(walk)[0] == "patches" and next(walk)[0] == "blocks.0"
    name, out = walk.send(whole["blocks.2"])
    assert name == "out" and torch.equal(out, whole["out"]) and calls == [0]
    assert [name for name, _ in walk] == []
    for handle in handles:
        handle.remove()


def test_latents_off_the_patch_grid_are_refused(dit):
    _, text = inputs()
    with pytest.raises(VidgenError, match="5x6"):
        dit(torch.zeros(2, 4, 3, 5, 6), torch.zeros(2), text)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (dict(width=60), "width 60 must be a multiple of head_dim 32"),
        (dict(patch=(2, 2, 2)), "needs patches of one frame"),
        (dict(tasks=-1), "tasks=-1 is not a whole number from 0"),
        (dict(attention="sparse"), "attention='sparse' is unknown; choose one of full, factorised, divided, swapped"),
        (dict(window=(2, 2)), "window=\\(2, 2\\) is not a list of 3 items"),
        (dict(window=(1, 2, 2), attention="divided"), "is for full and swapped attention, not for divided"),
        (dict(text_attention="both"), "text_attention='both' is unknown; choose one of cross, joint"),
        (dict(text_attention="joint", window=(1, 2, 2)), "joint text needs full attention without windows"),
        (dict(text_attention="joint", attention="factorised"), "joint text needs full attention"),
        (dict(text_attention="joint", text_width=0), "text_width 0 is no text"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(settings, says):
    with pytest.raises(VidgenError, match=rf"^[^\n]*{says}[^\n]*$"):
        replace(CONFIG, **settings)


def test_settings_that_configs_once_had_are_passed_over_where_they_change_nothing():
    former = {"qk_norm": "layer_norm", "norm_eps": 1e-5, "fused_qkv": False, "rope_theta": 0.0, "added_positions": True,
              "pooled_text": True, "text_mlp": False, "text_length": 0, "final_table": False}  # fmt: skip
    values = {**asdict(CONFIG), "_class_name": "VideoDiT"}
    assert config_from_dict(VideoDiTConfig, {**values, **former}, "here") == CONFIG
    for name, value in {"qk_norm": "batch", "rope_theta": 0.5, "text_mlp": True, "text_length": -1}.items():
        says = rf"^here: {name}={value!r} is no setting of a VideoDiTConfig, which has {former[name]!r} always[^\n]*$"
        with pytest.raises(VidgenError, match=says):
            config_from_dict(VideoDiTConfig, {**values, **former, name: value}, "here")


def test_features_and_text_are_given_where_the_config_has_them(dit):
    x, text = inputs()
    t = torch.tensor([0.2, 0.9], dtype=torch.float64)
    torch.manual_seed(0)
    config = VideoDiTConfig(latent_channels=4, width=64, depth=2, head_dim=32, text_width=0, feature_channels=5)
    model = VideoDiT(config).double()
    for parameter in model.parameters():  # the zero start, where blocks and output do nothing yet
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    features = torch.randn(2, 5, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    out = model(x, t, features=features)
    assert out.shape == x.shape and not any("cross" in name or "text" in name for name in model.state_dict())
    # Full attention: every patch's features have a say in the first patch of the output, each clip's own only.
    (grad,) = torch.autograd.grad(out[0, :, 0, 0, 0].sum(), features)
    assert grad[0].abs().sum(0).min() > 0 and not grad[1].any()
    with pytest.raises(ValueError, match="not 5 channels on"):
        model(x, t, features=features[:, :, :2])
    for wrong in ({}, {"text": text, "features": features}):
        with pytest.raises(ValueError, match="text_width=0 and feature_channels=5"):
            model(x, t, **wrong)
    with pytest.raises(ValueError, match="no text and no features"):
        dit(x, t)
