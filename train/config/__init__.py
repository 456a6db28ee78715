"""What a recipe can say: the dataclasses that its YAML is checked against, one of them for each task."""

from vidgen.train.config.change_codes import ChangeCodesRecipe as ChangeCodesRecipe
from vidgen.train.config.data import DataConfig as DataConfig
from vidgen.train.config.data import SourceConfig as SourceConfig
from vidgen.train.config.diffusion import DiffusionRecipe as DiffusionRecipe
from vidgen.train.config.diffusion import IPAdapterRecipe as IPAdapterRecipe
from vidgen.train.config.diffusion import LoRARecipe as LoRARecipe
from vidgen.train.config.diffusion import TextualInversionRecipe as TextualInversionRecipe
from vidgen.train.config.distillation import DistillationRecipe as DistillationRecipe
from vidgen.train.config.forecast import ForecastRecipe as ForecastRecipe
from vidgen.train.config.gan import GANRecipe as GANRecipe
from vidgen.train.config.keyframes import KeyframeLossConfig as KeyframeLossConfig
from vidgen.train.config.keyframes import KeyframeRecipe as KeyframeRecipe
from vidgen.train.config.known_entropy import KnownEntropyRecipe as KnownEntropyRecipe
from vidgen.train.config.preference import PreferenceRecipe as PreferenceRecipe
from vidgen.train.config.prior import PriorRecipe as PriorRecipe
from vidgen.train.config.run import GuardConfig as GuardConfig
from vidgen.train.config.run import LoopConfig as LoopConfig
from vidgen.train.config.run import OptimizerConfig as OptimizerConfig
from vidgen.train.config.self_supervised import SSLRecipe as SSLRecipe
from vidgen.train.config.side_stream import SideStreamRecipe as SideStreamRecipe
from vidgen.train.config.text_video.align import AlignRecipe as AlignRecipe
from vidgen.train.config.text_video.fuse import FuseRecipe as FuseRecipe
from vidgen.train.config.tokenizer import AdversarialConfig as AdversarialConfig
from vidgen.train.config.tokenizer import DiffusionTokenizerRecipe as DiffusionTokenizerRecipe
from vidgen.train.config.tokenizer import TokenizerLossConfig as TokenizerLossConfig
from vidgen.train.config.tokenizer import TokenizerRecipe as TokenizerRecipe
