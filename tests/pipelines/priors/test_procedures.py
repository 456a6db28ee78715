"""Procedures of a small grammar: plans between a start and a goal, what comes next, and labels of the task alone."""

import pytest
import torch

from vidgen.diffusion.noise import sample_generator
from vidgen.errors import VidgenError
from vidgen.interfaces import MASK
from vidgen.models.priors.config import TokenPriorConfig
from vidgen.models.priors.likelihood import masked_nats
from vidgen.models.priors.token_prior import TokenPrior
from vidgen.pipelines.priors.procedures import complete_procedure, procedure_logits
from vidgen.samplers.autoregressive.categorical import TokenSampling
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.generators.known_entropy import KnownEntropyTask

TASKS, STARTS, STEPS = 3, 3, 5
LABELS = STARTS + 3 * TASKS + STARTS
GREEDY = TokenSampling(temperature=0.0)


def grammar() -> tuple[torch.Tensor, torch.Tensor]:
    """All procedures, and the task of each: a start, a tool of the task, work on what it starts from, a finish and a
    goal of the task. So start and goal determine a procedure, and so do its first two steps."""
    start, task = (x.flatten() for x in torch.meshgrid(torch.arange(STARTS), torch.arange(TASKS), indexing="ij"))
    tool, finish, goal = (STARTS + kind * TASKS + task for kind in range(3))
    return torch.stack([start, tool, STARTS + 3 * TASKS + start, finish, goal], dim=1), task


@pytest.fixture(scope="module")
def prior() -> TokenPrior:
    torch.manual_seed(0)
    config = TokenPriorConfig(codebook_sizes=(LABELS,), order="masked", width=48, depth=2, head_dim=24, classes=TASKS)
    model = TokenPrior(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=200)
    generator = torch.Generator().manual_seed(1)
    steps, task = (x.repeat(6, *[1] * (x.ndim - 1)) for x in grammar())
    for _ in range(200):
        hidden = torch.rand(len(task), generator=generator) < 0.5
        shown = task.masked_fill(hidden, TASKS)  # often the task is not told
        loss = masked_nats(model, steps, (1, 1, STEPS), generator, class_id=shown).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return model.eval().requires_grad_(False)


def hide(steps: torch.Tensor, *places: int) -> torch.Tensor:
    known = torch.full_like(steps, MASK)
    known[:, list(places)] = steps[:, list(places)]
    return known


@pytest.mark.slow
def test_the_plan_between_start_and_goal_is_the_grammars(prior):
    steps, task = grammar()
    untold = torch.full_like(task, TASKS)
    generators = [sample_generator(0, i) for i in range(len(steps))]
    plan = complete_procedure(prior, hide(steps, 0, STEPS - 1), generators, class_id=untold)
    assert torch.equal(plan, steps)  # drawn, not the most probable: the law has one plan


@pytest.mark.slow
def test_the_next_steps_follow_from_two_or_from_one_and_the_task(prior):
    steps, task = grammar()
    untold = torch.full_like(task, TASKS)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(complete_procedure(prior, hide(steps, 0, 1), generator, class_id=untold, sampling=GREEDY), steps)
    assert torch.equal(complete_procedure(prior, hide(steps, 0), generator, class_id=task, sampling=GREEDY), steps)


@pytest.mark.slow
def test_after_one_step_of_no_task_each_is_as_probable(prior):
    steps, task = grammar()
    known = hide(steps, 0)
    law = procedure_logits(prior, torch.full_like(task, TASKS))(known).softmax(-1)[:, 1]
    tools = law[:, STARTS : STARTS + TASKS]
    assert torch.allclose(tools, torch.tensor(1 / TASKS), atol=0.1) and float(tools.sum(1).min()) > 0.97


@pytest.mark.slow
def test_labels_of_other_tasks_are_never_drawn(prior):
    steps, task = grammar()
    allowed = torch.zeros(len(steps), LABELS, dtype=torch.bool)
    allowed[:, :3] = True
    known = torch.full_like(steps, MASK)
    untold = torch.full_like(task, TASKS)
    generators = [sample_generator(0, i) for i in range(len(steps))]
    hot = TokenSampling(temperature=5.0)
    drawn = complete_procedure(prior, known, generators, class_id=untold, allowed=allowed, sampling=hot)
    assert set(drawn.unique().tolist()) == {0, 1, 2}
    free = complete_procedure(prior, known, generators, class_id=untold, sampling=hot)
    assert set(free.unique().tolist()) == set(range(LABELS))


def test_what_is_no_procedure_says_so():
    causal = TokenPrior(TokenPriorConfig(codebook_sizes=(4,), width=16, depth=1, head_dim=16))
    steps = torch.full((1, 3), MASK)
    with pytest.raises(VidgenError, match="order masked or random with one codebook and no words, not of order causal"):
        complete_procedure(causal, steps, torch.Generator())
    masked = TokenPrior(TokenPriorConfig(codebook_sizes=(4,), order="masked", width=16, depth=1, head_dim=16))
    with pytest.raises(VidgenError, match="task 0 allows no label"):
        complete_procedure(masked, steps, torch.Generator(), allowed=torch.zeros(1, 4, dtype=torch.bool))


@pytest.mark.slow
def test_plans_of_a_prior_in_any_order_are_those_of_the_graph(tmp_path):
    """Between a start and a goal it draws the ways of training from one to the other, each of them, far more often
    than the 5% of pairs of labels that they are."""
    settings = "world_settings={steps: 4, labels: 6, branches: 2}"
    shape = "model={order: random, width: 48, depth: 2, head_dim: 24}"
    rounds = [f"{key}=150" for key in ("steps", "validate_every", "checkpoint_every", "log_every")]
    more = [
        "optimizer={kind: adamw, lr: 0.01, warmup: 10, ema_decay: 0}",
        "data.validation_clips=64",
        "autocast=float32",
    ]
    recipe = load_recipe("known_entropy", ["world=procedures", settings, shape, *rounds, *more, f"out={tmp_path}"])
    task = KnownEntropyTask(recipe)
    prior, world = TokenPrior.from_pretrained(Trainer(task, recipe).fit()), task.world
    trained = {tuple(world.draw(number, "train").tokens.flat) for number in range(400)}
    ends = [(p[0], p[-1]) for p in trained]
    start, goal = min(pair for pair in ends if ends.count(pair) > 1)
    ways = [p for p in trained if (p[0], p[-1]) == (start, goal)]
    known = torch.tensor([[start, MASK, MASK, goal]]).expand(200, -1)
    plans = complete_procedure(prior, known, [sample_generator(0, k) for k in range(200)])
    counts = [sum(tuple(plan) == way for plan in plans.tolist()) for way in ways]
    assert sum(counts) > 60 and min(counts) > 5
