"""Task ssl with masked terms: encoders that load and extract, teachers that follow, runs that go on bit for bit."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.encoders.feature_predictor import FeaturePredictor, predicts_features
from vidgen.models.encoders.video_resnet import VideoResNet
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.pipelines.loading import load_feature_encoder
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.ssl.encoders import build_encoder
from vidgen.train.tasks.ssl.task import SSLTask
from vidgen.train.tasks.ssl.term import ClipBatch, hide_tokens

SMALL = [
    "steps=3", "batch_size=4", "log_every=1", "validate_every=3", "checkpoint_every=1", "data.validation_clips=4",
    "data.num_frames=4", "data.size=[16,16]", "autocast=float32", "probe_clips=8",
    "optimizer={kind: adamw, lr: 0.003, warmup: 0, ema_decay: 0}",
    "encoder={patch: [2, 4, 4], width: 32, depth: 2, head_dim: 16}",
]  # fmt: skip
PREDICTOR = "predictor: {width: 32, depth: 1, head_dim: 16}"


@pytest.fixture
def make(tmp_path):
    """Return a recipe of a tiny encoder with one masked term of these settings."""

    def load(*more: str, term: str = "", run: str = "run"):
        masked = f"terms={{masked: {{kind: masked, mask: {{ratio: 0.75}}, {PREDICTOR}{', ' if term else ''}{term}}}}}"
        return load_recipe("ssl", [*SMALL, f"out={tmp_path / run}", masked, *more])

    return load


class Same:
    """The clips of the first step at every step."""

    def __init__(self, mixture) -> None:
        self.mixture = mixture

    def __getitem__(self, key):
        return self.mixture[(0, key[1])]


def batch_of(task: SSLTask) -> dict:
    return task.gather([task.dataset[(0, slot)] for slot in range(4)])


TERMS = {
    "pixels": "target: pixels",
    "normalized_pixels": "",
    "hog": "target: hog",
    "teacher": "target: teacher, distance: l1",
    "visible": "target: teacher, visible: 0.5",
    "sigreg": "target: self, regularizer: sigreg",
    "vicreg": "target: self, regularizer: vicreg",
    "features": "target: features, source: SOURCE",
    "layer": "target: features, source: SOURCE, layer: blocks.0",
}


@pytest.mark.parametrize("name", TERMS)
def test_a_run_ends_with_an_encoder_that_extracts(make, tmp_path, name):
    SSLTask(make("seed=1")).encoder.save_pretrained(tmp_path / "other")
    recipe = make(term=TERMS[name].replace("SOURCE", str(tmp_path / "other")))
    task = SSLTask(recipe)
    folder = Trainer(task, recipe).fit()
    encoder = load_feature_encoder(str(folder))
    assert isinstance(encoder, VideoViT) and (encoder.num_frames, encoder.height, encoder.fps) == (4, 16, 8)
    layers = dict(encoder.iter_features(batch_of(task)["video"]))
    assert layers["blocks.1"].shape == (4, 32, 2, 4, 4)
    best = VideoViT.from_pretrained(folder.parent / "best")  # of one validation, which is the last
    assert all(torch.equal(x, y) for x, y in zip(best.parameters(), encoder.parameters(), strict=True))
    assert predicts_features(folder) == (name not in ("pixels", "normalized_pixels", "hog"))
    if predicts_features(folder):
        predictor = FeaturePredictor.from_pretrained(folder)
        learned, video = task.terms["masked"].feature_predictor(task.encoder), batch_of(task)["video"]
        torch.testing.assert_close(predictor(video, 1, 1), learned(video, 1, 1))
        torch.testing.assert_close(predictor.features(video).flatten(1, 3), task.terms["masked"].target(video).detach())
    metrics = task.validate()
    assert {"loss", "masked_loss", "rankme", "feature_std", "knn_shape"} <= metrics.keys()


def test_a_shipped_recipe_goes_on_from_an_encoder_of_any_shape(tmp_path):
    shape = VideoViTConfig(patch=(4, 16, 16), width=32, depth=1, head_dim=16, clip=(8, 32, 32))
    VideoViT(shape).save_pretrained(tmp_path / "other")
    recipe = load_recipe("ssl/mae", [f"init_from={tmp_path / 'other'}", f"out={tmp_path / 'run'}"])
    config = build_encoder(recipe).config
    assert (config.width, config.patch, config.clip) == (32, (4, 16, 16), (16, 64, 64))
    recipe.encoder["width"] = 64
    with pytest.raises(VidgenError, match="has encoder.width=32, not 64; leave it out"):
        build_encoder(recipe)


def test_the_prediction_does_not_see_what_is_hidden(make):
    task = SSLTask(make(term="target: pixels"))
    term, video = task.terms["masked"], batch_of(task)["video"]
    keep, asked = hide_tokens(term.mask, task.encoder, video, torch.Generator().manual_seed(5))
    patches = torch.zeros(4, 32, dtype=torch.bool).scatter(1, asked, True).reshape(4, 2, 4, 4)
    pixels = patches.repeat_interleave(2, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)[:, None]
    changed = torch.where(pixels, torch.rand_like(video), video)
    assert not torch.equal(changed, video)
    grid = task.encoder.grid_of(video)
    outputs = [term.predictor(task.encoder(x, keep), keep, asked, grid) for x in (video, changed)]
    assert torch.equal(*outputs)
    losses = [term.loss(task.encoder, ClipBatch(x), torch.Generator().manual_seed(5))[0] for x in (video, changed)]
    assert losses[0] != losses[1]  # the target does


def test_a_clip_is_learned_by_heart(make):
    every = [f"{key}=250" for key in ("steps", "validate_every", "checkpoint_every", "log_every")]
    recipe = make(*every, term="target: pixels")
    task = SSLTask(recipe)
    batch = batch_of(task)
    mixture = task.dataset
    task.dataset = Same(mixture)
    spread = batch["video"].var().item()
    Trainer(task, recipe).fit()
    assert task.loss(batch, torch.Generator().manual_seed(9))[0].item() < 0.35 * spread


def test_a_masked_view_is_masked_as_its_clip_would_be(make):
    plain, mask = "crop: 1.0, colour: 0.0, gray: 0.0", "mask: {kind: future, ratio: 0.5}"
    terms = [f"{{kind: masked, target: pixels, {mask}, {PREDICTOR}{view}}}" for view in ("", f", view: {{{plain}}}")]
    losses = []
    for term in terms:
        task = SSLTask(make(f"terms={{a: {term}}}"))
        losses.append(task.loss(batch_of(task), torch.Generator().manual_seed(0))[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    twice = f"{{kind: masked, mask: {{kind: asymmetric, ratio: 0.5}}, view: {{{plain}, order: repeated, crops: 2}}}}"
    task = SSLTask(make(f"terms={{a: {twice}}}"))
    keep, asked = hide_tokens(task.terms["a"].mask, task.encoder, batch_of(task)["video"], torch.Generator())
    assert keep.tolist() == [list(range(16))] * 4 and asked.min() == 16  # one crop is seen, the other told
    with pytest.raises(VidgenError, match="of 4 frames, in each of 4 crops, is no multiple of patches of 2"):
        SSLTask(make(f"terms={{a: {twice.replace('crops: 2', 'crops: 4')}}}"))


def test_a_teacher_is_the_average_of_the_encoder(make):
    recipe = make("steps=2", term="target: teacher, teacher: {decay: 0.5, final_decay: 0.5}")
    task = SSLTask(recipe)
    start = [x.clone() for x in task.encoder.parameters()]
    states = []
    original = task.begin_step
    task.begin_step = lambda step: (
        states.append([x.detach().clone() for x in task.encoder.parameters()]),
        original(step),
    )
    Trainer(task, recipe).fit()
    after_one, after_two = states[1], list(task.encoder.parameters())
    teacher = task.terms["masked"].frozen["teacher"]
    for x, a, b, c in zip(teacher.parameters(), start, after_one, after_two, strict=True):
        assert torch.allclose(x, 0.25 * a + 0.25 * b + 0.5 * c, atol=1e-6)
        assert not x.requires_grad


def test_a_run_that_was_cut_goes_on_bit_for_bit(make):
    settings = {"term": "target: teacher, teacher: {decay: 0.9}"}
    whole = make("steps=4", run="whole", **settings)
    Trainer(SSLTask(whole), whole).fit()
    cut = make("steps=4", run="cut", **settings)
    task = SSLTask(cut)
    losses = iter([task.loss, task.loss])
    task.loss = lambda *args: next(losses)(*args)
    with pytest.raises(StopIteration):
        Trainer(task, cut).fit()
    again = SSLTask(cut)
    folder = Trainer(again, cut).fit()
    other = VideoViT.from_pretrained(f"{whole.out}/final").state_dict()
    assert all(torch.equal(x, other[name]) for name, x in VideoViT.from_pretrained(folder).state_dict().items())


@pytest.mark.parametrize(
    ("more", "term", "words"),
    [
        (["terms={a: {weight: 1}}"], "", "terms.a has no kind"),
        (["encoder.fps=4"], "", "encoder.fps is the data's to say"),
        (["data.validation_clips=1"], "", "give 2 or more"),
        (["terms={keys: {kind: masked}}"], "", "cannot be named 'keys'"),
    ],
)
def test_recipes_that_cannot_be_are_refused(make, more, term, words):
    with pytest.raises(VidgenError, match=words):
        make(*more, term=term)


@pytest.mark.parametrize(
    ("more", "term", "words"),
    [
        ([], "target: stars", "terms.masked.*target"),
        ([], "target: features", "needs source"),
        ([], "stars: 1", "unknown keys stars"),
        (["terms.masked.predictor={stars: 1}"], "", "unknown keys stars"),
        (["terms.masked.predictor={width: 50}"], "", "must be a multiple of head_dim"),
        (["terms={a: {kind: stars}}"], "", "kind 'stars' is unknown"),
        (["terms={a: {kind: masked, mask: {ratio: 0.99}}}"], "", "some must be hidden and some seen"),
        (["data.num_frames=5"], "", "no multiple of the encoder's patches"),
        (["encoder.in_channels=4"], "", "encoder.in_channels is not for recipes: set reads=latents"),
        (["encoder={kind: resnet, head_dim: 48}"], "", "unknown keys head_dim"),
        (["encoder.kind=stars"], "", "kind 'stars' is unknown; choose one of vit, resnet"),
        (["encoder.mixer=factorised"], "", "needs every token, and a mask hides some"),
        (["terms.masked.mask.settings={stars: 1}"], "", "mask tube: settings"),
        (["batch_size=1"], "target: self, regularizer: vicreg", "has no variance"),
    ],
)
def test_what_a_task_cannot_do_is_said_before_the_first_step(make, more, term, words):
    with pytest.raises(VidgenError, match=words):
        SSLTask(make(*more, term=term))


def test_an_encoder_goes_on_at_the_clips_of_its_data(make, tmp_path):
    SSLTask(make()).encoder.save_pretrained(tmp_path / "first")
    task = SSLTask(make(f"init_from={tmp_path / 'first'}", "data.num_frames=8", "data.fps=4"))
    assert (task.encoder.num_frames, task.encoder.fps) == (8, 4)


def test_a_resnet_goes_on_from_its_folder_and_hides_no_tokens(tmp_path):
    run = [x for x in SMALL if not x.startswith("encoder")]
    shape = "encoder={kind: resnet, patch: [2, 4, 4], width: 32, depth: 2}"

    def load(*more: str, term: str = "{kind: joint, views: [{}, {}]}") -> SSLTask:
        overrides = [*run, f"out={tmp_path}/run", shape, f"terms={{it: {term}}}", *more]
        return SSLTask(load_recipe("ssl", overrides))

    first = load()
    first.encoder.save_pretrained(tmp_path / "first")
    task = load(f"init_from={tmp_path / 'first'}", "data.num_frames=8")
    assert isinstance(task.encoder, VideoResNet) and task.encoder.num_frames == 8
    state = first.encoder.state_dict()
    assert all(torch.equal(x, state[name]) for name, x in task.encoder.state_dict().items())
    with pytest.raises(VidgenError, match="encoder.kind resnet needs every token, and a mask hides some; choose vit"):
        load(term="{kind: masked, mask: {ratio: 0.5}}")


def test_a_task_without_terms_says_where_there_are_some():
    with pytest.raises(VidgenError, match="has nothing to learn"):
        SSLTask(load_recipe("ssl"))
