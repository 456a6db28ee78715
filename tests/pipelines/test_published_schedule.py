"""Every setting of a published scheduler is honored or refused: held against diffusers' own loop on a toy model."""

import json

import pytest
import torch

from vidgen.errors import VidgenError
from vidgen.pipelines.published_schedule import FLOW, CallDefaults, read_published_schedule
from vidgen.samplers.solvers import find_solver

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
DEFAULTS = CallDefaults(num_frames=1, height=1, width=1, num_inference_steps=1, guidance_scale=1.0, fps=1.0)
FLOW_SIGMAS = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
UNIPC, DPM, DEIS = "UniPCMultistepScheduler", "DPMSolverMultistepScheduler", "DEISMultistepScheduler"
EULER, HEUN = "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"
MULTISTEP = (UNIPC, DPM, DEIS)

# By class the settings that change its steps, each with values that are not its own.
HONORED = {
    EULER: {"shift": 5.0, "num_train_timesteps": 500, "shift_terminal": 0.1, "use_karras_sigmas": True,
            "use_exponential_sigmas": True, "use_beta_sigmas": True},
    HEUN: {"shift": 5.0, "num_train_timesteps": 500},
    UNIPC: {"solver_order": (1, 3), "solver_type": "bh1", "lower_order_final": False,
            "disable_corrector": ([0], [0, 1, 2]), "flow_shift": 5.0, "num_train_timesteps": 500, "steps_offset": 1,
            "timestep_spacing": "trailing", "final_sigmas_type": "sigma_min"},
    DPM: {"solver_order": (1, 3), "solver_type": "heun", "lower_order_final": False, "euler_at_final": True,
          "flow_shift": 5.0, "num_train_timesteps": 500, "steps_offset": 1, "timestep_spacing": "trailing",
          "algorithm_type": ("dpmsolver++", "sde-dpmsolver++"), "final_sigmas_type": "sigma_min"},
    DEIS: {"solver_order": (1, 3), "lower_order_final": False, "flow_shift": 5.0, "num_train_timesteps": 500,
           "steps_offset": 1, "timestep_spacing": "trailing"},
}  # fmt: skip
OTHER_LEVELS = {
    "use_flow_sigmas": False,
    "thresholding": True,
    "use_karras_sigmas": True,
    "use_exponential_sigmas": True,
    "use_beta_sigmas": True,
}
REFUSED = {
    EULER: {"invert_sigmas": True, "stochastic_sampling": True},
    HEUN: {},
    UNIPC: {"predict_x0": False, "prediction_type": "epsilon", **OTHER_LEVELS},
    DPM: {"prediction_type": "sample", "variance_type": "learned", "use_lu_lambdas": True, **OTHER_LEVELS},
    DEIS: {"prediction_type": "epsilon", **OTHER_LEVELS},
}
CASES = [(name, {}) for name in FLOW] + [
    (name, {key: value})
    for name, settings in HONORED.items()
    for key, values in settings.items()
    for value in (values if isinstance(values, tuple) else (values,))
]


def network(x, timestep):
    """A toy that depends on both, in the place of a transformer: it predicts a flow."""
    level = timestep.reshape(-1, 1, 1, 1, 1) / 1000.0
    return torch.tanh(1.5 * x) * (0.5 + level) + 0.3 * torch.sin(3.0 * x) * level


def write(folder, name, settings):
    values = {**(FLOW_SIGMAS if name in MULTISTEP else {}), **settings, "_class_name": name}
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(values))
    return {key: value for key, value in values.items() if key != "_class_name"}


@pytest.fixture
def x():
    return torch.randn(1, 2, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("steps", [4, 11])
@pytest.mark.parametrize(("name", "settings"), CASES, ids=str)
def test_a_setting_makes_the_steps_that_diffusers_makes(tmp_path, x, name, settings, steps):
    import diffusers

    values = write(tmp_path, name, settings)
    scheduler = getattr(diffusers, name)(**values)
    scheduler.set_timesteps(steps)
    stream = torch.Generator().manual_seed(1)
    noise = {"generator": stream} if "generator" in type(scheduler).step.__annotations__ else {}
    theirs = x
    for timestep in scheduler.timesteps:
        theirs = scheduler.step(network(theirs, timestep.double()), timestep, theirs, return_dict=False, **noise)[0]
    schedule = read_published_schedule(tmp_path, FLOW, DEFAULTS)
    times = schedule.time_distribution.for_size(1, 1).steps(steps)
    path = schedule.make_path()

    def denoise(y, t):
        return y - path.sigma(t) * network(y, schedule.clock(t))

    solve = find_solver(schedule.sampler)
    if not theirs.isfinite().all():  # they divide by what is 0 at the last level; so is it said here
        with pytest.raises(VidgenError):
            solve(denoise, x, times, path)
            raise VidgenError("the last step")
        return
    ours = solve(denoise, x, times, path, generator=torch.Generator().manual_seed(1))
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in REFUSED.items() for key in keys])
def test_what_is_not_honored_is_refused_by_name(tmp_path, name, key):
    write(tmp_path, name, {key: REFUSED[name][key]})
    with pytest.raises(VidgenError, match=key):
        read_published_schedule(tmp_path, FLOW, DEFAULTS)


def test_a_scheduler_that_is_driven_starts_at_its_own_first_level(tmp_path, x):
    write(tmp_path, UNIPC, {"solver_order": 3})
    schedule = read_published_schedule(tmp_path, FLOW, DEFAULTS)
    times = schedule.time_distribution.steps(6)
    assert str(schedule.sampler) == UNIPC
    with pytest.raises(VidgenError, match="UniPCMultistepScheduler runs all of its own steps"):
        schedule.sampler(lambda y, t: y, x, times[2:], schedule.make_path())
