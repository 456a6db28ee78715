"""Generative video in one package. The public names below are imported on first use, so `import vidgen` is instant."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from vidgen.renamed_modules import install

if TYPE_CHECKING:
    from vidgen.data.reading import read_video as read_video
    from vidgen.data.writing import write_video as write_video
    from vidgen.diffusion.noise import TimeDistribution as TimeDistribution
    from vidgen.diffusion.paths import CosinePath as CosinePath
    from vidgen.diffusion.paths import EDMPath as EDMPath
    from vidgen.diffusion.paths import FlowPath as FlowPath
    from vidgen.lora.loading import load_lora as load_lora
    from vidgen.models.dit.video_dit import VideoDiT as VideoDiT
    from vidgen.pipelines.loading import load_pipeline as load_pipeline
    from vidgen.pipelines.loading import load_tokenizer as load_tokenizer
    from vidgen.pipelines.rollout import rollout as rollout
    from vidgen.representations.bank import FeatureBank as FeatureBank
    from vidgen.representations.extractor import FeatureExtractor as FeatureExtractor
    from vidgen.samplers.guidance.registry import Guidance as Guidance
    from vidgen.samplers.solvers import SAMPLERS as SAMPLERS
    from vidgen.tokenizers.bottlenecks import BOTTLENECKS as BOTTLENECKS
    from vidgen.tokenizers.model import VideoTokenizer as VideoTokenizer

__version__ = "0.2.0"

# In a checkout (an editable install, or Python started at its root) tokenizers/, samplers/, train/ and scripts/ lie
# beside this folder rather than inside it; looking there too makes vidgen.tokenizers and the others importable. A wheel
# holds them inside, and has no setup.cfg beside it. A side effect without harm: in a checkout vidgen.tests and
# vidgen.vidgen resolve as well; nothing imports them. The checkout never goes onto sys.path, where the folder
# tokenizers/ would meet Hugging Face's package of that name.
_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isfile(os.path.join(_CHECKOUT, "setup.cfg")) and _CHECKOUT not in __path__:
    __path__.append(_CHECKOUT)

install()

# Public name -> module that defines it. Strings, because the core imports none of the side folders.
_PUBLIC = {
    "BOTTLENECKS": "vidgen.tokenizers.bottlenecks",
    "CosinePath": "vidgen.diffusion.paths",
    "EDMPath": "vidgen.diffusion.paths",
    "FeatureBank": "vidgen.representations.bank",
    "FeatureExtractor": "vidgen.representations.extractor",
    "FlowPath": "vidgen.diffusion.paths",
    "Guidance": "vidgen.samplers.guidance.registry",
    "SAMPLERS": "vidgen.samplers.solvers",
    "TimeDistribution": "vidgen.diffusion.noise",
    "VideoDiT": "vidgen.models.dit.video_dit",
    "VideoTokenizer": "vidgen.tokenizers.model",
    "load_lora": "vidgen.lora.loading",
    "load_pipeline": "vidgen.pipelines.loading",
    "load_tokenizer": "vidgen.pipelines.loading",
    "read_video": "vidgen.data.reading",
    "rollout": "vidgen.pipelines.rollout",
    "write_video": "vidgen.data.writing",
}


def __getattr__(name: str) -> Any:
    """Import a public name from the module that defines it, once. Raises AttributeError for any other name."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'vidgen' has no attribute {name!r}; public names: {', '.join(sorted(_PUBLIC))}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
