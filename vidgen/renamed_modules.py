"""Modules that had another name in 0.1: importing the old one works, and warns once with the new one. Gone in 0.3."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Old name -> new name, and names inside of it that changed as well, "module:name" where they moved on.
MODULES: dict[str, tuple[str, dict[str, str]]] = {
    "vidgen.data.inspecting": ("vidgen.data.validation", {"inspect_source": "validate_source"}),
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
    "vidgen.train.sources": (
        "vidgen.train.data.sources",
        {"source_records": "vidgen.train.data.splits:source_records"},
    ),
    "vidgen.tokenizers.published.wan": ("vidgen.pipelines.wan.autoencoder", {"WanConfig": "WanAutoencoderConfig"}),
}

# Modules that moved, with the names in them that stayed.
MOVED = {
    "checkpoints.atomic": "files.atomic",
    "checkpoints.checksums": "files.checksums",
    "checksums": "files.checksums",
    "data.edits": "data.transforms",
    "data.sliding": "data.windows",
    "data.tars": "data.webdataset",
    "finite": "checkpoints.finite",
    "locations": "checkpoints.hub",
    "lora.adapters": "lora.loading",
    "lora.factors": "lora.training",
    "loss_weights": "diffusion.loss_weighting",
    "metrics.kernel_distance": "metrics.kid",
    "metrics.meter": "metrics.clip_metrics",
    "metrics.rates": "metrics.entropy_coding",
    "metrics.regions": "metrics.j_and_f",
    "models.attention_spans": "models.attention_patterns",
    "models.clip_labels": "models.dit.label_embedding",
    "models.dit_blocks": "models.dit.blocks",
    "models.joint_block": "models.dit.mmdit_block",
    "models.positions": "models.rope",
    "models.prepared_text": "models.text.prepared",
    "models.published.adapter": "pipelines.published_denoiser",
    "models.published.prompts": "pipelines.text_encoder",
    "operations": "profiling.flops",
    "published.keys": "checkpoints.key_maps",
    "published.wan_transformer_keys": "pipelines.wan.transformer_keys",
    "representations.clip_rows": "representations.clip_windows",
    "representations.dense.following": "representations.dense.tracked_labels",
    "representations.dense.reducing": "representations.dense.pca",
    "representations.directions.concepts": "representations.steering.tcav",
    "representations.directions.finding": "representations.steering.directions",
    "representations.directions.steering": "representations.steering.steer",
    "representations.exporting": "representations.export",
    "representations.joining": "representations.merge",
    "representations.ranking": "representations.search.ranking",
    "representations.regimes.backbone": "representations.probes.backbone",
    "representations.regimes.fine_tuning": "representations.probes.fine_tuning",
    "representations.variants": "representations.feature_sets",
    "representations.views": "representations.augmentations",
    "roof": "profiling.roofline",
    "room": "checkpoints.memory",
    "samplers.convergence": "samplers.evaluation.convergence",
    "samplers.degradations": "samplers.conditioning.degradations",
    "samplers.guidance.passes": "samplers.guidance.batched_guidance",
    "samplers.guidance.weakening": "samplers.guidance.perturbed_attention",
    "samplers.image_first": "pipelines.image_first",
    "samplers.prompting": "samplers.guidance.guided_denoiser",
    "samplers.published.image_to_video": "pipelines.wan.image_to_video",
    "samplers.published.schedules": "pipelines.published_schedule",
    "samplers.reference_pictures": "samplers.conditioning.ip_adapter",
    "samplers.scoring.feature_distance": "pipelines.evaluation.feature_distance",
    "samplers.scoring.step_scores": "pipelines.evaluation.step_scores",
    "samplers.truths": "samplers.evaluation.closed_forms",
    "tokenizers.clip_fit.network": "tokenizers.nerv.network",
    "tokenizers.clip_fit.quantising": "tokenizers.nerv.quantization",
    "tokenizers.diffusion.config": "tokenizers.diffusion_decoder.config",
    "tokenizers.encoding_taps": "tokenizers.feature_layers",
    "tokenizers.evaluation.evaluating": "tokenizers.evaluation.reconstruction",
    "tokenizers.keyframes.comparing": "tokenizers.keyframes.ablation",
    "tokenizers.keyframes.evaluating": "tokenizers.keyframes.evaluation",
    "tokenizers.memory.measuring": "profiling.live_memory",
    "tokenizers.memory.planning": "tokenizers.streaming.memory_plan",
    "tokenizers.memory.streaming": "tokenizers.streaming.chunks",
    "tokenizers.memory.tiles": "tokenizers.streaming.tiles",
    "tokenizers.memory.tiling": "tokenizers.streaming.tiling",
    "tokenizers.published.wan_keys": "pipelines.wan.autoencoder_keys",
    "train.clip_fitting": "train.tasks.nerv",
    "train.comparison.measuring": "train.ablations.measurement",
    "train.comparison.running": "train.ablations.run",
    "train.comparison.table": "train.ablations.table",
    "train.comparison.variants": "train.ablations.variants",
    "train.diffusion_tokenizer_task": "train.tasks.diffusion_decoder",
    "train.keyframe_task": "train.tasks.keyframes",
    "train.latent_statistics": "train.data.latent_statistics",
    "train.latents": "train.data.latent_cache",
    "train.objectives.arms": "train.ablations.objective_variants",
    "train.objectives.measures": "train.ablations.objective_measurement",
    "train.objectives.report": "train.ablations.objective_report",
    "train.picture_matching": "train.losses.contrastive",
    "train.recipe_files": "train.config.files",
    "train.running.guards": "train.runtime.divergence",
    "train.running.optimizers": "train.runtime.optimizers",
    "train.running.processes": "train.runtime.distributed",
    "train.tokenizer_task": "train.tasks.tokenizer",
}
MODULES |= {f"vidgen.{old}": (f"vidgen.{new}", {}) for old, new in MOVED.items()}


class RenamedModules:
    """A finder and loader of the old names in MODULES: each becomes a module that hands on what the new one has.

    It has no base class: importing importlib.abc takes as long as the rest of `import vidgen`.
    """

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return a spec for an old name or a folder of such, and None for any other."""
        is_package = any(name.startswith(f"{fullname}.") for name in MODULES)
        return ModuleSpec(fullname, self, is_package=is_package) if fullname in MODULES or is_package else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the making of the module to Python."""

    def exec_module(self, module: ModuleType) -> None:
        """Warn, and make the module look up its names in the new one; a folder alone has none."""
        if module.__name__ not in MODULES:
            return
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
