"""The kinds of terms that a recipe can name: the dataclass of each one's settings, and the term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidgen.interfaces import TokenEncoder
from vidgen.train.config.correspondence import (
    CoTrainingTermConfig,
    CycleTermConfig,
    SegmentsTermConfig,
    WalkTermConfig,
)
from vidgen.train.config.self_supervised import (
    ClusterTermConfig,
    FutureTermConfig,
    JointTermConfig,
    MaskedTermConfig,
    PretextTermConfig,
    SelectionTermConfig,
    SinkhornTermConfig,
    SSLRecipe,
    StochasticTermConfig,
    SupervisedTermConfig,
)
from vidgen.train.tasks.ssl.clustered import ClusterTerm, SinkhornTerm
from vidgen.train.tasks.ssl.co_training import CoTrainingTerm
from vidgen.train.tasks.ssl.cycles import CycleTerm, WalkTerm
from vidgen.train.tasks.ssl.future import FutureTerm, StochasticTerm
from vidgen.train.tasks.ssl.joint import JointTerm
from vidgen.train.tasks.ssl.masked import MaskedTerm
from vidgen.train.tasks.ssl.pretext import PretextTerm
from vidgen.train.tasks.ssl.segments import SegmentsTerm
from vidgen.train.tasks.ssl.selection import SelectionTerm
from vidgen.train.tasks.ssl.supervised import SupervisedTerm
from vidgen.train.tasks.ssl.term import Term


@dataclass(frozen=True)
class TermEntry:
    """A kind of term: its `config` class, and what makes the term of such a config, an encoder and a recipe."""

    config: type
    term: Callable[[Any, TokenEncoder, SSLRecipe], Term]


TERMS: dict[str, TermEntry] = {
    "masked": TermEntry(MaskedTermConfig, MaskedTerm),
    "joint": TermEntry(JointTermConfig, JointTerm),
    "clusters": TermEntry(ClusterTermConfig, ClusterTerm),
    "sinkhorn": TermEntry(SinkhornTermConfig, SinkhornTerm),
    "future": TermEntry(FutureTermConfig, FutureTerm),
    "stochastic": TermEntry(StochasticTermConfig, StochasticTerm),
    "pretext": TermEntry(PretextTermConfig, PretextTerm),
    "selection": TermEntry(SelectionTermConfig, SelectionTerm),
    "cycle": TermEntry(CycleTermConfig, CycleTerm),
    "walk": TermEntry(WalkTermConfig, WalkTerm),
    "co_training": TermEntry(CoTrainingTermConfig, CoTrainingTerm),
    "segments": TermEntry(SegmentsTermConfig, SegmentsTerm),
    "supervised": TermEntry(SupervisedTermConfig, SupervisedTerm),
}
