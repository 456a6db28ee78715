from vidgen.samplers.solvers.registry import SAMPLERS, Solver, __getattr__
from vidgen.samplers.solvers.stepping import SamplingError, check_finite, noise_of, transfer

__all__ = ["SAMPLERS", "SamplingError", "Solver", "__getattr__", "check_finite", "noise_of", "transfer"]
