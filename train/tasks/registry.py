"""The tasks that a recipe can name: the dataclass of each one's recipe, and what trains it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidgen.train.config import (
    AlignRecipe,
    ChangeCodesRecipe,
    DiffusionRecipe,
    DiffusionTokenizerRecipe,
    DistillationRecipe,
    ForecastRecipe,
    FuseRecipe,
    GANRecipe,
    IPAdapterRecipe,
    KeyframeRecipe,
    KnownEntropyRecipe,
    LoopConfig,
    LoRARecipe,
    PreferenceRecipe,
    PriorRecipe,
    SideStreamRecipe,
    SSLRecipe,
    TextualInversionRecipe,
    TokenizerRecipe,
)
from vidgen.train.tasks.diffusion import DiffusionTask
from vidgen.train.tasks.diffusion_decoder import DiffusionTokenizerTask
from vidgen.train.tasks.distillation import DistillationTask
from vidgen.train.tasks.generators.change_codes import ChangeCodesTask
from vidgen.train.tasks.generators.forecast import ForecastTask
from vidgen.train.tasks.generators.gan import GANTask
from vidgen.train.tasks.generators.known_entropy import KnownEntropyTask
from vidgen.train.tasks.generators.prior import PriorTask
from vidgen.train.tasks.ip_adapter import IPAdapterTask
from vidgen.train.tasks.keyframes import KeyframeTask
from vidgen.train.tasks.lora import LoRATask
from vidgen.train.tasks.preference import PreferenceTask
from vidgen.train.tasks.side_stream import SideStreamTask
from vidgen.train.tasks.ssl.task import SSLTask
from vidgen.train.tasks.task import Task
from vidgen.train.tasks.text_video.align import AlignTask
from vidgen.train.tasks.text_video.fuse import FuseTask
from vidgen.train.tasks.textual_inversion import TextualInversionTask
from vidgen.train.tasks.tokenizer import TokenizerTask


@dataclass(frozen=True)
class TaskEntry:
    """A task: its `recipe` class, and what makes the task of such a recipe."""

    recipe: type[LoopConfig]
    task: Callable[[Any], Task]


TASKS: dict[str, TaskEntry] = {
    "tokenizer": TaskEntry(TokenizerRecipe, TokenizerTask),
    "diffusion": TaskEntry(DiffusionRecipe, DiffusionTask),
    "lora": TaskEntry(LoRARecipe, LoRATask),
    "distill": TaskEntry(DistillationRecipe, DistillationTask),
    "preference": TaskEntry(PreferenceRecipe, PreferenceTask),
    "textual_inversion": TaskEntry(TextualInversionRecipe, TextualInversionTask),
    "ip_adapter": TaskEntry(IPAdapterRecipe, IPAdapterTask),
    "prior": TaskEntry(PriorRecipe, PriorTask),
    "known_entropy": TaskEntry(KnownEntropyRecipe, KnownEntropyTask),
    "forecast": TaskEntry(ForecastRecipe, ForecastTask),
    "change_codes": TaskEntry(ChangeCodesRecipe, ChangeCodesTask),
    "gan": TaskEntry(GANRecipe, GANTask),
    "ssl": TaskEntry(SSLRecipe, SSLTask),
    "align": TaskEntry(AlignRecipe, AlignTask),
    "fuse": TaskEntry(FuseRecipe, FuseTask),
    "side_stream": TaskEntry(SideStreamRecipe, SideStreamTask),
    "diffusion_tokenizer": TaskEntry(DiffusionTokenizerRecipe, DiffusionTokenizerTask),
    "keyframes": TaskEntry(KeyframeRecipe, KeyframeTask),
}
