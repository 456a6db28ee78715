"""Text encoders, and text prepared for the blocks of a denoiser."""

from vidgen.models.text.encoders import ByteTextConfig, ByteTextEncoder, TextEncoding
from vidgen.models.text.transformers_encoder import TransformersTextEncoder

__all__ = ["ByteTextConfig", "ByteTextEncoder", "TextEncoding", "TransformersTextEncoder"]
