"""Text models of transformers: one table of their types and of what differs between them, and drafts of them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vidgen.checkpoints.conversion import NetworkDraft
from vidgen.checkpoints.drafts import draft_kind
from vidgen.checkpoints.other_libraries import read_network_config
from vidgen.models.text.prompt_rule import PromptRule

# Tensors of transformers' files that hold more than a text encoder: T5's decoder, the rest of CLIP, heads, and tables
# that are made anew.
OTHER_NETWORKS = (
    r"^decoder\.",
    r"^lm_head\.",
    r"^vision_model\.",
    r"_projection\.",
    r"^logit_scale$",
    r"position_ids$",
    r"^logit_bias$",
    r"(^|\.)pooler\.",
    r"\.(attn|attention)\.(masked_)?bias$",
    r"rotary_emb\.inv_freq$",
)
POSITIONS = 512  # tokens of a model that says of no limit
POOLER = "add_pooling_layer"


@dataclass(frozen=True, kw_only=True)
class TextModel:
    """What a type of transformers' text models is made by.

    network: the class. prefix: what names of a whole model begin with where the class's do not. offset: positions
    begin after the number of the padding token. causal: a token sees those before it alone. filled: prompts are filled
    up to the longest length, and padding is attended to as words are, as the model was trained.
    """

    network: str
    prefix: str = ""
    offset: bool = False
    causal: bool = False
    filled: bool = False

    @property
    def pooled_last(self) -> bool:
        """Whether the last token is the one that stands for the text."""
        return self.causal or self.filled or self.network == "CLIPTextModel"


def bert_like(name: str, prefix: str, **settings: bool) -> TextModel:
    """Return a bidirectional model, whose whole models have their body under `prefix`."""
    return TextModel(network=name, prefix=f"{prefix}.", **settings)


def decoder(name: str, prefix: str = "model.") -> TextModel:
    """Return a causal model, whose whole models have their body under `prefix`."""
    return TextModel(network=name, prefix=prefix, causal=True)


CLIP = TextModel(network="CLIPTextModel", prefix="text_model.")
SIGLIP = TextModel(network="SiglipTextModel", prefix="text_model.", filled=True)
SIGLIP2 = TextModel(network="Siglip2TextModel", prefix="text_model.", filled=True)
TEXT_MODELS = {
    "t5": TextModel(network="T5EncoderModel"),
    "umt5": TextModel(network="UMT5EncoderModel"),
    "mt5": TextModel(network="MT5EncoderModel"),
    "clip_text_model": CLIP,
    "clip": CLIP,
    "siglip_text_model": SIGLIP,
    "siglip": SIGLIP,
    "siglip2_text_model": SIGLIP2,
    "siglip2": SIGLIP2,
    "bert": bert_like("BertModel", "bert"),
    "roberta": bert_like("RobertaModel", "roberta", offset=True),
    "xlm-roberta": bert_like("XLMRobertaModel", "roberta", offset=True),
    "camembert": bert_like("CamembertModel", "roberta", offset=True),
    "mpnet": bert_like("MPNetModel", "mpnet", offset=True),
    "distilbert": bert_like("DistilBertModel", "distilbert"),
    "electra": bert_like("ElectraModel", "electra"),
    "albert": bert_like("AlbertModel", "albert"),
    "ernie": bert_like("ErnieModel", "ernie"),
    "deberta-v2": bert_like("DebertaV2Model", "deberta"),
    "modernbert": bert_like("ModernBertModel", "model"),
    "gpt2": decoder("GPT2Model", "transformer."),
    "gpt_neox": decoder("GPTNeoXModel", "gpt_neox."),
    "llama": decoder("LlamaModel"),
    "mistral": decoder("MistralModel"),
    "qwen2": decoder("Qwen2Model"),
    "qwen3": decoder("Qwen3Model"),
    "gemma": decoder("GemmaModel"),
    "gemma2": decoder("Gemma2Model"),
    "gemma3_text": decoder("Gemma3TextModel"),
}


def draft_text_model(folder: Path, dtype: torch.dtype | None) -> tuple[NetworkDraft, TextModel]:
    """Return the text model in a folder of transformers' layout, to be filled in `dtype`, and its row of the table.

    Raises VidgenError for a type that is not in TEXT_MODELS, and as `draft_transformers`.
    """
    import transformers

    row, settings = read_network_config(folder, TEXT_MODELS)
    kind = getattr(transformers, row.network)
    options = {POOLER: False} if POOLER in inspect.signature(kind.__init__).parameters else None
    draft = draft_kind(
        kind, settings, folder, dtype, prefix=row.prefix, left_out=OTHER_NETWORKS, headless=True, options=options
    )
    config = draft.network.config
    if row.causal:
        config.use_cache = False  # nothing comes after what is read at once
    return draft, row


def longest_prompt(row: TextModel, config: Any) -> int:
    """Return how many tokens a text model takes, by its row of the table and transformers' config."""
    positions = getattr(config, "max_position_embeddings", None)
    if not positions:
        return POSITIONS
    return positions - config.pad_token_id - 1 if row.offset else positions


def prompt_rule(row: TextModel, length: int) -> PromptRule | None:
    """Return the rule of a model that is filled up to `length` tokens; None for others, whose padding is not seen."""
    return PromptRule(length=length) if row.filled else None
