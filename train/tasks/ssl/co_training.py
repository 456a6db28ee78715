"""Co-training: two streams of a clip, of which each says which clips are alike for the other."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vidgen.checkpoints.pretrained import config_from_dict
from vidgen.errors import VidgenError
from vidgen.interfaces import TokenEncoder
from vidgen.models.encoders.clip_encoder import ClipEncoder
from vidgen.models.heads.mlp import Projector
from vidgen.train.config.correspondence import CoTrainingTermConfig
from vidgen.train.config.self_supervised import ProjectorConfig, SSLRecipe, TeacherConfig
from vidgen.train.objectives.contrastive import check_batch, mine_positives, multi_positive_nce
from vidgen.train.objectives.parts import LossAndParts
from vidgen.train.tasks.ssl.term import ClipBatch, Term, embed_each, make_queue, make_views, whole_batch
from vidgen.train.views.clips import draw_view, frame_differences

Rows = Float[Tensor, "b d"]
STREAMS: dict[str, Callable[[Tensor], Tensor]] = {"pixels": lambda video: video, "differences": frame_differences}


class CoTrainingTerm(Term):
    """Clips are told from others in each of two streams; the nearest ones in the other stream are positives beside the
    clip itself (Han et al. 2020, CoCLR), both streams at once, where the paper takes turns.

    The encoder of pixels is the task's; that of differences is the term's own, and is not exported. Keys are those of
    average teachers, in queues (MoCo). Raises VidgenError for one clip in a batch, views that do not fit, mining before
    the queue is full, and an adapted encoder.
    """

    def __init__(self, config: CoTrainingTermConfig, encoder: TokenEncoder, recipe: SSLRecipe) -> None:
        super().__init__(config.weight)
        if not isinstance(encoder, ClipEncoder):
            raise VidgenError("co-training makes a second encoder of the first one's shape; leave adapt out")
        check_batch(recipe.batch_size)
        if config.mine_after < (least := config.queue // recipe.batch_size):
            raise VidgenError(
                f"mine_after={config.mine_after}: the queue is full of clips after {least} steps; raise it"
            )
        self.config, self.steps = config, 0
        self.views = make_views(config.views, encoder, recipe)
        if min(view.length(encoder.config.clip[0]) for view in self.views) < 2:
            raise VidgenError("a view of one frame has no differences; give views of 2 frames or more")
        shape = config_from_dict(ProjectorConfig, config.projector, "projector")
        self.projectors = nn.ModuleDict({name: Projector(encoder.config.width, **asdict(shape)) for name in STREAMS})
        self.second = type(encoder)(encoder.config)
        self.queues = {name: make_queue(config.queue, shape.channels, recipe) for name in STREAMS}
        settings = config_from_dict(TeacherConfig, config.teacher, "teacher")
        for name in STREAMS:
            student = nn.ModuleDict({"encoder": self.encoder_of(name, encoder), "projector": self.projectors[name]})
            self.add_teacher(name, deepcopy(student).to(recipe.device), student, settings)

    def encoder_of(self, stream: str, encoder: TokenEncoder) -> TokenEncoder:
        """Return the encoder of a stream."""
        return encoder if stream == "pixels" else self.second

    def loss(self, encoder: TokenEncoder, batch: ClipBatch, generator: torch.Generator) -> LossAndParts:
        """Return the mean loss of both streams. In training the queues take the keys in. Parts: "positives", how many a
        clip has."""
        query, key = (draw_view(view, batch.video, generator) for view in self.views)
        queries = {
            name: self.projectors[name](whole_batch(self, embed_each(self.encoder_of(name, encoder), change(query))))
            for name, change in STREAMS.items()
        }
        keys = {name: self.teach(name, change(key)) for name, change in STREAMS.items()}
        losses = []
        for name, other in zip(STREAMS, reversed(STREAMS), strict=True):
            rows = torch.cat([keys[name], self.queues[name]])
            positives = self.positives(keys[other], self.queues[other])
            losses.append(multi_positive_nce(queries[name], rows, positives, temperature=self.config.temperature))
        if self.training:
            self.remember(keys)
        parts = {f"{name}_loss": loss.detach() for name, (loss, _) in zip(STREAMS, losses, strict=True)}
        return (losses[0][0] + losses[1][0]) / 2, parts | losses[0][1]

    def positives(self, keys: Rows, queue: Float[Tensor, "m d"]) -> Bool[Tensor, "b n"]:
        """Return the positives of a stream by keys and queue of the other, at first the own clip alone."""
        return mine_positives(keys, queue, self.config.positives if self.steps >= self.config.mine_after else 0)

    @torch.no_grad()
    def teach(self, stream: str, view: Float[Tensor, "b c T H W"]) -> Rows:
        """Return the keys of a stream, by its teacher."""
        teacher = self.frozen[stream].train(self.training)
        rows = whole_batch(self, embed_each(teacher["encoder"], view))
        return F.normalize(teacher["projector"](rows).float(), dim=1)

    @torch.no_grad()
    def remember(self, keys: dict[str, Rows]) -> None:
        """Put the keys in the queues, of both at the same places; the oldest go."""
        self.steps += 1
        self.queues = {name: torch.cat([queue[len(keys[name]) :], keys[name]]) for name, queue in self.queues.items()}

    def state_dict_of_term(self) -> dict[str, Tensor]:
        """Return the queues, and how many steps there were."""
        return {"steps": torch.tensor(self.steps), **self.queues}

    def load_state_dict_of_term(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict_of_term`."""
        self.steps = int(state["steps"])
        self.queues = {name: state[name].to(queue) for name, queue in self.queues.items()}
