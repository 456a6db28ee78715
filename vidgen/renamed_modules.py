"""Modules that had another name in 0.1: importing the old one works, and warns once with the new one. Gone in 0.3."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Old name -> new name, and names inside of it that changed as well, "module:name" where they moved on. Those that
# documents showed, and the core's own.
MODULES: dict[str, tuple[str, dict[str, str]]] = {
    "vidgen.denoiser": ("vidgen.diffusion.denoiser", {}),
    "vidgen.hashing": ("vidgen.checkpoints.hashing", {}),
    "vidgen.lora.names": ("vidgen.lora.key_names", {}),
    "vidgen.models.image_prompt": (
        "vidgen.models.ip_adapter",
        {"ImagePromptEncoder": "IPAdapterEncoder", "ImagePromptConfig": "IPAdapterConfig"},
    ),
    "vidgen.models.taps": ("vidgen.models.feature_layers", {"TapInfo": "FeatureInfo", "Tapped": "FeatureMixin"}),
    "vidgen.models.text_cache": ("vidgen.models.text.cache", {}),
    "vidgen.models.video_dit": ("vidgen.models.dit.video_dit", {}),
    "vidgen.models.video_dit_config": ("vidgen.models.dit.config", {}),
    "vidgen.models.video_dit_presets": ("vidgen.models.dit.presets", {}),
    "vidgen.noise": ("vidgen.diffusion.noise", {}),
    "vidgen.paths": (
        "vidgen.diffusion.paths",
        {
            "Path": "ProbabilityPath",
            "Parametrisation": "vidgen.diffusion.prediction_types:PredictionType",
            "PARAMETRISATIONS": "vidgen.diffusion.prediction_types:PREDICTION_TYPES",
            "convert_prediction": "vidgen.diffusion.prediction_types:convert_prediction",
            "x0_of_eps": "vidgen.diffusion.prediction_types:x0_of_eps",
        },
    ),
    "vidgen.pretrained": ("vidgen.checkpoints.pretrained", {}),
    "vidgen.published": ("vidgen.pipelines.wan", {}),
    "vidgen.published.wan_transformer": ("vidgen.pipelines.wan.transformer", {}),
    "vidgen.representations.directions": ("vidgen.representations.steering", {"find_direction": "fit_direction"}),
    "vidgen.representations.retrieval": ("vidgen.representations.search.retrieval", {}),
    "vidgen.representations.surprise": ("vidgen.representations.time.surprise", {}),
    "vidgen.representations.sweep": ("vidgen.representations.probes.sweep", {}),
    "vidgen.samplers.adherence": ("vidgen.pipelines.evaluation.adherence", {"Asked": "LabeledPrompt"}),
    "vidgen.samplers.caching": ("vidgen.samplers.step_cache", {"Passes": "PassCounts"}),
    "vidgen.samplers.conditions": (
        "vidgen.samplers.conditioning.inpainting",
        {
            "Conditions": "vidgen.samplers.conditioning.frame_conditioning:FrameConditioning",
            "sample_given": "sample_conditioned",
        },
    ),
    "vidgen.samplers.loading": ("vidgen.pipelines.loading", {}),
    "vidgen.samplers.pipeline": ("vidgen.pipelines.video", {}),
    "vidgen.samplers.restoration": ("vidgen.pipelines.restoration", {}),
    "vidgen.samplers.rollout": (
        "vidgen.pipelines.rollout",
        {"Piece": "Chunk", "Story": "PromptSchedule", "Windows": "WindowConfig"},
    ),
    "vidgen.samplers.scheduler_config": ("vidgen.pipelines.scheduler_config", {}),
    "vidgen.tokenizers.clip_fit": ("vidgen.tokenizers.nerv", {}),
    "vidgen.tokenizers.clip_fit.clip": ("vidgen.tokenizers.nerv.clip", {"ClipFit": "ClipNeRV", "FitCost": "NeRVCost"}),
    "vidgen.tokenizers.clip_fit.files": (
        "vidgen.tokenizers.nerv.files",
        {"write_fit": "write_nerv", "read_fit": "read_nerv", "is_fit": "is_nerv"},
    ),
    "vidgen.tokenizers.diffusion": ("vidgen.tokenizers.diffusion_decoder", {}),
    "vidgen.tokenizers.diffusion.model": ("vidgen.tokenizers.diffusion_decoder.model", {}),
    "vidgen.tokenizers.loading": ("vidgen.pipelines.loading", {}),
    "vidgen.tokenizers.published": ("vidgen.pipelines.wan", {}),
    "vidgen.tokenizers.published.wan": ("vidgen.pipelines.wan.autoencoder", {"WanConfig": "WanAutoencoderConfig"}),
}


class RenamedModules:
    """A finder and loader of the old names in MODULES: each becomes a module that hands on what the new one has.

    It has no base class: importing importlib.abc takes as long as the rest of `import vidgen`.
    """

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return a spec for an old name, and None for any other."""
        if fullname not in MODULES:
            return None
        return ModuleSpec(fullname, self, is_package=any(name.startswith(f"{fullname}.") for name in MODULES))

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Warn, and make the module look up its names in the new one."""
        new, names = MODULES[module.__name__]
        warnings.warn(f"{module.__name__} is now {new}; the old name goes in 0.3", FutureWarning, stacklevel=2)

        def look_up(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(name)
            home, _, present = names.get(name, name).rpartition(":")
            return getattr(importlib.import_module(home or new), present)

        module.__getattr__ = look_up  # type: ignore[method-assign]


def install() -> None:
    """Let the import system ask for old names, after everything else."""
    if not any(isinstance(finder, RenamedModules) for finder in sys.meta_path):
        sys.meta_path.append(RenamedModules())
