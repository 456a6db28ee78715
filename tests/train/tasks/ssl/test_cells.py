"""Task ssl over a tokenizer's latents or indices, and indices as targets."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vidgen.checkpoints.hashing import model_hash
from vidgen.errors import VidgenError
from vidgen.models.encoders.video_vit import VideoViT, VideoViTConfig
from vidgen.pipelines.loading import load_feature_encoder, load_tokenizer
from vidgen.representations.latent_encoder import LatentEncoder
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.ssl.task import SSLTask
from vidgen.train.tasks.ssl.term import ClipBatch, hide_tokens

SMALL = [
    "steps=2", "batch_size=4", "log_every=1", "validate_every=2", "checkpoint_every=1", "data.validation_clips=4",
    "data.num_frames=9", "data.size=[32,32]", "autocast=float32", "probe_clips=8",
    "optimizer={kind: adamw, lr: 0.003, warmup: 0, ema_decay: 0}",
]  # fmt: skip
ENCODER = "encoder={width: 32, depth: 1, head_dim: 16}"
PREDICTOR = "predictor: {width: 32, depth: 1, head_dim: 16}"
MASK = f"mask: {{ratio: 0.5}}, {PREDICTOR}"
PLAIN = "{colour: 0, gray: 0, crop: 1}"
CODES = 18


@pytest.fixture
def tokenizers(tmp_path):
    """Folders of tiny tokenizers of cells of (4, 8, 8), with latents or with codes; `seed` makes others."""

    def save(reads: str = "latents", seed: int = 0) -> str:
        torch.manual_seed(seed)
        discrete = {"bottleneck": "fsq", "latent_channels": 3, "levels": (3, 3, 2)}
        folder = tmp_path / f"{reads}-{seed}"
        VideoTokenizer(replace(PRESETS["tiny"], **(discrete if reads == "indices" else {}))).save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture
def make(tokenizers, tmp_path):
    """Return the recipe of a tiny encoder over cells, or of pixels, with one term."""

    def load(reads: str, term: str, *more: str, run: str = "run"):
        over = [] if reads == "pixels" else [f"reads={reads}", f"tokenizer={tokenizers(reads)}"]
        return load_recipe("ssl", [*SMALL, ENCODER, *over, f"out={tmp_path / run}", f"terms={{it: {{{term}}}}}", *more])

    return load


def batch_of(task: SSLTask) -> dict:
    return task.gather([task.dataset[(0, slot)] for slot in range(4)])


@pytest.mark.parametrize("reads", ["latents", "indices"])
def test_a_run_ends_with_an_encoder_of_pixels_over_what_it_learned_from(make, reads):
    recipe = make(reads, f"kind: masked, target: teacher, {MASK}")
    task = SSLTask(recipe)
    video = batch_of(task)["video"]
    encoded = load_tokenizer(recipe.tokenizer, dtype=torch.float32).encode(video)
    cells = encoded.latents if reads == "latents" else encoded.indices[:, None]
    inputs = []
    task.encoder.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    task.loss(batch_of(task), torch.Generator().manual_seed(0))
    assert inputs and all(torch.equal(x, cells) for x in inputs)
    folder = Trainer(task, recipe).fit()
    encoder = load_feature_encoder(str(folder))
    assert isinstance(encoder, LatentEncoder) and (encoder.num_frames, encoder.height, encoder.fps) == (9, 32, 8)
    assert encoder.feature_info[0].reduction == (4, 8, 8)
    pairs = ((encoder, video), (encoder.encoder, cells), (task.encoder, cells))
    features, over_cells, trained = (dict(x.iter_features(y))["blocks.0"] for x, y in pairs)
    assert torch.equal(features, over_cells) and torch.allclose(features, trained, atol=1e-5)
    assert model_hash(load_feature_encoder(str(folder.parent / "best"))) == model_hash(encoder)
    assert {"loss", "knn_shape", "rankme"} <= task.validate().keys()


@pytest.mark.parametrize("reads", ["latents", "indices"])
def test_a_run_that_was_cut_goes_on_bit_for_bit_and_not_on_another_tokenizer(make, tokenizers, reads):
    term = f"kind: indices, {MASK}" if reads == "indices" else f"kind: masked, target: pixels, {MASK}"
    whole = make(reads, term, "steps=3", run="whole")
    Trainer(SSLTask(whole), whole).fit()
    cut = make(reads, term, "steps=3", run="cut")
    task = SSLTask(cut)
    losses = iter([task.loss])
    task.loss = lambda *args: next(losses)(*args)
    with pytest.raises(StopIteration):
        Trainer(task, cut).fit()
    own = Path(cut.tokenizer)
    own.rename(own.with_name("kept"))
    Path(tokenizers(reads, 1)).rename(own)  # another one in its place
    with pytest.raises(VidgenError, match="is not the one that this run began on"):
        Trainer(SSLTask(cut), cut).fit()
    own.rename(own.with_name("other"))
    own.with_name("kept").rename(own)
    folder = Trainer(SSLTask(cut), cut).fit()
    assert model_hash(load_feature_encoder(str(folder))) == model_hash(load_feature_encoder(f"{whole.out}/final"))


def test_an_encoder_goes_on_over_the_same_tokenizer_alone(make, tokenizers, tmp_path):
    term = f"kind: masked, target: pixels, {MASK}"
    recipe = make("latents", term, "steps=1", "validate_every=1")
    first = SSLTask(recipe)
    folder = Trainer(first, recipe).fit()
    again = SSLTask(make("latents", term, f"init_from={folder}", "data.num_frames=13")).encoder
    state = first.encoder.state_dict()
    assert again.config.clip == (4, 4, 4) and all(torch.allclose(x, state[k]) for k, x in again.state_dict().items())
    VideoViT(VideoViTConfig(width=32, depth=1, head_dim=16)).save_pretrained(tmp_path / "pixels")
    for more, words in (
        ([f"tokenizer={tokenizers('latents', 1)}"], "reads latents of the tokenizer .*, not latents of .*latents-1"),
        (["reads=pixels", "tokenizer=default"], "reads latents; set reads=latents tokenizer=.*latents-0"),
        ([f"init_from={tmp_path / 'pixels'}"], "is a VideoViT, of pixels; leave it out, or reads=latents"),
        (["encoder.width=64"], "has encoder.width=32, not 64"),
    ):
        with pytest.raises(VidgenError, match=words) as error:
            SSLTask(make("latents", term, f"init_from={folder}", *more))
        assert "\n" not in str(error.value)


ALL = {
    "kind: masked, target: self, regularizer: sigreg, " + MASK: "pixels latents indices",
    f"kind: masked, target: teacher, view: {PLAIN}, {MASK}": "pixels latents indices",
    "kind: masked, " + MASK: "pixels latents",
    f"kind: masked, target: pixels, mask: {{kind: motion, ratio: 0.5}}, {PREDICTOR}": "pixels latents",
    f"kind: joint, views: [{PLAIN}, {{colour: 0, gray: 0, crop: 1, frames: 2}}]": "latents indices",
    "kind: joint, views: [{colour: 0, gray: 0}, {colour: 0, gray: 0}]": "latents",
    f"kind: clusters, target: pixels, clusters: 4, fit_clips: 4, {MASK}": "latents",
    f"kind: sinkhorn, prototypes: 4, {MASK}": "latents",
    "kind: future": "latents indices",
    "kind: stochastic": "latents",
    f"kind: cycle, view: {PLAIN}": "latents indices",
    "kind: walk": "latents indices",
    f"kind: co_training, queue: 4, positives: 2, mine_after: 1, views: [{PLAIN}, {PLAIN}]": "latents",
    "kind: supervised": "latents indices",
}


@pytest.mark.parametrize(("term", "reads"), [(term, x) for term, words in ALL.items() for x in words.split()])
def test_terms_that_make_sense_of_cells_train(make, term, reads):
    task = SSLTask(make(reads, term, *(["data.num_frames=8", "encoder.patch=[2,8,8]"] if reads == "pixels" else [])))
    loss, _ = task.loss(batch_of(task), torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.isfinite() and any(x.grad is not None and x.grad.any() for x in task.encoder.parameters())


@pytest.mark.parametrize(
    ("reads", "term", "more", "words"),
    [
        ("latents", f"kind: masked, target: hog, {MASK}", [], "target hog is made of pixels, and the encoder"),
        ("latents", f"kind: masked, target: latents, {MASK}", [], "target latents is made of pixels"),
        ("latents", f"kind: masked, target: features, source: default, {MASK}", [], "features is made of pixels"),
        ("indices", f"kind: masked, {MASK}", [], "choose one of teacher, self"),
        ("indices", "kind: clusters, level: clip", [], "kind clusters is for pixels and latents"),
        ("indices", f"kind: sinkhorn, {MASK}", [], "kind sinkhorn is for pixels and latents, and the encoder reads"),
        ("indices", "kind: stochastic", [], "kind stochastic is for pixels and latents"),
        ("latents", "kind: pretext", [], "kind pretext is for pixels, and the encoder reads latents"),
        ("indices", "kind: segments", [], "kind segments is for pixels"),
        ("indices", "kind: future, predictor: composite", [], "predictor composite makes pictures of pixels"),
        ("latents", "kind: joint", [], "colours are of pixels, and the encoder reads latents; give views colour: 0"),
        ("indices", "kind: joint, views: [{colour: 0, gray: 0}, {}]", [], "a crop is resized, and indices cannot be"),
        ("indices", "kind: masked, target: self, mask: {kind: motion, ratio: 0.5}", [], "mask motion looks at pixels"),
        ("indices", "kind: masked, target: self, mask: {kind: region, ratio: 0.5}", [], "mask region looks at pixels"),
        ("latents", "kind: masked, target: self, mask: {kind: flow, ratio: 0.5}", [], "mask flow looks at pixels"),
        ("latents", "kind: supervised", ["encoder.patch=[2,2,2]"], "give patches of one, as"),
        ("latents", "kind: supervised", ["encoder.patch=[1,3,3]"], "no multiple of the encoder's patches"),
        ("latents", "kind: supervised", ["encoder={kind: resnet}"], "encoder.kind=resnet reads pixels"),
        ("latents", "kind: supervised", ["encoder.in_channels=4"], "encoder.in_channels is not for recipes"),
        ("latents", "kind: supervised", ["adapt={kind: lora}"], "adapt is beside an encoder of pixels"),
        ("latents", "kind: supervised", ["tokenizer=nowhere"], "nowhere"),
        ("indices", "kind: supervised", ["tokenizer=default"], "tokenizer=default has no codebook: name the folder"),
        ("pixels", "kind: supervised", ["tokenizer=mine"], "is for reads=latents or indices"),
        ("pixels", "kind: supervised", ["reads=sounds"], "reads='sounds' is unknown"),
        ("latents", f"kind: indices, {MASK}", [], "has no codebook"),
        ("indices", f"kind: indices, tokenizer: other, {MASK}", [], "leave the term's tokenizer out"),
        ("pixels", f"kind: indices, {MASK}", ["data.num_frames=8"], "give tokenizer: FOLDER"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_before_the_first_step(make, reads, term, more, words):
    with pytest.raises(VidgenError, match=words) as error:
        SSLTask(make(reads, term, *more))
    assert "\n" not in str(error.value)


def test_tokenizers_of_several_or_too_many_codes_are_refused(make, tmp_path):
    several = {"bottleneck": "residual", "latent_channels": 4, "codebook_size": 8, "quantizers": 2}
    many = {"bottleneck": "lfq", "latent_channels": 17}
    for settings, words in ((several, "has 2 codes a cell"), (many, "has 131072 codes")):
        VideoTokenizer(replace(PRESETS["tiny"], **settings)).save_pretrained(tmp_path / settings["bottleneck"])
        with pytest.raises(VidgenError, match=words):
            SSLTask(make("indices", "kind: supervised", f"tokenizer={tmp_path / settings['bottleneck']}"))


def pixels_term(folder: str, patch: str) -> tuple[str, list[str]]:
    """A term of indices for an encoder of pixels, and what its recipe says."""
    return f"kind: indices, tokenizer: {folder}, {MASK}", ["data.num_frames=8", f"encoder.patch={patch}"]


@pytest.mark.parametrize("patch", [(2, 8, 8), (2, 16, 8), (4, 4, 8)])
def test_the_indices_of_a_token_of_pixels_are_those_of_its_square_at_its_last_frame(make, tokenizers, patch):
    folder = tokenizers("indices")
    term, more = pixels_term(folder, str(list(patch)))
    task = SSLTask(make("pixels", term, *more))
    video = batch_of(task)["video"]
    indices = load_tokenizer(folder, dtype=torch.float32).encode(video).indices
    labels = task.terms["it"].target(video)
    t, h, w = (n // p for n, p in zip((8, 32, 32), patch, strict=True))
    assert labels.shape[1] == t * h * w
    for token in range(t * h * w):
        frame, row, column = token // (h * w), token // w % h, token % w
        last = frame * patch[0] + patch[0] - 1
        inside = [
            indices[:, math.ceil(last / 4), y // 8, x // 8]
            for y in range(row * patch[1], (row + 1) * patch[1], min(8, patch[1]))
            for x in range(column * patch[2], (column + 1) * patch[2], min(8, patch[2]))
        ]
        assert torch.equal(labels[:, token], torch.stack(inside, dim=1))


@pytest.mark.parametrize("reads", ["pixels", "latents", "indices"])
def test_the_loss_of_indices_is_their_cross_entropy(make, tokenizers, reads):
    folder = tokenizers("indices")
    term, more = pixels_term(folder, "[2,16,16]")
    if reads != "pixels":
        term, more = f"kind: indices, {MASK}", [f"tokenizer={folder}", "encoder.patch=[1,2,2]"]
    task = SSLTask(make(reads, term, *more))
    video = batch_of(task)["video"]
    indexed, batch = task.terms["it"], ClipBatch(task.read(video), clips=video)
    keep, asked = hide_tokens(indexed.mask, task.encoder, batch.video, torch.Generator().manual_seed(3))
    labels = indexed.target(video).gather(1, asked[..., None].expand(-1, -1, 4))
    logits = indexed.head(task.encoder(batch.video, keep), keep, asked, task.encoder.grid_of(batch.video))
    by_hand = -logits.reshape(*labels.shape, CODES).log_softmax(-1).gather(-1, labels[..., None]).mean()
    loss, _ = indexed.loss(task.encoder, batch, torch.Generator().manual_seed(3))
    torch.testing.assert_close(loss, by_hand)
    if reads == "indices":  # what is told is what is read
        cells = batch.video[:, 0].unfold(2, 2, 2).unfold(3, 2, 2).flatten(4).flatten(1, 3)
        assert torch.equal(indexed.target(video), cells)
    del indexed.head
    indexed.head = lambda *_: (1000.0 * F.one_hot(labels, CODES)).flatten(2)  # one that knows
    loss, parts = indexed.loss(task.encoder, batch, torch.Generator().manual_seed(3))
    counts = torch.bincount(labels.flatten(), minlength=CODES) / labels.numel()
    assert loss == 0.0 and parts["accuracy"] == 1.0
    assert parts["clusters"].item() == pytest.approx(torch.special.entr(counts).sum().exp().item(), rel=1e-5)


def test_indices_that_those_seen_tell_are_learned(make, learn):
    task = SSLTask(make("indices", f"kind: indices, {MASK}"))
    clips = batch_of(task)["video"][[0, 1]]  # of two clips, what is seen tells which it is
    batch = {"video": clips.repeat(4, 1, 1, 1, 1), "captions": [], "labels": []}
    used = task.reader(clips).flatten(1)
    assert not torch.equal(*used)
    rows = learn(task, batch, steps=150, lr=0.01)
    _, parts = task.loss(batch, torch.Generator().manual_seed(999))  # a mask that it has not seen
    assert rows[0]["it_accuracy"] < 0.5 and parts["it_accuracy"] > 0.95


def test_a_run_on_indices_of_another_tokenizer_does_not_go_on(make, tokenizers):
    term, more = pixels_term(tokenizers("indices"), "[2,8,8]")
    recipe = make("pixels", term, *more, "steps=1", "validate_every=1")
    Trainer(SSLTask(recipe), recipe).fit()
    own = Path(recipe.terms["it"]["tokenizer"])
    own.rename(own.with_name("kept"))
    Path(tokenizers("indices", 1)).rename(own)
    with pytest.raises(VidgenError, match="is not the one whose indices this run began with"):
        Trainer(SSLTask(recipe), recipe).fit()
