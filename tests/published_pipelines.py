"""Pipelines of diffusers with small random weights, as its own classes make and save them."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

WORDS = "a red circle blue square moves right left cat & and".split()
SPECIAL = ["<pad>", "</s>", "<unk>"]


def make_words() -> Any:
    """A tokenizer of transformers over a dozen words, which ends texts as T5's does."""
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({w: i for i, w in enumerate(SPECIAL + WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    words.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def make_text_encoder(name: str) -> Any:
    import transformers

    size = dict(vocab_size=len(SPECIAL + WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2)
    config = getattr(transformers, f"{name}Config")(**size)
    return getattr(transformers, f"{name}EncoderModel")(config)


# Settings that all of Wan's published text-to-video models share, and heads that a VideoDiT has too.
NATIVE = {"freq_dim": 256, "attention_head_dim": 16}


def shaken(network: Any) -> Any:
    """The network, none of its weights at zero or one."""
    for value in network.parameters():
        value.requires_grad_(False).add_(0.05 * torch.randn_like(value))
    return network.eval()


def make_wan_transformer(**settings: Any) -> Any:
    from diffusers import WanTransformer3DModel

    """Not of `NATIVE` settings, it is one that is not read into a VideoDiT."""
    size = dict(num_attention_heads=2, out_channels=4, text_dim=16, ffn_dim=32, num_layers=2, rope_max_seq_len=32)
    rest = dict(attention_head_dim=12, in_channels=4, freq_dim=16)
    return shaken(WanTransformer3DModel(**size, **{**rest, **settings}))


def make_wan(scheduler: Any, transformer: Any = None, name: str = "WanPipeline", **settings: Any) -> Any:
    import diffusers
    from diffusers import AutoencoderKLWan

    stats = dict(latents_mean=[0.1, 0.2, -0.3, 0.4], latents_std=[1.0, 2.0, 0.5, 3.0])
    vae = AutoencoderKLWan(base_dim=4, z_dim=4, num_res_blocks=1, **stats)
    parts = dict(tokenizer=make_words(), text_encoder=shaken(make_text_encoder("UMT5")), vae=shaken(vae))
    transformer = transformer or make_wan_transformer()
    return getattr(diffusers, name)(**parts, scheduler=scheduler, transformer=transformer, **settings)


def make_eye() -> dict[str, Any]:
    """CLIP's vision model and what it needs before it."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    size = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2)
    model = shaken(CLIPVisionModel(CLIPVisionConfig(**size, image_size=28, patch_size=14)))
    edge = dict(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    return {"image_encoder": model, "image_processor": CLIPImageProcessor(**edge)}


def make_cogvideox(scheduler: Any, **settings: Any) -> Any:
    from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, CogVideoXTransformer3DModel

    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, text_embed_dim=16,
        time_embed_dim=8, num_layers=2, sample_width=6, sample_height=4, sample_frames=9, **settings,
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(4, 4, 4, 4), latent_channels=4, layers_per_block=1, norm_num_groups=2, scaling_factor=0.7
    )
    parts = dict(tokenizer=make_words(), text_encoder=shaken(make_text_encoder("T5")), vae=shaken(vae))
    return CogVideoXPipeline(**parts, scheduler=scheduler, transformer=shaken(transformer))


def make_ltx(scheduler: Any, **settings: Any) -> Any:
    from diffusers import AutoencoderKLLTXVideo, LTXPipeline, LTXVideoTransformer3DModel

    transformer = LTXVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12, cross_attention_dim=24,
        num_layers=2, caption_channels=16,
    )  # fmt: skip
    scaling = dict.fromkeys(("spatio_temporal_scaling", "decoder_spatio_temporal_scaling"), (True, True, False, False))
    widths = dict.fromkeys(("block_out_channels", "decoder_block_out_channels"), (4, 4, 4, 4))
    layers = dict.fromkeys(("layers_per_block", "decoder_layers_per_block"), (1, 1, 1, 1, 1))
    vae = AutoencoderKLLTXVideo(latent_channels=4, **scaling, **widths, **layers, **settings)
    vae.latents_mean.copy_(torch.tensor([0.1, 0.2, -0.3, 0.4]))
    vae.latents_std.copy_(torch.tensor([1.0, 2.0, 0.5, 3.0]))
    parts = dict(tokenizer=make_words(), text_encoder=shaken(make_text_encoder("T5")), vae=shaken(vae))
    return LTXPipeline(**parts, scheduler=scheduler, transformer=shaken(transformer))


def make_pipeline(kind: str) -> Any:
    """A pipeline of diffusers, with the kind of schedule that its published weights have."""
    from diffusers import (
        CogVideoXDDIMScheduler,
        CogVideoXDPMScheduler,
        FlowMatchEulerDiscreteScheduler,
        UniPCMultistepScheduler,
    )

    flow = FlowMatchEulerDiscreteScheduler
    dynamic = dict(base_shift=0.95, max_shift=2.05, base_image_seq_len=4, max_image_seq_len=64, shift_terminal=0.1)
    vp = dict(rescale_betas_zero_snr=True, prediction_type="v_prediction", timestep_spacing="trailing")
    unipc = dict(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    rotary = dict(use_rotary_positional_embeddings=True)
    makers = {
        "wan": lambda: make_wan(flow(shift=3.0)),
        "wan-unipc": lambda: make_wan(UniPCMultistepScheduler(**unipc)),
        "wan-native": lambda: make_wan(UniPCMultistepScheduler(**unipc), make_wan_transformer(**NATIVE)),
        "wan-native-frames": lambda: make_wan(flow(shift=5.0), make_wan_transformer(**NATIVE), expand_timesteps=True),
        "wan-native-two": lambda: make_wan(
            flow(shift=3.0),
            make_wan_transformer(**NATIVE),
            transformer_2=make_wan_transformer(**NATIVE),
            boundary_ratio=0.875,
        ),
        "wan-two": lambda: make_wan(flow(shift=3.0), transformer_2=make_wan_transformer(), boundary_ratio=0.875),
        "wan-image": lambda: make_wan(
            flow(shift=3.0),
            make_wan_transformer(in_channels=12, image_dim=16, added_kv_proj_dim=24),
            "WanImageToVideoPipeline",
            **make_eye(),
        ),
        "wan-image-two": lambda: make_wan(
            flow(shift=3.0),
            make_wan_transformer(in_channels=12),
            "WanImageToVideoPipeline",
            transformer_2=make_wan_transformer(in_channels=12),
            boundary_ratio=0.875,
        ),
        "wan-frames": lambda: make_wan(flow(shift=5.0), expand_timesteps=True),
        "cogvideox": lambda: make_cogvideox(CogVideoXDDIMScheduler(**vp, snr_shift_scale=3.0)),
        "cogvideox-rotary": lambda: make_cogvideox(CogVideoXDPMScheduler(**vp, snr_shift_scale=1.0), **rotary),
        "cogvideox-1.5": lambda: make_cogvideox(CogVideoXDDIMScheduler(**vp), patch_size_t=2, **rotary),
        "ltx": lambda: make_ltx(flow(use_dynamic_shifting=True, **dynamic)),
        "ltx-noise": lambda: make_ltx(
            flow(shift=2.0), timestep_conditioning=True, decoder_inject_noise=(True, False, False, False, True)
        ),
    }
    torch.manual_seed(0)
    pipeline = makers[kind]()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
