"""Joint terms: systems that are special cases of each other, queues that survive, collapse that is seen."""

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.encoders.video_vit import VideoViT
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.ssl.task import SSLTask

SMALL = [
    "steps=3", "batch_size=4", "log_every=1", "validate_every=3", "checkpoint_every=1", "data.validation_clips=4",
    "data.num_frames=8", "data.size=[16,16]", "autocast=float32", "probe_clips=8",
    "optimizer={kind: adamw, lr: 0.003, warmup: 0, ema_decay: 0}",
    "encoder={patch: [2, 4, 4], width: 32, depth: 1, head_dim: 16}",
]  # fmt: skip
VIEWS = "views: [{frames: 4}, {frames: 4, max_stride: 2}]"
HEADS = "projector: {hidden: 32, channels: 16}"
TEACHER = "teacher: {decay: 0.9}"
TERMS = {
    "info_nce": "agreement: info_nce",
    "moco": f"agreement: info_nce, {TEACHER}, queue: 8, predictor: {{hidden: 16}}",
    "iic": "agreement: info_nce, negatives: [{frames: 4, order: shuffled}]",
    "nt_xent": "agreement: nt_xent, settings: {temperature: 0.5}",
    "byol": f"agreement: byol, {TEACHER}, predictor: {{hidden: 16}}",
    "simsiam": "agreement: byol, predictor: {hidden: 16}",
    "barlow": "agreement: barlow",
    "vicreg": "agreement: vicreg",
    "lejepa": "agreement: lejepa, settings: {weight: 0.1, directions: 16}",
    "swav": "agreement: swav, prototypes: 5",
    "dino": f"agreement: dino, prototypes: 12, {TEACHER}",
}


@pytest.fixture
def make(tmp_path):
    """Return a recipe of a tiny encoder with one joint term of these settings."""

    def load(term: str, *more: str, run: str = "run", views: str = VIEWS, heads: str = HEADS):
        joint = f"terms={{joint: {{kind: joint, {views}, {heads}, {term}}}}}"
        return load_recipe("ssl", [*SMALL, f"out={tmp_path / run}", joint, *more])

    return load


def batch_of(task: SSLTask, step: int = 0) -> dict:
    return task.gather([task.dataset[(step, slot)] for slot in range(4)])


@pytest.mark.parametrize("name", TERMS)
def test_every_agreement_trains_an_encoder(make, name):
    recipe = make(TERMS[name])
    task = SSLTask(recipe)
    before = [x.clone() for x in task.encoder.parameters()]
    folder = Trainer(task, recipe).fit()
    trained = VideoViT.from_pretrained(folder)
    assert any(not torch.equal(a, b) for a, b in zip(before, trained.parameters(), strict=True))
    assert {"joint_loss", "rankme", "lidar", "alignment", "knn_motion", "linear_motion"} <= task.validate().keys()


def test_simsiam_is_byol_with_a_teacher_that_is_the_student(make):
    teacher = "teacher: {decay: 0.0, final_decay: 0.0}"
    tasks = [SSLTask(make(TERMS["simsiam"])), SSLTask(make(f"{TERMS['simsiam']}, {teacher}"))]
    losses, grads = [], []
    for task in tasks:
        task.model.train()
        loss, _ = task.loss(batch_of(task), torch.Generator().manual_seed(0))
        losses.append(loss.item())
        grads.append(torch.autograd.grad(loss, list(task.model.parameters())))
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert all(torch.allclose(x, y, atol=1e-6) for x, y in zip(*grads, strict=True))
    Trainer(tasks[1], tasks[1].recipe).fit()  # and so it stays: the teacher is the student after every step
    term = tasks[1].terms["joint"]
    student = {"encoder": tasks[1].encoder, "projector": term.projector}
    for name, module in student.items():
        other = term.frozen["teacher"][name].state_dict()
        assert all(torch.equal(x, other[key]) for key, x in module.state_dict().items())


def test_a_queue_and_a_teacher_survive_a_cut_bit_for_bit(make):
    whole, cut = (make(TERMS["moco"], "steps=4", run=name) for name in ("whole", "cut"))
    tasks = [SSLTask(whole)]
    Trainer(tasks[0], whole).fit()
    first = SSLTask(cut)
    losses = iter([first.loss, first.loss])
    first.loss = lambda *args: next(losses)(*args)
    with pytest.raises(StopIteration):
        Trainer(first, cut).fit()
    tasks.append(SSLTask(cut))
    Trainer(tasks[1], cut).fit()
    queues = [task.terms["joint"].queue for task in tasks]
    assert torch.equal(*queues) and queues[0].shape == (8, 16)
    teachers = [task.terms["joint"].frozen["teacher"].state_dict() for task in tasks]
    assert all(torch.equal(x, teachers[1][name]) for name, x in teachers[0].items())


def test_the_queue_holds_the_last_targets(make):
    task = SSLTask(make(TERMS["moco"]))
    term = task.terms["joint"]
    start = term.queue.clone()
    task.model.train()
    task.loss(batch_of(task), torch.Generator().manual_seed(0))
    assert torch.equal(term.queue[:4], start[4:]) and not torch.equal(term.queue[4:], start[4:])
    task.model.eval()
    held = term.queue.clone()
    task.loss(batch_of(task), torch.Generator().manual_seed(0))
    assert torch.equal(term.queue, held)  # validation puts nothing in


def rank_after(make, term: str, run: str, steps: int = 150) -> dict:
    every = [f"{key}={steps}" for key in ("steps", "validate_every", "checkpoint_every", "log_every")]
    recipe = make(term, *every, "batch_size=16", "data.validation_clips=64", "optimizer.lr=0.01", run=run,
                  views="views: [{frames: 8}, {frames: 8}]",
                  heads="projector: {hidden: 32, channels: 16, norm: none}")  # fmt: skip
    task = SSLTask(recipe)
    Trainer(task, recipe).fit()
    return task.validate()


def test_without_what_keeps_them_apart_features_collapse_and_the_rank_says_so(make):
    kept = rank_after(make, "agreement: vicreg", "kept")
    lost = rank_after(make, "agreement: vicreg, settings: {variance: 0.0, covariance: 0.0}", "lost")
    assert lost["joint_loss"] < 0.1 * kept["joint_loss"]  # the loss of a collapse is the lowest there is
    assert lost["feature_std"] < 0.5 * kept["feature_std"] and lost["rankme"] < kept["rankme"]


def test_a_collapse_is_named_and_ends_the_run(make):
    recipe = make("agreement: vicreg, settings: {variance: 0.0, covariance: 0.0}", "steps=300", "validate_every=20",
                  "checkpoint_every=300", "log_every=300", "batch_size=16", "data.validation_clips=32",
                  "optimizer.lr=0.01", "collapse=0.5", views="views: [{frames: 8}, {frames: 8}]",
                  heads="projector: {hidden: 32, channels: 16, norm: none}")  # fmt: skip
    task = SSLTask(recipe)
    task.validate()
    with pytest.raises(VidgenError, match="features have collapsed: their spread, feature_std"):
        Trainer(task, recipe).fit()


@pytest.mark.parametrize(
    ("term", "more", "words"),
    [
        ("agreement: info_nce, queue: 6", [], "no whole number of batches of 4"),
        ("agreement: info_nce", ["batch_size=1"], "set batch_size to 2 or more"),
        ("agreement: nt_xent, queue: 4", [], "leave queue and negatives out"),
        ("agreement: swav", [], "swav and dino have some"),
        ("agreement: dino, prototypes: 4", [], "dino needs a teacher"),
        ("agreement: nt_xent, predictor: {hidden: 16}", [], "leave predictor out"),
        (f"agreement: barlow, {TEACHER}", [], "barlow has no teacher"),
        ("agreement: byol", [], "collapses"),
        ("agreement: info_nce, negatives: [{stars: 1}]", [], "unknown keys stars"),
        ("agreement: info_nce, negatives: [3]", [], "negatives.0=3 is not"),
        ("agreement: stars", [], "agreement 'stars' is unknown; choose one of info_nce"),
        ("agreement: info_nce", ["terms.joint.projector.norm=stars"], "projector: norm='stars' is unknown"),
        ("agreement: byol, predictor: {stars: 1}", [], "unknown keys stars"),
    ],
)
def test_what_cannot_agree_is_said_before_the_first_step(make, term, more, words):
    with pytest.raises(VidgenError, match=words):
        SSLTask(make(term, *more))


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ("views: [{frames: 4}]", "two or more"),
        ("views: [{frames: 4}, {frames: 8, stride: 2}]", "longer than a clip of 8"),
        ("views: [{frames: 4}, {frames: 3}]", "no multiple of patches of 2"),
    ],
)
def test_views_that_do_not_fit_are_refused(make, views, words):
    with pytest.raises(VidgenError, match=words):
        SSLTask(make("agreement: info_nce", views=views))


@pytest.mark.parametrize("term", ["agreement: barlow, settings: {temperature: 0.1}",
                                  "agreement: info_nce, settings: {temperature: hot}",
                                  "agreement: info_nce, settings: {temperature: 0}",
                                  "agreement: swav, prototypes: 4, settings: {assigned: 0}"])  # fmt: skip
def test_settings_that_an_objective_cannot_have_are_refused(make, term):
    with pytest.raises(VidgenError, match="are not ones of"):
        SSLTask(make(term))
