from vidgen.samplers.solvers.registry import EVALUATIONS, ORDERS, SAMPLERS, STOCHASTIC
from vidgen.samplers.solvers.stepping import SamplingError, check_finite, noise_of, transfer

__all__ = ["EVALUATIONS", "ORDERS", "SAMPLERS", "STOCHASTIC", "SamplingError", "check_finite", "noise_of", "transfer"]
