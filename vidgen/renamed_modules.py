"""Modules that had another name in 0.1: importing the old one works, and warns once with the new one. Gone in 0.3."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Old name -> new name, and names inside of it that changed as well. Those that documents showed, and the core's own.
MODULES: dict[str, tuple[str, dict[str, str]]] = {
    "vidgen.denoiser": ("vidgen.diffusion.denoiser", {}),
    "vidgen.hashing": ("vidgen.checkpoints.hashing", {}),
    "vidgen.lora.names": ("vidgen.lora.key_names", {}),
    "vidgen.models.text_cache": ("vidgen.models.text.cache", {}),
    "vidgen.models.video_dit": ("vidgen.models.dit.video_dit", {}),
    "vidgen.models.video_dit_config": ("vidgen.models.dit.config", {}),
    "vidgen.models.video_dit_presets": ("vidgen.models.dit.presets", {}),
    "vidgen.noise": ("vidgen.diffusion.noise", {}),
    "vidgen.paths": (
        "vidgen.diffusion.paths",
        {
            "Path": "ProbabilityPath",
            "Parametrisation": "PredictionType",
            "PARAMETRISATIONS": "PREDICTION_TYPES",
        },
    ),
    "vidgen.pretrained": ("vidgen.checkpoints.pretrained", {}),
    "vidgen.published": ("vidgen.pipelines.wan", {}),
    "vidgen.published.wan_transformer": ("vidgen.pipelines.wan.transformer", {}),
    "vidgen.representations.retrieval": ("vidgen.representations.search.retrieval", {}),
    "vidgen.representations.surprise": ("vidgen.representations.time.surprise", {}),
    "vidgen.representations.sweep": ("vidgen.representations.probes.sweep", {}),
    "vidgen.samplers.adherence": ("vidgen.pipelines.evaluation.adherence", {}),
    "vidgen.samplers.loading": ("vidgen.pipelines.loading", {}),
    "vidgen.samplers.pipeline": ("vidgen.pipelines.video", {}),
    "vidgen.samplers.restoration": ("vidgen.pipelines.restoration", {}),
    "vidgen.samplers.rollout": (
        "vidgen.pipelines.rollout",
        {"Piece": "Chunk", "Story": "PromptSchedule", "Windows": "WindowConfig"},
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
            return getattr(importlib.import_module(new), names.get(name, name))

        module.__getattr__ = look_up  # type: ignore[method-assign]


def install() -> None:
    """Let the import system ask for old names, after everything else."""
    if not any(isinstance(finder, RenamedModules) for finder in sys.meta_path):
        sys.meta_path.append(RenamedModules())
