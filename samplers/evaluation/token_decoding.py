"""What decoders of token priors are worth: passes, and how far the law of what they draw is from the model's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from vidgen.errors import VidgenError
from vidgen.interfaces import MASK
from vidgen.samplers.autoregressive.categorical import PLAIN, TokenSampling
from vidgen.samplers.autoregressive.groups import far_apart_groups, frame_groups, row_groups
from vidgen.samplers.autoregressive.uncached import UncachedModel
from vidgen.samplers.evaluation.token_laws import (
    Grid,
    Table,
    TokenLaw,
    autoregressive_law,
    confidence_law,
    grouped_law,
    potts_law,
    random_order_law,
    strict_logits,
)
from vidgen.samplers.masked.maskgit import MaskGITConfig
from vidgen.samplers.masked.orders import halton_order
from vidgen.samplers.masked.schedules import reveal_counts
from vidgen.samplers.token_decoders import TOKEN_DECODERS

GRID: Grid = (2, 2, 2)
BATCH = 20_000  # sequences that are drawn at once
STEPS = (1, 2, 4, 8)
NUCLEUS = TokenSampling(top_p=0.8)
SMALLEST_CELL = 5.0  # of expected counts, below which the chi-square law is no good


@dataclass(frozen=True, kw_only=True)
class LawCase:
    """A decoder under some settings: `law` is what it should reach where that can be enumerated, None where not."""

    decoder: str
    setting: str
    law: Callable[[TokenLaw], Table] | None
    sampling: TokenSampling = PLAIN
    settings: dict[str, Any]


class CountedLogits:
    """Masked logits that count how often they are asked for."""

    def __init__(self, law: TokenLaw) -> None:
        self.logits, self.calls = strict_logits(law), 0

    def __call__(self, tokens: Int[Tensor, "b n"]) -> Tensor:
        self.calls += 1
        return self.logits(tokens)


def law_cases() -> list[LawCase]:
    """Return what is measured: every decoder, the inexact ones at several numbers of steps."""

    def own(law: TokenLaw) -> Table:
        return law.probabilities

    def case(decoder: str, setting: str, law: Callable[[TokenLaw], Table] | None, **settings: Any) -> LawCase:
        sampling = settings.pop("sampling", PLAIN)
        return LawCase(decoder=decoder, setting=setting, law=law, sampling=sampling, settings=settings)

    cases = [
        case("autoregressive", "", own),
        case("autoregressive", "top-p 0.8", lambda law: autoregressive_law(law, NUCLEUS), sampling=NUCLEUS),
        case("speculative_jacobi", "window 4", own, window=4),
        case("any_order", "", own),
        case("first_hitting", "", own),
    ]
    shapes = {"rows": row_groups(GRID), "frames": frame_groups(GRID), "far apart": far_apart_groups(GRID)}
    for name, groups in shapes.items():
        places = [torch.nonzero(groups == group)[:, 0].tolist() for group in groups.unique()]
        cases.append(case("groups", name, lambda law, places=places: grouped_law(law, places), groups=groups))
    for order, law_of in (("random", random_order_law), ("halton", halton_law), ("confidence", confidence_law)):
        for steps in STEPS:
            config = MaskGITConfig(num_steps=steps, order=order, choice_temperature=0.0)
            counts = reveal_counts(potts_law(GRID).length, steps, config.schedule)
            reached = lambda law, law_of=law_of, counts=counts: law_of(law, counts)  # noqa: E731
            cases.append(case("maskgit", f"{order}, {name_steps(steps)}", reached, config=config, grid=GRID))
    for steps in STEPS:
        config = MaskGITConfig(num_steps=steps)
        setting = f"choice temperature {config.choice_temperature}, {name_steps(steps)}"
        cases.append(case("maskgit", setting, None, config=config))
    config = MaskGITConfig(num_steps=4, revised_share=0.5)
    return [*cases, case("maskgit", "choice temperature 4.5, 4 steps, half revised", None, config=config)]


def name_steps(steps: int) -> str:
    """Return a number of steps in words."""
    return "1 step" if steps == 1 else f"{steps} steps"


def halton_law(law: TokenLaw, counts: list[int]) -> Table:
    """Return the law of MaskGIT in Halton's order."""
    return grouped_law(law, [group.tolist() for group in halton_order(GRID).split(counts)])


def draw_sequences(case: LawCase, law: TokenLaw, draws: int, seed: int) -> tuple[Int[Tensor, " states"], float]:
    """Return how often each sequence was drawn, and the passes of the model that a sequence takes on its own."""
    decoder = TOKEN_DECODERS[case.decoder]
    generator = torch.Generator().manual_seed(seed)
    counts = torch.zeros(len(law.probabilities), dtype=torch.int64)
    passes = 0.0
    for first in range(0, draws, BATCH):
        batch = min(BATCH, draws - first)
        if decoder.kind == "causal":
            model = UncachedModel(law.causal_logits, batch)
            drawn = decoder.function(model, law.length, case.sampling, generator, **case.settings)
            each = getattr(drawn, "passes_each", None)
            passes += model.calls * batch if each is None else each.sum().item()
        else:
            logits = CountedLogits(law)
            masked = torch.full((batch, law.length), MASK)
            drawn = decoder.function(logits, masked, case.sampling, generator, **case.settings)
            passes += logits.calls * batch
        tokens = drawn if isinstance(drawn, Tensor) else drawn.tokens
        counts += law.number(tokens).bincount(minlength=len(counts))
    return counts, passes / draws


def total_variation(p: Table, q: Table) -> float:
    """Return half of the sum of |p - q|: the largest difference that the two make to any event."""
    return 0.5 * (p - q).abs().sum().item()


def kl_divergence(p: Table, q: Table) -> float:
    """Return the sum of p ln(p / q), in nats."""
    return max(0.0, (torch.xlogy(p, p) - torch.xlogy(p, q)).sum().item())


def expected_total_variation(p: Table, draws: int) -> float:
    """Return the mean distance from p of the frequencies of that many draws of p, each cell's count as Poisson's."""
    mean = p * draws
    whole = mean.floor()
    deviation = 2.0 * (torch.xlogy(whole + 1.0, mean) - mean - torch.lgamma(whole + 1.0)).exp()
    return 0.5 * deviation.sum().item() / draws


def expected_kl(p: Table, draws: int) -> float:
    """Return the mean KL divergence from p of the frequencies of that many draws of p, by numeric sums over Poisson."""
    mean = p * draws
    most = int((mean.max() + 12.0 * mean.max().sqrt() + 20.0).item())
    total = torch.zeros_like(mean)
    for count in range(1, most + 1):
        weight = (torch.xlogy(torch.tensor(float(count)), mean) - mean - math.lgamma(count + 1)).exp()
        total += weight * count * (math.log(count) - mean.log())
    return (total.sum() / draws).item()


def chi_square_p_value(counts: Int[Tensor, " states"], law: Table) -> float:
    """Return how probable counts as far from a law as these are (Pearson's test), rare cells pooled.

    A count where the law has nothing has probability 0.
    """
    from scipy.stats import chi2

    if int(counts[law == 0.0].sum()):
        return 0.0
    expected = law * counts.sum()
    order = expected.argsort()
    small = int(torch.searchsorted(expected[order].cumsum(0), SMALLEST_CELL)) + 1
    small = max(small, int((expected < SMALLEST_CELL).sum()))
    observed = torch.cat([counts[order[:small]].sum()[None], counts[order[small:]]]).double()
    expected = torch.cat([expected[order[:small]].sum()[None], expected[order[small:]]])
    statistic = ((observed - expected).square() / expected).sum().item()
    return float(chi2.sf(statistic, len(observed) - 1))


def measure_case(case: LawCase, law: TokenLaw, draws: int, seed: int) -> dict[str, Any]:
    """Return a row: the decoder, whether it claims the model's law, passes, and how far its law is from the model's.

    `total_variation` and `kl` are of the law that was enumerated, or (`by` "draws") of the frequencies, which are off
    by what `expected_total_variation` says of perfect draws; `p_value` is of the draws under what they should be.
    """
    counts, passes = draw_sequences(case, law, draws, seed)
    exact = TOKEN_DECODERS[case.decoder].exact and case.sampling == PLAIN
    reached = None if case.law is None else case.law(law)
    frequencies = counts / counts.sum()
    shown = frequencies.double() if exact or reached is None else reached
    return {
        "decoder": case.decoder,
        "setting": case.setting,
        "exact": exact,
        "passes": passes,
        "by": "draws" if exact or reached is None else "enumeration",
        "total_variation": total_variation(shown, law.probabilities),
        "kl": kl_divergence(shown, law.probabilities),
        "p_value": None if reached is None else chi_square_p_value(counts, reached),
    }


def chosen_cases(only: Iterable[str] | None) -> list[LawCase]:
    """Return the cases of the decoders named, all by default. Raises VidgenError for a name that is none."""
    names = list(TOKEN_DECODERS) if only is None else list(only)
    unknown = [name for name in names if name not in TOKEN_DECODERS]
    if unknown or not names:
        choices = ", ".join(TOKEN_DECODERS)
        raise VidgenError(f"{', '.join(names)!r} names what is no token decoder; choose from {choices}")
    return [case for case in law_cases() if case.decoder in names]


def count_cases(only: Iterable[str] | None) -> int:
    """Return how many rows `measure_decoders` makes."""
    return len(chosen_cases(only))


def measure_decoders(
    only: Iterable[str] | None = None,
    *,
    draws: int = 100_000,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[dict[str, Any]]:
    """Return `measure_case` of every case of the decoders named, all by default. Raises as `chosen_cases`."""
    law = potts_law(GRID)
    rows = []
    for case in chosen_cases(only):
        rows.append(measure_case(case, law, draws, seed))
        if progress is not None:
            progress(len(rows))
    return rows
