"""diffusers' schedulers drive the same denoisers, and where they have the method of one of ours make the same clips."""

import pytest
import torch

from vidgen.diffusion.noise import sample_generator
from vidgen.diffusion.paths import PATHS
from vidgen.errors import VidgenError
from vidgen.samplers.diffusers_schedulers import SCALES, scheduler_levels, scheduler_solver
from vidgen.samplers.evaluation.closed_forms import GaussianData
from vidgen.samplers.solvers import SAMPLERS

# diffusers 0.42 with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
DATA = GaussianData()
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
DPM, UNIPC = "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"
UNENDED = {"final_sigmas_type": "sigma_min", "use_lu_lambdas": True, "lower_order_final": False}
VP = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}

# class, its settings, and ours
SAME = {
    "flow euler": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}, "euler"),
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": True, **VP}, "euler"),
    "euler, v": ("EulerDiscreteScheduler", {"prediction_type": "v_prediction", **VP}, "euler"),
    "euler ancestral": ("EulerAncestralDiscreteScheduler", VP, "euler_ancestral"),
    "dpm++ 2m": (DPM, {"final_sigmas_type": "zero", **VP}, "dpmpp_2m"),
    "dpm++ 2m, flow": (DPM, FLOW, "dpmpp_2m"),
    "sde-dpm++ 2m": (DPM, {"algorithm_type": "sde-dpmsolver++", "prediction_type": "sample", **VP}, "dpmpp_2m_sde"),
    "unipc 2": (UNIPC, {"final_sigmas_type": "zero", **VP}, "unipc"),
    "unipc 2, flow": (UNIPC, {"flow_shift": 2.0, **FLOW}, "unipc"),
}


def make_scheduler(name, settings=None):
    """diffusers' scheduler of that name; imported here, since it takes seconds."""
    import diffusers

    return getattr(diffusers, name)(**(settings or {}))


def clip(levels, path):
    noise = torch.randn(2, 2, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    mean, std = DATA.marginal(levels[0], path)
    return (mean + std * noise).float()


def unclipped(name):
    """The scheduler of that name with its defaults, but for a clamp of x0 to [-1, 1]."""
    scheduler = make_scheduler(name)
    clamp = {"clip_sample": False} if "clip_sample" in scheduler.config else {}
    return type(scheduler).from_config(scheduler.config, **clamp)


def streams():
    return [sample_generator(1, k) for k in range(2)]


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("case", SAME)
def test_the_same_method_gives_the_same_clip(case, kind):
    name, settings, ours = SAME[case]
    scheduler, path = make_scheduler(name, settings), PATHS[kind]()
    if "flow" in case and kind == "edm":  # from alpha = 0, or 0.001, where the EDM path ends at a ratio of 80
        with pytest.raises(VidgenError, match="starts with more noise than EDMPath ends with"):
            scheduler_levels(scheduler, 12, path)
        return
    levels = scheduler_levels(scheduler, 12, path)
    x, denoise = clip(levels, path), DATA.denoiser(path)
    theirs = scheduler_solver(scheduler)(denoise, x, torch.linspace(1, 0, 13), path, generator=streams())
    assert torch.allclose(theirs, SAMPLERS[ours](denoise, x, levels, path, generator=streams()), atol=2e-4)


HEUN = {"edm": ("HeunDiscreteScheduler", VP), "flow": ("FlowMatchHeunDiscreteScheduler", {})}


@pytest.mark.parametrize("kind", HEUN)
def test_heun_is_ours_on_the_path_of_its_own(kind):
    scheduler, path = make_scheduler(*HEUN[kind]), PATHS[kind]()
    levels = scheduler_levels(scheduler, 12, path)
    x, denoise = clip(levels, path), DATA.denoiser(path)
    theirs = scheduler_solver(scheduler)(denoise, x, torch.linspace(1, 0, 13), path)
    once = torch.cat([levels[:1], levels[1::2]])
    assert torch.allclose(theirs, SAMPLERS["heun"](denoise, x, once, path), atol=2e-4)


@pytest.mark.parametrize(
    "name", [name for name in SCALES if name not in ("DDPMScheduler", "EulerAncestralDiscreteScheduler")]
)
def test_every_scheduler_arrives_where_the_flow_does(name):
    scheduler, path = unclipped(name), PATHS["flow"]()
    levels = scheduler_levels(scheduler, 30, path)
    x, seen = clip(levels, path), []
    out = scheduler_solver(scheduler)(
        DATA.denoiser(path), x, torch.linspace(1, 0, 31), path, callback=lambda i, x, x0: seen.append(i)
    )
    truth = DATA.carry(x.double(), levels[0], torch.zeros((), dtype=torch.float64), path)
    assert (out - truth).abs().max() < 0.12 and seen == list(range(len(scheduler.timesteps)))


@pytest.mark.parametrize("name", ["DDPMScheduler", "EulerAncestralDiscreteScheduler"])
def test_ancestral_schedulers_draw_one_stream_a_sample(name):
    scheduler, path = unclipped(name), PATHS["flow"]()
    x, solve = clip(scheduler_levels(scheduler, 20, path), path), scheduler_solver(scheduler)
    both = solve(DATA.denoiser(path), x, torch.linspace(1, 0, 21), path, generator=streams())
    alone = solve(DATA.denoiser(path), x[1:], torch.linspace(1, 0, 21), path, generator=streams()[1:])
    assert torch.allclose(both[1:], alone, atol=1e-6)


def test_their_third_order_is_of_second_and_ours_of_third():
    # Steps even in ln(alpha / sigma), and the last, of no length, left out.
    path, errors = PATHS["edm"](), []
    for n in (24, 48):
        scheduler = make_scheduler(DPM, {"solver_order": 3, **UNENDED, **VP})
        levels, kept = scheduler_levels(scheduler, n, path)[:-1], []
        x, denoise = clip(levels, path).double(), DATA.denoiser(path)

        def stop(i, x, x0, last=n - 2, kept=kept):
            if i == last:
                kept.append(x)
                raise StopIteration

        with pytest.raises(StopIteration):
            scheduler_solver(scheduler)(denoise, x, torch.linspace(1, 0, n + 1), path, callback=stop)
        truth = DATA.carry(x, levels[0], levels[-1], path)
        both = (kept[0], SAMPLERS["dpmpp_3m"](denoise, x, levels, path))
        errors.append([(out - truth).square().mean().sqrt().item() for out in both])
    theirs, ours = (coarse / fine for coarse, fine in zip(*errors, strict=True))
    assert theirs < 2**2.5 < ours


def test_other_schedulers_are_refused():
    with pytest.raises(VidgenError, match="PNDMScheduler is not one that vidgen can drive; use one of FlowMatchEuler"):
        scheduler_solver(make_scheduler("PNDMScheduler"))
