"""Task prior: a law that is learned comes down to its entropy; runs go on bit for bit; what does not fit is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.models.priors.config import ORDERS
from vidgen.models.priors.likelihood import likelihood
from vidgen.pipelines.priors.encoder import PriorEncoder
from vidgen.pipelines.priors.pipeline import PriorPipeline
from vidgen.tokenizers.model import VideoTokenizer
from vidgen.tokenizers.presets import PRESETS
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.generators.prior import PriorTask

SMALL = [
    "cached_clips=4", "steps=2", "batch_size=2", "log_every=1", "validate_every=2", "checkpoint_every=1",
    "data.validation_clips=2", "data.num_frames=5", "data.size=[16,16]", "autocast=float32",
    "optimizer={kind: adamw, lr: 0.003, warmup: 0, ema_decay: 0}", "model={width: 32, depth: 2, head_dim: 16}",
    "text_model={width: 16, depth: 1, head_dim: 16}", "digits=[]",
]  # fmt: skip


@pytest.fixture
def make(tmp_path):
    """Return a recipe over a tiny fsq tokenizer."""
    torch.manual_seed(0)
    config = replace(PRESETS["tiny"], latent_channels=3, bottleneck="fsq", levels=(3, 3, 2))
    VideoTokenizer(config).save_pretrained(tmp_path / "tok")
    places = [f"tokenizer={tmp_path / 'tok'}", f"cache={tmp_path / 'cache'}", f"out={tmp_path / 'run'}"]
    return lambda *more: load_recipe("prior_default", [*SMALL, *places, *more])


@pytest.mark.parametrize("order", ORDERS)
def test_a_run_ends_with_a_pipeline_that_makes_clips(make, order):
    recipe = make(f"model.order={order}")
    task = PriorTask(recipe)
    pipe = PriorPipeline.from_pretrained(Trainer(task, recipe).fit())
    assert pipe("a red circle", num_inference_steps=2).frames[0].shape == (5, 16, 16, 3)
    metrics = task.validate()
    assert ("bits_per_token" in metrics) == (order in ("causal", "random"))


def test_the_nats_are_those_of_the_law(make):
    task = PriorTask(make("drop_text=0", "digits=[9,2]"))
    batch = task.gather([task.dataset[(0, slot)] for slot in range(2)])
    assert batch["indices"].dtype == torch.int64 and batch["indices"].max() < 18
    loss, _ = task.loss(batch, torch.Generator().manual_seed(0))
    tokens, grid = task.tokens_of(batch["indices"])
    logits = task.prior(tokens, grid, task.text_encoder(batch["captions"]))
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(logits.mT, tokens).item(), rel=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_activations_that_are_computed_again_have_the_same_gradients(make, order):
    gradients, passes = [], []
    for again in ("false", "true"):
        task = PriorTask(make(f"model.order={order}", f"gradient_checkpointing={again}"))
        batch = task.gather([task.dataset[(0, slot)] for slot in range(2)])
        passes.append(0)

        def count(*_) -> None:
            passes[-1] += 1

        task.prior.blocks[0].norm1.register_forward_hook(count)
        task.loss(batch, torch.Generator().manual_seed(0))[0].backward()
        gradients.append([p.grad for p in task.prior.parameters() if p.grad is not None])
    assert passes == [1, 2] and all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("order", ORDERS)
def test_one_clip_is_learned_by_heart(make, order):
    every = [f"{key}=90" for key in ("steps", "validate_every", "checkpoint_every", "log_every")]
    recipe = make("cached_clips=1", *every, f"model.order={order}")
    task = PriorTask(recipe)
    batch = task.gather([task.dataset[(0, 0)]] * 2)

    def nats() -> float:
        with torch.no_grad():
            return sum(task.loss(batch, torch.Generator().manual_seed(k))[0].item() for k in range(4)) / 4

    before = nats()
    Trainer(task, recipe).fit()
    assert nats() < 0.2 * before


def test_a_run_that_was_cut_goes_on_bit_for_bit(make, tmp_path):
    whole = make("steps=3", f"out={tmp_path / 'whole'}")
    Trainer(PriorTask(whole), whole).fit()
    cut = make("steps=3", f"out={tmp_path / 'cut'}")
    task = PriorTask(cut)
    losses = iter([task.loss])
    task.loss = lambda *args: next(losses)(*args)
    with pytest.raises(StopIteration):
        Trainer(task, cut).fit()
    Trainer(PriorTask(cut), cut).fit()
    folders = [tmp_path / name / "final" for name in ("whole", "cut")]
    states = [PriorPipeline.from_pretrained(folder).prior.state_dict() for folder in folders]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.fixture
def make_continuous(make, tmp_path):
    """Return a recipe over the latents of a tiny kl tokenizer."""
    torch.manual_seed(0)
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(tmp_path / "kl")
    head = ["model.head_width=16", "model.head_depth=1", "time={density: logit_normal}"]
    return lambda *more: make(f"tokenizer={tmp_path / 'kl'}", "tokens=latents", *head, *more)


@pytest.mark.parametrize("order", ["causal", "frames"])
def test_a_run_over_latents_goes_on_bit_for_bit_and_ends_with_a_pipeline(make_continuous, tmp_path, order):
    pipes = []
    for name, calls in (("whole", 9), ("cut", 1)):
        recipe = make_continuous(f"model.order={order}", f"out={tmp_path / name}")
        task = PriorTask(recipe)
        losses = iter([task.loss] * calls)
        task.loss = lambda *args, losses=losses: next(losses)(*args)
        try:
            Trainer(task, recipe).fit()
        except StopIteration:
            Trainer(PriorTask(recipe), recipe).fit()
        pipes.append(PriorPipeline.from_pretrained(tmp_path / name / "final"))
    assert pipes[0].scheduler.time_distribution == task.time and task.time.density == "logit_normal"
    states = [pipe.prior.state_dict() for pipe in pipes]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    clip = pipes[0]("a red circle", num_inference_steps=2, num_diffusion_steps=2)
    assert clip.frames[0].shape == (5, 16, 16, 3)
    assert task.validate() == task.validate() and "bits_per_token" not in task.validate()


def test_the_loss_over_latents_is_that_of_what_is_known(make_continuous):
    task = PriorTask(make_continuous("drop_text=0", "head_draws=400"))
    batch = task.gather([task.dataset[(0, slot)] for slot in range(2)])
    tokens, grid = task.tokens_of(batch["latents"])
    assert tokens.shape == (2, grid[0] * grid[1] * grid[2], 4) and "indices" not in batch
    loss, _ = task.loss(batch, torch.Generator().manual_seed(0))
    # a new head says velocity 0, whose error is |eps - x0|^2: 1 + x0^2 in the mean
    assert loss.item() == pytest.approx(1.0 + tokens.square().mean().item(), rel=0.05)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.codebook_sizes=[4]"], "model.codebook_sizes is not for recipes"),
        (["model.channels=4"], "model.channels is not for recipes"),
        (["tokens=latents", "digits=[9,2]"], "digits=.* are of indices"),
    ],
)
def test_recipes_that_cannot_be(make, overrides, message):
    with pytest.raises(VidgenError, match=message):
        make(*overrides)


def test_digits_and_tokenizers_that_do_not_fit(make, tmp_path):
    with pytest.raises(VidgenError, match=r"digits \[4, 4\] are 16 codes; the tokenizer .* has 18"):
        PriorTask(make("digits=[4,4]"))
    VideoTokenizer(PRESETS["tiny"]).save_pretrained(tmp_path / "kl")
    with pytest.raises(VidgenError, match="has no codebook"):
        PriorTask(make(f"tokenizer={tmp_path / 'kl'}"))
    with pytest.raises(VidgenError, match="path cosine is not for the head"):
        PriorTask(make(f"tokenizer={tmp_path / 'kl'}", "tokens=latents", "time={path: cosine}"))


@pytest.mark.parametrize("order", ("causal", "frames"))
def test_a_world_model_learns_what_an_action_does(make, order):
    recipe = make(
        "actions=true", "data.sources=[{kind: walks}]", "cached_clips=2", "drop_text=1", "steps=150",
        "validate_every=150", "checkpoint_every=150", "log_every=150", f"model.order={order}",
    )  # fmt: skip
    task = PriorTask(recipe)
    pipe = PriorPipeline.from_pretrained(Trainer(task, recipe).fit())
    walks = [task.gather([task.dataset[(0, slot)]]) for slot in range(8)]
    one = walks[0]
    other = next(walk for walk in walks if not torch.equal(walk["actions"], one["actions"]))
    tokens, grid = task.tokens_of(one["indices"])
    told = {"text": task.text_encoder([""])}
    nats = [likelihood(task.prior, tokens, grid, actions=walk["actions"], **told).nats.item() for walk in (one, other)]
    assert nats[0] < 0.75 * nats[1]  # its own actions tell which of the two clips it is
    values = np.zeros((1, 5, 2), dtype=np.float32)
    values[0, 1:] = task.dataset.actions(0)[1:]
    assert pipe("", actions=values, num_inference_steps=2).frames[0].shape == (5, 16, 16, 3)


def test_actions_are_of_walks_and_are_told(make):
    with pytest.raises(VidgenError, match="give sources of kind=walks alone"):
        make("actions=true")
    task = PriorTask(make("actions=true", "data.sources=[{kind: walks}]"))
    with pytest.raises(VidgenError, match=r"give actions=, \(prompts, 5, 2\) numbers"):
        task.pipe("a star")
    for values, words in ((np.zeros((1, 4, 2)), "one a frame of"), (np.full((1, 5, 2), np.nan), "not finite")):
        with pytest.raises(VidgenError, match=words):
            task.pipe("a star", actions=values)
    with pytest.raises(VidgenError, match="extraction has clips without actions"):
        PriorEncoder(task.pipe)
    with pytest.raises(VidgenError, match="is told no actions"):
        PriorTask(make()).pipe("a star", actions=np.zeros((1, 5, 2)))


def test_images_and_clips_train_one_prior(make):
    """Batches are of one length each; a clip's first latent frame is an image's."""
    shapes = "[{kind: shapes, share: 0.5, num_frames: 1}, {kind: shapes, share: 0.5}]"
    task = PriorTask(make(f"data.sources={shapes}"))
    lengths = set()
    for step in range(8):
        batch = task.gather([task.dataset[(step, slot)] for slot in range(2)])
        lengths.add(batch["indices"].shape[1])
        task.loss(batch, torch.Generator().manual_seed(step))[0].backward()
    assert lengths == {1, task.tokenizer.latent_frames(5)}
    assert task.pipe("a star", num_frames=1).frames[0].shape == (1, 16, 16, 3)
