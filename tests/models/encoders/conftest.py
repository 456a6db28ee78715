"""Tiny checkpoints with random weights, made by the true classes of transformers and timm, processors included."""

import pytest
import torch

SIZE = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2)
KIND = dict(**SIZE, intermediate_size=64, image_size=32, patch_size=8)
CROP = dict(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})
WHOLE = dict(size={"height": 32, "width": 32})
TEXT = dict(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=64, bos_token_id=0,
    eos_token_id=1, pad_token_id=2,
)  # fmt: skip
MIT = dict(mit_hidden_size=32, mit_num_hidden_layers=1, mit_num_attention_heads=2, mit_intermediate_size=32)
# The folder's name -> (network, its settings, processor, its settings); all of transformers.
CHECKPOINTS = {
    "vjepa2": (
        "VJEPA2Model",
        dict(
            crop_size=32, patch_size=8, frames_per_clip=4, hidden_size=36, num_attention_heads=2, num_hidden_layers=3,
            mlp_ratio=2, pred_hidden_size=36, pred_num_attention_heads=2, pred_num_hidden_layers=1,
        ),
        "VJEPA2VideoProcessor", dict(crop_size=32),
    ),
    "videomae": ("VideoMAEModel", dict(num_frames=4, **KIND), "VideoMAEVideoProcessor", CROP),
    "videomae fine-tuned": (
        "VideoMAEForVideoClassification", dict(num_frames=4, use_mean_pooling=True, **KIND), "VideoMAEImageProcessor",
        CROP,
    ),
    "vivit": (
        "VivitForVideoClassification",
        dict(**SIZE, intermediate_size=64, image_size=32, num_frames=4, tubelet_size=[2, 8, 8]),
        "VivitImageProcessor", CROP,
    ),
    "timesformer": ("TimesformerModel", dict(num_frames=4, **KIND), "VideoMAEImageProcessor", CROP),
    "xclip": (
        "XCLIPModel", dict(vision_config=dict(num_frames=4, **MIT, **KIND), text_config=TEXT, projection_dim=32),
        "VideoMAEImageProcessor", CROP,
    ),
    "clip": ("CLIPModel", dict(vision_config=KIND, text_config=TEXT), "CLIPImageProcessor", CROP),
    "clip vision": ("CLIPVisionModel", KIND, "CLIPImageProcessor", CROP),
    "siglip": ("SiglipModel", dict(vision_config=KIND, text_config=TEXT), "SiglipImageProcessor", WHOLE),
    "dinov2": ("Dinov2Model", dict(image_size=32, patch_size=8, **SIZE), "BitImageProcessor", CROP),
    "dinov2 registers": (
        "Dinov2WithRegistersModel", dict(image_size=32, patch_size=8, **SIZE), "BitImageProcessor", CROP,
    ),
    "dinov3": ("DINOv3ViTModel", dict(num_register_tokens=4, **KIND), "DINOv3ViTImageProcessor", WHOLE),
}  # fmt: skip
TIMM = {
    "timm vit": (
        "vit_tiny_patch16_224", dict(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=2, reg_tokens=2),
    ),
    "timm convnext": ("convnext_atto", dict(depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))),
    "timm swin": (
        "swin_tiny_patch4_window7_224",
        dict(img_size=32, window_size=4, embed_dim=16, depths=(1, 1), num_heads=(2, 2)),
    ),
}  # fmt: skip


def draw_weights(network):
    """Weights with which no layer is the identity, and no token is zero."""
    torch.manual_seed(0)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return network.eval()


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """The folder of every checkpoint, by name."""
    import timm
    import transformers

    root = tmp_path_factory.mktemp("encoders")
    for name, (kind, settings, processor, frames) in CHECKPOINTS.items():
        network_class = getattr(transformers, kind)
        network = draw_weights(network_class(network_class.config_class(**settings)))
        network.save_pretrained(root / name)
        getattr(transformers, processor)(**frames).save_pretrained(root / name)
    for name, (architecture, arguments) in TIMM.items():
        network = draw_weights(timm.create_model(architecture, num_classes=5, **arguments))
        timm.models.save_for_hf(
            network, root / name, model_args=arguments, safe_serialization=True,
            data_config={"input_size": (3, 32, 32), "crop_pct": 0.9},
        )  # fmt: skip
    return {name: root / name for name in (*CHECKPOINTS, *TIMM)}


@pytest.fixture(scope="session")
def clips():
    """8-bit frames (3, 4, 40, 44, 3) of three clips."""
    return torch.randint(0, 256, (3, 4, 40, 44, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="session")
def video(clips):
    """The same as our clips (3, 3, 4, 40, 44) in [-1, 1]."""
    return clips.permute(0, 4, 1, 2, 3) / 127.5 - 1.0


@pytest.fixture(scope="session")
def checkpoints():
    """What the folders of transformers are made of, by name."""
    return CHECKPOINTS
