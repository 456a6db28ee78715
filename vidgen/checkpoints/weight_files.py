"""What a file of weights is that cannot be read here, by its first bytes, its name or its tensors' names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vidgen.files.bounded_files import check_regular, parse_json

PICKLED = "a pickled file, which could run code when read; take the model as safetensors, in diffusers' layout"
POINTER = "a git-LFS pointer, not the file itself; fetch that with `git lfs pull`"
SIGNATURES = (
    (b"version https://git-lfs", POINTER),
    (b"GGUF", "a GGUF file, of weights quantized for other programs; take the model's safetensors"),
    (b"PK\x03\x04", PICKLED),
    *((bytes([0x80, protocol]), PICKLED) for protocol in range(2, 6)),
    (b"\x89HDF", "an HDF5 file; save its tensors as safetensors"),
    (b"<", "a web page, such as a server's answer where a file is not found; fetch it again"),
    (b"{", "JSON text, not weights; check the path"),
)
PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
OTHER_SUFFIXES = {
    **dict.fromkeys(PICKLED_SUFFIXES, PICKLED),
    **dict.fromkeys((".msgpack", ".h5", ".onnx"), "a file of another framework; take the model's safetensors"),
    ".gguf": SIGNATURES[1][1],
}
LARGEST_HEADER = 100_000_000  # bytes, of safetensors files: the format's own bound
# Names of tensors in files for one network, as the models were first published -> what the file holds.
PUBLISHED_NAMES = {
    "encoder.conv1.weight": "the autoencoder of Wan under its authors' own names; take the folder vae",
    "blocks.0.self_attn.q.weight": "the transformer of Wan under its authors' own names; take the folder transformer",
    "double_blocks.0.img_attn.proj.weight": "a transformer under its authors' own names; take the folder transformer",
    "transformer_blocks.0.attn1.to_q.weight": "a transformer without its config; take the folder transformer",
    "encoder.block.0.layer.0.SelfAttention.q.weight": "a T5 encoder without its config; take the folder text_encoder",
}
WRAPPERS = ("", "model.diffusion_model.", "diffusion_model.", "model.", "vae.")
SCALES = ("scaled_fp8", ".scale_weight", ".weight_scale", ".scale_input")


def describe_bytes_of(path: Path) -> str | None:
    """Return what a file is instead of safetensors, and what to do; None where its first bytes do not say."""
    size = check_regular(path)
    if not size:
        return "empty; fetch it again"
    with path.open("rb") as file:
        start = file.read(64)
        header = int.from_bytes(start[:8], "little")
        plausible = start[8:9] == b"{" and header <= LARGEST_HEADER
        if not plausible:
            return next((what for magic, what in SIGNATURES if start.lstrip().startswith(magic)), None)
        file.seek(8)
        text = file.read(min(header, size))
    try:
        ends = [entry["data_offsets"][1] for name, entry in parse_json(text).items() if name != "__metadata__"]
        wanted = 8 + header + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        wanted = 8 + header
    return f"cut short: it has {size} bytes of {wanted}; fetch it again" if size < wanted else None


def describe_missing(folder: Path, name: str) -> str:
    """Return what lies in a folder in the place of the weights `name`, and what to do; "" where nothing does."""
    if not folder.is_dir():
        return ""
    stem = name.removesuffix(".safetensors")
    for path in sorted(folder.iterdir()):
        if path.suffix in OTHER_SUFFIXES:
            return f"{path.name} in its place is {OTHER_SUFFIXES[path.suffix]}"
        if path.suffix == ".safetensors" and path.name.startswith(f"{stem}."):
            variant = path.name.removeprefix(f"{stem}.").split(".")[0].split("-")[0]
            return f"{path.name} beside it is the variant {variant!r}: ask for that, or rename it to {name}"
    return ""


def describe_single_file(names: Iterable[str], dtypes: Iterable[str]) -> str | None:
    """Return what a file of tensors without a config holds, and what to do; None where their names do not say."""
    names = set(names)
    if any(name.endswith(SCALES) for name in names) or any(dtype.startswith("F8") for dtype in dtypes):
        return "weights in float8, with scales for other programs; take the model in bfloat16, as a folder of diffusers"
    for wrapper in WRAPPERS:
        for name, what in PUBLISHED_NAMES.items():
            if wrapper + name in names:
                return f"{what} of the same model in diffusers' layout"
    return None
