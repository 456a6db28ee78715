"""Task ssl with `adapt`: the frozen encoder stays to the bit, what is learned trains, resumes, exports and extracts."""

import pytest
import torch

from vidgen.checkpoints.hashing import model_hash
from vidgen.errors import VidgenError
from vidgen.models.adaptation.adapted_encoder import AdaptedEncoder
from vidgen.models.adaptation.files import open_base
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.pipelines.loading import load_feature_encoder
from vidgen.representations.extractor import FeatureExtractor
from vidgen.train.config.files import load_recipe, recipe_name, shipped_recipes
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.ssl.task import SSLTask

SMALL = [
    "steps=3", "batch_size=4", "log_every=1", "validate_every=3", "checkpoint_every=1", "data.validation_clips=4",
    "data.num_frames=4", "data.size=[16,16]", "autocast=float32", "probe_clips=8",
    "optimizer={kind: adamw, lr: 0.01, warmup: 0, ema_decay: 0}",
]  # fmt: skip
RECIPES = [name for name in map(recipe_name, shipped_recipes()) if name.startswith("ssl/adapt_")]


@pytest.fixture
def base(tmp_path):
    """Return the folder of a tiny encoder, of clips or of a frame."""

    def save(frame: bool = False) -> str:
        torch.manual_seed(0)
        shape = {"patch": (1 if frame else 2, 4, 4), "clip": (1 if frame else 4, 16, 16)}
        VideoViT(VideoViTConfig(width=32, depth=2, head_dim=16, **shape)).save_pretrained(tmp_path / "base")
        return str(tmp_path / "base")

    return save


@pytest.fixture
def make(base, tmp_path):
    """Return the recipe of a system on a tiny encoder."""

    def load(name: str = "ssl/adapt_adapter", *more: str, run: str = "run", frame: bool = False):
        frame = frame or name == "ssl/adapt_temporal"
        return load_recipe(name, [*SMALL, f"init_from={base(frame)}", f"out={tmp_path / run}", *more])

    return load


@pytest.mark.parametrize("name", RECIPES)
def test_every_system_trains_beside_a_frozen_encoder(make, name):
    recipe = make(name)
    task = SSLTask(recipe)
    start = [x.clone() for x in task.encoder.adaptation.parameters()]
    folder = Trainer(task, recipe).fit()
    assert any(not torch.equal(x, y) for x, y in zip(task.encoder.adaptation.parameters(), start, strict=True))
    encoder = load_feature_encoder(str(folder))  # which checks the hash of the base
    assert isinstance(encoder, AdaptedEncoder) and (encoder.num_frames, encoder.height, encoder.fps) == (4, 16, 8)
    video = task.gather([task.dataset[(0, slot)] for slot in range(2)])["video"]
    with torch.no_grad():
        assert torch.allclose(encoder(video), task.encoder(video), atol=1e-5)
    features = FeatureExtractor(encoder, layers=["encoder.blocks.1"], pool="mean")(video).features
    assert features["encoder.blocks.1"].shape == (2, 32)
    best = load_feature_encoder(str(folder.parent / "best"))  # of one validation, which is the last
    assert model_hash(best) == model_hash(encoder)


def test_the_optimizer_has_the_adaptation_and_the_heads_and_the_base_stays(make):
    recipe = make()
    task = SSLTask(recipe)
    base = open_base(recipe.init_from)[0]
    Trainer(task, recipe).fit()
    d, hidden = 32, 48
    adapters = 2 * 2 * (2 * d * hidden + hidden + d)
    heads = sum(len(words) * (d + 1) for words in task.terms["supervised"].words.values())
    assert sum(x.numel() for x in task.model.parameters()) == adapters + heads
    own = dict(task.encoder.encoder.named_parameters())
    assert all(torch.equal(x, own[name]) for name, x in base.named_parameters()) and len(own) > 20


def test_labels_are_told_by_what_is_learned(make, learn):
    task = SSLTask(make("ssl/adapt_memory"))
    batch = task.gather([task.dataset[(0, slot)] for slot in range(4)])
    *_, parts = learn(task, batch, steps=80, lr=0.01)
    assert all(parts[f"supervised_{name}"] == 1.0 for name in ("shape", "colour", "motion"))


@pytest.mark.parametrize("kind", ["adapter", "lora"])
def test_a_run_that_was_cut_goes_on_bit_for_bit(make, kind):
    whole = make(f"ssl/adapt_{kind}", run="whole")
    Trainer(SSLTask(whole), whole).fit()
    cut = make(f"ssl/adapt_{kind}", run="cut")
    task = SSLTask(cut)
    losses = iter([task.loss, task.loss])
    task.loss = lambda *args: next(losses)(*args)
    with pytest.raises(StopIteration):
        Trainer(task, cut).fit()
    folder = Trainer(SSLTask(cut), cut).fit()
    assert model_hash(load_feature_encoder(str(folder))) == model_hash(load_feature_encoder(f"{whole.out}/final"))


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("ssl/adapt_adapter", "{masked: {kind: masked, target: teacher, mask: {ratio: 0.75}}}"),
        ("ssl/adapt_lora", "{joint: {kind: joint, agreement: byol, predictor: {hidden: 8}, teacher: {decay: 0.9}}}"),
        ("ssl/adapt_temporal", "{pretext: {kind: pretext, pretext: direction}}"),
    ],
)
def test_terms_without_labels_adapt_too(make, name, terms):
    predictor = "terms.masked.predictor={width: 32, depth: 1, head_dim: 16}"
    recipe = make(name, "terms.supervised.weight=0.1", f"terms={terms}", *([predictor] if "masked" in terms else []))
    folder = Trainer(SSLTask(recipe), recipe).fit()
    assert isinstance(load_feature_encoder(str(folder)), AdaptedEncoder)
    again = Trainer(SSLTask(recipe), recipe)  # the teacher too comes back from the checkpoint
    assert again.step == 3


def test_a_whole_folder_is_an_encoder_without_its_base(make, tmp_path):
    recipe = make("ssl/adapt_lora", "adapt.whole=true")
    folder = Trainer(SSLTask(recipe), recipe).fit()
    (tmp_path / "base").rename(tmp_path / "gone")
    assert isinstance(load_feature_encoder(str(folder)), VideoViT)


def test_patches_inflated_in_time_are_part_of_it(make):
    recipe = make("ssl/adapt_temporal", "adapt.inflate=2", "adapt.width=16", "adapt.head_dim=8")
    task = SSLTask(recipe)
    assert task.encoder.config.patch == (2, 4, 4) and "encoder.patch_in.weight" in task.model.state_dict()
    folder = Trainer(task, recipe).fit()
    assert dict(load_feature_encoder(str(folder)).named_parameters())["encoder.patch_in.weight"].shape == (32, 96)


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("ssl/adapt_adapter", ["adapt.kind=stars"], "recipe key `adapt`: kind 'stars' is unknown"),
        ("ssl/adapt_adapter", ["adapt.stars=1"], "recipe key `adapt`: kind adapter: unknown keys stars"),
        ("ssl/adapt_adapter", ["adapt.hidden=0"], "recipe key `adapt`: .*hidden"),
        ("ssl/adapt_adapter", ["adapt.whole=3"], "whole=3 is false, or true"),
        ("ssl/adapt_adapter", ["init_from=nowhere"], "neither a shipped model"),
        ("ssl/adapt_adapter", ["init_from=default"], "default"),
        ("ssl/adapt_adapter", ["encoder.width=64"], "has encoder.width=32, not 64"),
        ("ssl/adapt_adapter", ["data.num_frames=5"], "no multiple of the encoder's patches"),
        ("ssl/adapt_temporal", ["adapt.inflate=3"], "no multiple of the encoder's patches"),
        (
            "ssl/adapt_memory",
            ["terms.a={kind: masked, mask: {ratio: 0.75}}"],
            "terms.a`: class tokens stand for no patches",
        ),
        ("ssl/adapt_st_adapter", ["terms.a={kind: masked, mask: {ratio: 0.75}}"], "needs every token"),
        (
            "ssl/adapt_memory",
            ["terms.a={kind: stochastic}"],
            "terms.a`: class tokens stand for no patches",
        ),
    ],
)
def test_what_cannot_be_is_said_before_the_first_step(make, name, more, words):
    with pytest.raises(VidgenError, match=words) as error:
        SSLTask(make(name, *more))
    assert "\n" not in str(error.value)


def test_an_adaptation_without_a_kind_or_an_encoder_is_refused():
    with pytest.raises(VidgenError, match="adapt has no kind"):
        load_recipe("ssl/adapt_adapter", ["adapt={kind: [1]}"])
    with pytest.raises(VidgenError, match="give init_from=FOLDER"):
        SSLTask(load_recipe("ssl/adapt_adapter"))


@pytest.mark.slow
def test_a_tower_of_a_package_trains(tmp_path):
    more = ["steps=1", "data.num_frames=2", "data.validation_clips=2", "batch_size=2", "probe_clips=2"]
    recipe = load_recipe("ssl/adapt_temporal", [*SMALL, *more, "validate_every=1", f"out={tmp_path / 'run'}"])
    folder = Trainer(SSLTask(recipe), recipe).fit()
    encoder = load_feature_encoder(str(folder))
    assert encoder.config.width == 1280 and encoder.feature_info[-1].name == "last"


def test_a_run_does_not_go_on_beside_another_encoder(make):
    recipe = make("ssl/adapt_adapter", "steps=2")
    Trainer(SSLTask(recipe), recipe).fit()
    other = SSLTask(make("ssl/adapt_adapter", "steps=3"))
    other.adapted = other.adapted._replace(base=other.adapted.base._replace(hash="another"))
    with pytest.raises(VidgenError, match="is not the encoder that this run began beside"):
        Trainer(other, other.recipe).fit()


@pytest.mark.parametrize(
    ("term", "words"),
    [("{kind: co_training}", "leave adapt out"), ("{kind: selection}", "leave adapt and encoder.kind out")],
)
def test_terms_of_a_whole_encoder_refuse_an_adapted_one(make, term, words):
    with pytest.raises(VidgenError, match=words):
        SSLTask(make("ssl/adapt_adapter", f"terms.a={term}"))
