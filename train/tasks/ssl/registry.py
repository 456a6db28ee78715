"""The kinds of terms that a recipe can name: the dataclass of each one's settings, and the term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidgen.interfaces import TokenEncoder
from vidgen.train.config.correspondence import (
    CoTrainingTermConfig,
    CycleTermConfig,
    HierarchicalTermConfig,
    SegmentsTermConfig,
    WalkTermConfig,
)
from vidgen.train.config.self_supervised import (
    READS,
    ClusterTermConfig,
    FutureTermConfig,
    IndexTermConfig,
    JointTermConfig,
    MaskedTermConfig,
    PretextTermConfig,
    SelectionTermConfig,
    SinkhornTermConfig,
    SSLRecipe,
    StochasticTermConfig,
    SupervisedTermConfig,
)
from vidgen.train.tasks.ssl.clustered import ClusterTerm, IndexTerm, SinkhornTerm
from vidgen.train.tasks.ssl.co_training import CoTrainingTerm
from vidgen.train.tasks.ssl.cycles import CycleTerm, WalkTerm
from vidgen.train.tasks.ssl.future import FutureTerm, StochasticTerm
from vidgen.train.tasks.ssl.hierarchical import HierarchicalTerm
from vidgen.train.tasks.ssl.joint import JointTerm
from vidgen.train.tasks.ssl.masked import MaskedTerm
from vidgen.train.tasks.ssl.pretext import PretextTerm
from vidgen.train.tasks.ssl.segments import SegmentsTerm
from vidgen.train.tasks.ssl.selection import SelectionTerm
from vidgen.train.tasks.ssl.supervised import SupervisedTerm
from vidgen.train.tasks.ssl.term import Term

PIXELS = ("pixels",)  # what was done to clips would be told by a tokenizer's first cell, which is of one frame
CONTINUOUS = ("pixels", "latents")


@dataclass(frozen=True)
class TermEntry:
    """A kind of term: its `config` class, what makes the term of such a config, an encoder and a recipe, and what of
    clips the encoder may read."""

    config: type
    term: Callable[[Any, TokenEncoder, SSLRecipe], Term]
    reads: tuple[str, ...] = READS


TERMS: dict[str, TermEntry] = {
    "masked": TermEntry(MaskedTermConfig, MaskedTerm),
    "joint": TermEntry(JointTermConfig, JointTerm),
    "hierarchical": TermEntry(HierarchicalTermConfig, HierarchicalTerm),
    "clusters": TermEntry(ClusterTermConfig, ClusterTerm, CONTINUOUS),
    "indices": TermEntry(IndexTermConfig, IndexTerm),
    "sinkhorn": TermEntry(SinkhornTermConfig, SinkhornTerm, CONTINUOUS),
    "future": TermEntry(FutureTermConfig, FutureTerm),
    "stochastic": TermEntry(StochasticTermConfig, StochasticTerm, CONTINUOUS),
    "pretext": TermEntry(PretextTermConfig, PretextTerm, PIXELS),
    "selection": TermEntry(SelectionTermConfig, SelectionTerm, CONTINUOUS),
    "cycle": TermEntry(CycleTermConfig, CycleTerm),
    "walk": TermEntry(WalkTermConfig, WalkTerm),
    "co_training": TermEntry(CoTrainingTermConfig, CoTrainingTerm, CONTINUOUS),
    "segments": TermEntry(SegmentsTermConfig, SegmentsTerm, PIXELS),
    "supervised": TermEntry(SupervisedTermConfig, SupervisedTerm),
}
