from vidgen.samplers.solvers.registry import SAMPLERS, Solver, __getattr__, find_solver
from vidgen.samplers.solvers.stepping import SamplingError, check_finite, noise_of, transfer

__all__ = ["SAMPLERS", "SamplingError", "Solver", "__getattr__", "check_finite", "find_solver", "noise_of", "transfer"]
