"""Solvers by name. A new one is a function, and a line in each of these."""

from __future__ import annotations

from collections.abc import Callable

from vidgen.samplers.solvers.adaptive import sample_rk45
from vidgen.samplers.solvers.euler import sample_euler, sample_heun
from vidgen.samplers.solvers.multistep import sample_dpmpp_2m, sample_dpmpp_3m, sample_unipc
from vidgen.samplers.solvers.runge_kutta import sample_midpoint, sample_rk4
from vidgen.samplers.solvers.stepping import Clip
from vidgen.samplers.solvers.stochastic import sample_dpmpp_2m_sde, sample_euler_ancestral

SAMPLERS: dict[str, Callable[..., Clip]] = {
    "euler": sample_euler,
    "heun": sample_heun,
    "midpoint": sample_midpoint,
    "rk4": sample_rk4,
    "rk45": sample_rk45,
    "dpmpp_2m": sample_dpmpp_2m,
    "dpmpp_3m": sample_dpmpp_3m,
    "unipc": sample_unipc,
    "euler_ancestral": sample_euler_ancestral,
    "dpmpp_2m_sde": sample_dpmpp_2m_sde,
}

# Network evaluations a step; of rk45, an attempted step of its own choice.
EVALUATIONS = {
    "euler": 1,
    "heun": 2,
    "midpoint": 2,
    "rk4": 4,
    "rk45": 6,
    "dpmpp_2m": 1,
    "dpmpp_3m": 1,
    "unipc": 1,
    "euler_ancestral": 1,
    "dpmpp_2m_sde": 1,
}

# Claimed order of convergence; of the stochastic ones, of the distribution that is reached (weak order).
ORDERS = {
    "euler": 1,
    "heun": 2,
    "midpoint": 2,
    "rk4": 4,
    "rk45": 5,
    "dpmpp_2m": 2,
    "dpmpp_3m": 3,
    "unipc": 3,
    "euler_ancestral": 1,
    "dpmpp_2m_sde": 2,
}

STOCHASTIC = ("euler_ancestral", "dpmpp_2m_sde")  # these draw noise at every step
