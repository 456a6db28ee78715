"""Task ssl in two processes of half a batch each is task ssl in one of the whole: losses, gradients, what is kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vidgen.diffusion.noise import sample_generator
from vidgen.train.config.files import load_recipe
from vidgen.train.runtime import distributed
from vidgen.train.runtime.loop import Trainer
from vidgen.train.tasks.ssl import clustered, co_training, cycles, joint, masked, segments
from vidgen.train.tasks.ssl.task import SSLTask

pytestmark = pytest.mark.slow
BATCH = 6
RUN = [
    "steps=2", f"batch_size={BATCH}", "log_every=1", "validate_every=2", "checkpoint_every=2",
    "data.validation_clips=4", "data.num_frames=8", "data.size=[16,16]", "autocast=float32", "probe_clips=8",
    "optimizer={kind: adamw, lr: 0.003, warmup: 0, ema_decay: 0}",
    "encoder={patch: [2, 8, 8], width: 16, depth: 1, head_dim: 16}",
]  # fmt: skip
JOINT = "kind: joint, projector: {hidden: 16, channels: 8}"  # of batch norm
TEACHER = "teacher: {decay: 0.9}"
HIDDEN = "mask: {kind: future, ratio: 0.5}, predictor: {width: 16, depth: 1, head_dim: 16}"
TERMS = {
    "info_nce": f"{JOINT}, agreement: info_nce, {TEACHER}, queue: 12, predictor: {{hidden: 8}}",
    "own_negatives": f"{JOINT}, agreement: info_nce, negatives: [{{order: reversed}}]",
    "nt_xent": f"{JOINT}, agreement: nt_xent",
    "byol": f"{JOINT}, agreement: byol, {TEACHER}, predictor: {{hidden: 8}}",
    "barlow": f"{JOINT}, agreement: barlow",
    "vicreg": f"{JOINT}, agreement: vicreg",
    "lejepa": f"{JOINT}, agreement: lejepa, settings: {{directions: 8}}",
    "wasserstein": f"{JOINT}, agreement: wasserstein",
    "swav": f"{JOINT}, agreement: swav, prototypes: 5",
    "dino": f"{JOINT}, agreement: dino, prototypes: 6, {TEACHER}",
    "hierarchical": f"{JOINT.replace('joint', 'hierarchical')}, agreement: info_nce, layers: [blocks.0], queue: 12",
    "co_training": "kind: co_training, queue: 12, positives: 2, mine_after: 2, projector: {hidden: 16, channels: 8}",
    "cycle": "kind: cycle, projector: {hidden: 16, channels: 8}",
    "walk": "kind: walk, node: 1, projector: {layers: 2, hidden: 16, channels: 8}",
    "contrastive_future": "kind: future, predictor: contrastive",
    "bidirectional": "kind: future, predictor: bidirectional",
    "sinkhorn": f"kind: sinkhorn, prototypes: 5, {HIDDEN}",
    "sigreg": f"kind: masked, target: self, regularizer: sigreg, {HIDDEN}",
    "vicreg_tokens": f"kind: masked, target: self, regularizer: vicreg, {HIDDEN}",
    "cpnet": "kind: segments, pretext: missing_section",
}


def view_of(config, video: Tensor, generator: torch.Generator) -> Tensor:
    """A view that no chance makes, unlike the clip."""
    return video if config.order == "kept" else video.flip(2)


def hide(mask, encoder, video: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The second half of the tokens, of every clip."""
    places = torch.arange(16).expand(len(video), -1)
    return places[:, :8], places[:, 8:]


def cut_halves(name: str, video: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Both halves of every clip, and labels that nobody reads."""
    return torch.stack(video.chunk(2, dim=2), dim=1), torch.zeros(len(video)).long()


@contextmanager
def without_chance() -> Iterator[None]:
    """What a process draws for its own clips is its own: here it is nothing, so that two may be one. And all numbers
    are float64, whose rounding no batch norm makes visible."""
    before = torch.get_default_dtype()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        for module in (joint, co_training, cycles):
            patch.setattr(module, "draw_view", view_of)
        for module in (masked, clustered):
            patch.setattr(module, "hide_tokens", hide)
        patch.setattr(segments, "draw_segments", cut_halves)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def recipe_of(term: str, out: Path):
    views = "" if "agreement" not in term else ", views: [{}, {order: reversed}]"
    return load_recipe("ssl", [*RUN, f"out={out}", f"terms={{it: {{{term}{views}}}}}"])


def learn(folder: Path, every: dict[str, str]) -> None:
    """Write of each term the loss and the gradients of two steps, and what is kept after them."""
    with without_chance():
        for name, term in every.items():
            recipe = recipe_of(term, folder / "run")
            task = SSLTask(recipe)
            task.model.train()
            data = distributed.ShardedDataset(task.dataset, BATCH)
            parameters, rows = list(task.model.parameters()), []
            for step in range(2):
                batch = task.gather([data[(step, slot)] for slot in range(data.size)])
                batch["video"] = batch["video"].double()
                generator = sample_generator(0, f"{step} of {distributed.rank()}")
                loss, parts = task.loss(batch, generator)
                task.model.zero_grad()
                loss.backward()
                distributed.average_gradients(parameters)
                value = distributed.all_reduce_mean({"loss": loss.item(), **parts})
                rows += [
                    torch.tensor(list(value.values())),
                    *(p.grad.clone() for p in parameters if p.grad is not None),
                ]
                with torch.no_grad():
                    for p in parameters:
                        p -= 0.0 if p.grad is None else 0.05 * p.grad
            kept = {**task.terms["it"].state_dict_of_term(), **dict(task.model.named_buffers())}
            torch.save({"rows": rows, "kept": kept}, folder / f"{name}-{distributed.rank()}.pt")


def test_two_processes_learn_as_one(in_two: Callable[..., list], tmp_path: Path) -> None:
    folders = [tmp_path / "alone", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    learn(folders[0], TERMS)
    in_two(learn, folders[1], TERMS)
    for name in TERMS:
        alone, first, second = (
            torch.load(path) for path in (folders[0] / f"{name}-0.pt", *(folders[1] / f"{name}-{i}.pt" for i in (0, 1)))
        )
        assert len(alone["rows"]) == len(first["rows"]) > 4
        ours, theirs = (torch.cat([row.flatten() for row in x["rows"]]) for x in (first, alone))
        assert (ours - theirs).abs().max() < 1e-10, name
        for key, value in alone["kept"].items():
            assert torch.equal(first["kept"][key], second["kept"][key]), (name, key)
            assert torch.allclose(first["kept"][key], value, rtol=0, atol=1e-10), (name, key)


def run(folder: Path) -> list:
    """What a process has after two steps of two clips: of a whole run, with chance, in bfloat16, that validates. And
    three draws, of which two are to be the first process's."""
    recipe = recipe_of(TERMS["info_nce"].replace("12", "4"), folder)
    recipe.batch_size, recipe.autocast = 2, "bfloat16"
    task = SSLTask(recipe)
    Trainer(task, recipe).fit()
    kept = [*task.model.state_dict().values(), *task.terms["it"].state_dict_of_term().values()]
    generator = torch.Generator().manual_seed(distributed.rank())
    drawn = [torch.rand((), generator=distributed.first_generator(generator)).item() for _ in range(2)]
    return [[x.double().sum().item() for x in kept], [*drawn, torch.rand((), generator=generator).item()]]


def test_a_run_of_one_clip_a_process_stays_one_run(in_two: Callable[..., list], tmp_path: Path) -> None:
    (first, drawn), (second, drawn_too) = in_two(run, tmp_path / "run")
    assert first == second  # to the bit
    assert (tmp_path / "run" / "final" / "config.json").is_file()
    alone = torch.rand(3, generator=torch.Generator().manual_seed(0)).tolist()
    own = torch.rand(1, generator=torch.Generator().manual_seed(1)).tolist()  # the second one's own goes on from there
    assert drawn == alone and drawn_too == alone[:2] + own


def test_one_process_gathers_nothing() -> None:
    rows, generator = torch.zeros(2, 3), torch.Generator()
    assert distributed.gather_rows(rows) is rows and distributed.first_generator(generator) is generator
