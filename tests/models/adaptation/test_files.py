"""Folders of adapted encoders: what comes back is what was saved, small or whole; another base is refused."""

import json

import pytest
import torch

from vidgen.checkpoints.checkpoint import WEIGHTS_NAME
from vidgen.checkpoints.hashing import model_hash
from vidgen.checkpoints.pretrained import CONFIG_NAME
from vidgen.errors import VidgenError
from vidgen.models.adaptation.adapted_encoder import AdaptedEncoder
from vidgen.models.adaptation.files import load_adapted, open_base, save_adapted, save_whole
from vidgen.models.encoders.efficientnet import EFFICIENTNET
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.pipelines.loading import load_feature_encoder

KINDS = {
    "lora": {"rank": 2},
    "adapter": {"hidden": 5, "kernel": [3, 1, 1]},
    "prompt": {"tokens": 3},
    "memory": {"tokens": 3, "masked": True},
    "temporal": {"width": 16, "head_dim": 8, "inflate": 2},
}


@pytest.fixture
def base(make, tmp_path):
    """Return the folder of an encoder for a kind of adaptation: of clips, or of a frame."""

    def save(kind: str = "lora", **shape) -> str:
        frame = {"patch": (1, 4, 4), "clip": (1, 8, 8)} if kind == "temporal" else {}
        make(**frame | shape).save_pretrained(tmp_path / "base")
        return str(tmp_path / "base")

    return save


def shaken(name: str, kind: str) -> tuple:
    """An adapted encoder whose adaptation is far from its start, the base, and the base's shape."""
    frozen, origin = open_base(name)
    shape = frozen.config
    adapted = AdaptedEncoder(frozen, kind, KINDS[kind], clip=(4, 8, 8), fps=4.0)
    with torch.no_grad():
        for i, x in enumerate(adapted.adaptation.parameters()):
            x.copy_(torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) * 0.3)
    return adapted, origin, shape


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_learned_comes_back_beside_the_base(base, video, tmp_path, kind):
    adapted, origin, _ = shaken(base(kind), kind)
    save_adapted(adapted, tmp_path / "small", origin)
    again = load_feature_encoder(str(tmp_path / "small"))
    assert isinstance(again, AdaptedEncoder) and again.config == adapted.config
    assert torch.equal(again(video), adapted(video))
    assert model_hash(again) == model_hash(adapted) and not any(x.requires_grad for x in again.parameters())
    sizes = [(tmp_path / name / WEIGHTS_NAME).stat().st_size for name in ("small", "base")]
    assert sizes[0] < 0.6 * sizes[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_folder_needs_no_base(base, video, tmp_path, kind):
    adapted, _, shape = shaken(base(kind), kind)
    save_whole(adapted, tmp_path / "whole", shape)
    (tmp_path / "base").rename(tmp_path / "gone")
    again = load_feature_encoder(str(tmp_path / "whole"))
    assert isinstance(again, VideoViT) == (kind == "lora") and again.num_frames == 4 and again.fps == 4.0
    assert torch.allclose(again(video), adapted(video), atol=1e-6)


def test_a_lora_in_the_weights_leaves_the_adapted_encoder_as_it_is(base, video, tmp_path):
    adapted, _, shape = shaken(base(), "lora")
    before = adapted(video)
    save_whole(adapted, tmp_path / "whole", shape)
    assert torch.equal(adapted(video), before) and adapted.adaptation.lora.factors[0].up.requires_grad


def test_weights_come_in_the_precision_that_is_asked_for_and_the_hash_is_of_the_files(base, video, tmp_path):
    adapted, origin, _ = shaken(base(), "adapter")
    save_adapted(adapted, tmp_path / "small", origin, dtype=torch.bfloat16)
    again = load_adapted(tmp_path / "small", dtype=torch.bfloat16)
    assert {x.dtype for x in again.parameters()} == {torch.bfloat16}
    wide = load_adapted(tmp_path / "small")
    assert {x.dtype for x in wide.parameters()} == {torch.float32}
    assert open_base(origin.name, dtype=torch.bfloat16)[1] == origin


def test_a_base_of_another_hash_is_refused_and_a_base_that_moved_can_be_named(base, make, video, tmp_path):
    adapted, origin, _ = shaken(base(), "adapter")
    save_adapted(adapted, tmp_path / "small", origin)
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(VidgenError, match="the frozen encoder is not to be had, name its place as `base`") as error:
        load_adapted(tmp_path / "small")
    assert "\n" not in str(error.value)
    torch.manual_seed(7)
    VideoViT(make().config).save_pretrained(tmp_path / "base")
    with pytest.raises(VidgenError, match=f"has hash .*, and {origin.hash[:12]} was adapted") as error:
        load_adapted(tmp_path / "small")
    assert "\n" not in str(error.value)
    place = tmp_path / "small" / CONFIG_NAME
    place.write_text(json.dumps(json.loads(place.read_text()) | {"base": str(tmp_path / "moved")}))
    assert torch.equal(load_adapted(tmp_path / "small")(video), adapted(video))


@pytest.mark.slow
def test_a_tower_of_a_package_is_kept_by_its_name(video, tmp_path):
    frozen, origin = open_base(EFFICIENTNET)
    assert origin.name == EFFICIENTNET
    adapted = AdaptedEncoder(frozen, "temporal", {"width": 16, "head_dim": 8}, clip=(4, 8, 8), fps=8.0)
    save_adapted(adapted, tmp_path / "small", origin)
    assert (tmp_path / "small" / WEIGHTS_NAME).stat().st_size < 500_000
    with torch.no_grad():
        again = load_feature_encoder(str(tmp_path / "small"))
        assert torch.equal(again(video[:1]), adapted(video[:1]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "stars"}, "kind"),
        ({"settings": {"hidden": 6, "kernel": []}}, "missing|shape"),
        ({"settings": {"stars": 1}}, "unknown keys stars"),
        ({"base": ""}, "one of base and encoder"),
        ({"clip": [4, 8]}, "clip"),
        ({"stars": 1}, "unknown keys stars"),
    ],
)
def test_configs_that_cannot_be_are_refused(base, tmp_path, change, words):
    adapted, origin, _ = shaken(base(), "adapter")
    save_adapted(adapted, tmp_path / "small", origin)
    place = tmp_path / "small" / CONFIG_NAME
    place.write_text(json.dumps(json.loads(place.read_text()) | change))
    with pytest.raises(VidgenError, match=words) as error:
        load_adapted(tmp_path / "small")
    assert "\n" not in str(error.value)
