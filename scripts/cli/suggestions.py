"""Options as other tools call them: an unknown one is answered with ours."""

from __future__ import annotations

import re
from collections.abc import Collection

# By our option, those of diffusers' scripts, ComfyUI, the authors' own repositories, and habits of the shell.
OTHER_NAMES = {
    "--num-inference-steps": (
        "--steps",
        "--num-steps",
        "--n-steps",
        "--sample-steps",
        "--sampling-steps",
        "--ddim-steps",
    ),
    "--guidance-scale": (
        "--cfg",
        "--cfg-scale",
        "--guide-scale",
        "--sample-guide-scale",
        "--text-guidance",
    ),
    "--num-frames": ("--frames", "--frame-num", "--video-length", "--length", "--n-frames", "--nframes"),
    "--num-videos-per-prompt": ("--num-samples", "--n-samples", "--samples", "--num-videos", "--copies", "--n-iter"),
    "--output": ("--out", "--out-dir", "--output-dir", "--save-file", "--save-path", "--outdir", "--output-path"),
    "--prompts-file": ("--prompts", "--prompt-file", "--prompt-path", "--from-file"),
    "--negative-prompt": ("--neg", "--negative", "--neg-prompt", "--n-prompt"),
    "--model": ("--ckpt", "--ckpt-dir", "--ckpt-path", "--checkpoint", "--model-path", "--pretrained"),
    "--sampler": ("--solver", "--scheduler", "--sample-solver", "--sampling-method"),
    "--image": ("--init-image", "--input-image", "--image-path", "--first-image", "--first-frame"),
    "--last-image": ("--last-frame", "--end-image", "--tail-image"),
    "--video": ("--init-video", "--input-video", "--video-path", "--source-video"),
    "--strength": ("--denoise", "--denoising-strength"),
    "--fps": ("--frame-rate", "--rate", "--framerate"),
    "--seed": ("--base-seed", "--random-seed", "--manual-seed"),
    "--batch-size": ("--batch", "--bs"),
    "--dtype": ("--precision", "--torch-dtype", "--fp16", "--bf16", "--half"),
    "--layers": ("--layer-names", "--blocks", "--feature-layers"),
}
OURS = {other: ours for ours, others in OTHER_NAMES.items() for other in others}


def suggest_option(message: str, options: Collection[str]) -> str:
    """Return what is said of an unknown option, with the one of `options` that means the same, if there is one."""
    match = re.match(r"No such option: (--[\w-]+)", message)
    ours = OURS.get(match[1].replace("_", "-")) if match else None
    return f"No such option: {match[1]}; here it is {ours}" if ours in options else message
