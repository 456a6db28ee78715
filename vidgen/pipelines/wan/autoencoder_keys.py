"""The one key map between our networks and AutoencoderKLWan: names, shapes, and the order of a patch's pixels."""

from __future__ import annotations

from vidgen.checkpoints.key_maps import Key, Order
from vidgen.tokenizers.config import TokenizerConfig
from vidgen.tokenizers.model import VideoTokenizer

# Parts of a layer, ours and theirs.
PARTS = {
    "norm": "norm",
    "norm1": "norm1",
    "norm2": "norm2",
    "mix1.layers.0": "conv1",
    "mix2.layers.0": "conv2",
    "skip": "conv_shortcut",
    "to_qkv": "to_qkv",
    "out": "proj",
    "space": "resample.1",
    "time.conv": "time_conv",
}
ENDS = {
    "encoder.conv_in": "encoder.conv_in",
    "encoder.out.norm": "encoder.norm_out",
    "encoder.out.conv": "encoder.conv_out",
    "encoder.mix": "quant_conv",
    "decoder.mix": "post_quant_conv",
    "decoder.conv_in": "decoder.conv_in",
    "decoder.out.norm": "decoder.norm_out",
    "decoder.out.conv": "decoder.conv_out",
}
MIDDLE = ("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1")


def match_autoencoder_keys(tokenizer: VideoTokenizer) -> list[Key]:
    """Return one `Key` per checkpoint tensor, naming our tensor that it fills.

    Pixels of a patch are by rows in ours, by columns in theirs.
    """
    config = tokenizer.config
    ends = {"encoder.conv_in.weight": 1, "decoder.out.conv.weight": 0, "decoder.out.conv.bias": 0}
    sides = {"q": config.patch, "r": config.patch}
    keys = []
    for name, tensor in tokenizer.state_dict().items():
        if name.startswith(("encoder.", "decoder.")):
            theirs = rename(name, config)
            order = None
            if name in ends and config.patch > 1:
                order = Order(ours="c q r", theirs="c r q", sizes=sides, axis=ends[name])
            keys.append(Key(ours=name, name=theirs, shape=shape_of(theirs, tuple(tensor.shape)), order=order))
    return keys


def rename(name: str, config: TokenizerConfig) -> str:
    """Return their name of our tensor `name`."""
    path, _, kind = name.rpartition(".")
    if path in ENDS:
        theirs = ENDS[path]
    else:
        half, _, index, *rest = path.split(".")
        rename_layer = encoder_layer if half == "encoder" else decoder_layer
        theirs = f"{half}.{rename_layer(int(index), rest, config)}"
    return f"{theirs}.{'gamma' if 'norm' in theirs.rsplit('.', 1)[-1] else kind}"


def encoder_layer(index: int, rest: list[str], config: TokenizerConfig) -> str:
    """Return our layer `index` and the path below it, as theirs: stages are modules only where there are shortcuts."""
    if index >= len(config.widths):
        return f"{MIDDLE[index - len(config.widths)]}.{PARTS['.'.join(rest)]}"
    count = config.encoder_blocks
    if rest[0] == "blocks":
        block = int(rest[1])
        part = PARTS[".".join(rest[2:])]
        inside = f"{index}.resnets.{block}" if config.shortcuts else f"{index * (count + 1) + block}"
    else:
        part = PARTS[".".join(rest[1:])]
        inside = f"{index}.downsampler" if config.shortcuts else f"{index * (count + 1) + count}"
    return f"down_blocks.{inside}.{part}"


def decoder_layer(index: int, rest: list[str], config: TokenizerConfig) -> str:
    """Return the same of the decoder, which begins with the middle."""
    if index < len(MIDDLE):
        return f"{MIDDLE[index]}.{PARTS['.'.join(rest)]}"
    stage = f"up_blocks.{index - len(MIDDLE)}"
    if rest[0] == "blocks":
        return f"{stage}.resnets.{rest[1]}.{PARTS['.'.join(rest[2:])]}"
    return f"{stage}.{'upsampler' if config.shortcuts else 'upsamplers.0'}.{PARTS['.'.join(rest[1:])]}"


def shape_of(theirs: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of their tensor: weights of norms have the axes of their inputs, layers of a frame are 2-D."""
    if theirs.endswith("gamma"):
        return (*shape, 1, 1) if ".attentions." in theirs else (*shape, 1, 1, 1)
    if theirs.endswith(("to_qkv.weight", "proj.weight")):
        return (*shape, 1, 1)
    if theirs.endswith("resample.1.weight"):
        return (*shape[:2], *shape[3:])
    return shape
