"""`vidgen steer`: a clip changed by a direction in feature space that labels or nearest clips of a bank give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.option_sets import HardwareOptions, with_option_sets
from vidgen.scripts.cli.options import JsonOption, ModelOption, SeedOption, parse_numbers
from vidgen.scripts.cli.outputs import check_output, output_kind
from vidgen.scripts.cli.printing import print_json, print_table
from vidgen.scripts.extract import open_model

if TYPE_CHECKING:
    from torch import Tensor

    from vidgen.interfaces import Tokenizer
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.steering import Direction
    from vidgen.representations.steering.steer import Steered


@with_option_sets
def steer(
    *,
    bank: Annotated[
        Path, typer.Argument(metavar="BANK", help="A bank with tokenizer.latents, extracted with --pool mean or none.")
    ],
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="The clip to change.")],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="File to write: the changed clips side by side, strengths from left to right.",
        ),
    ],
    task: Annotated[str | None, typer.Option(help="The column of labels to change.")] = None,
    value: Annotated[
        str | None, typer.Option(help="The label to move to; leave it out for a column of numbers.")
    ] = None,
    by: Annotated[
        Literal["mean", "probe", "neighbors"],
        typer.Option(
            help="The direction: difference of class means, weights of a linear probe, or to the nearest clips."
        ),
    ] = "mean",
    neighbors: Annotated[
        int,
        typer.Option(
            min=1, max=10**6, help="How many nearest clips to move to; with --value, of those with that label."
        ),
    ] = 5,
    strengths: Annotated[
        str,
        typer.Option(help="How far to go: 1 is the mean of clips with the label, or a standard deviation of numbers."),
    ] = "-1,0,1,2",
    model: ModelOption = "default",
    seed: SeedOption = 0,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Move a clip's latents along a direction that a bank gives, and decode them at several strengths.

    Printed is how far along the direction the latents were put, and how far the latents of the decoded pixels are.
    Example: vidgen steer bank clip.mp4 --task colour --value red -o redder.mp4
    """
    amounts = parse_numbers(strengths, "--strengths")
    if not amounts:
        raise VidgenError("--strengths needs a number or more, such as -1,0,1,2")
    if by != "neighbors" and task is None:
        raise VidgenError(f"a direction by {by} is one of labels; name their column with --task")
    output_kind(output, None)
    check_output(output, folder=output.suffix == "")

    from vidgen.checkpoints.hashing import model_hash
    from vidgen.data.frames import to_tensor
    from vidgen.data.reading import read_video
    from vidgen.data.writing import write_video
    from vidgen.pipelines.video import VideoPipeline
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.steering import fit_direction
    from vidgen.representations.steering.steer import LATENTS
    from vidgen.representations.steering.steer import steer as add_and_decode

    features = FeatureBank.load(bank)
    key = features.find_key(LATENTS)
    opened = open_model(model, hardware.device, hardware.dtype)
    if features.meta.get("model_hash") not in (None, model_hash(opened)):
        raise VidgenError(
            f"{bank} was not made with the model {model!r} in {hardware.dtype}; give --model and --dtype as there"
        )
    tokenizer = opened.vae if isinstance(opened, VideoPipeline) else opened
    reading = features.meta.get("preprocessing", {})
    size = tuple(reading["size"]) if reading.get("size") else None
    source = read_video(clip, num_frames=reading.get("num_frames"), fps=reading.get("fps"), size=size)
    video = to_tensor(source.frames)
    if by == "neighbors":
        direction = direction_to_nearest(features, key, tokenizer, video, neighbors, task, value)
    else:
        direction = fit_direction(features, key, task, value, way=by, seed=seed)
    steered = add_and_decode(tokenizer, video, direction, amounts, features.meta.get("pool", "none"))
    write_video(steered.side_by_side, output, fps=source.fps)
    show(steered, direction, by, output, json)


def show(steered: Steered, direction: Direction, by: str, output: Path, as_json: bool) -> None:
    """Print where the latents were put along the direction, and where those of the decoded pixels are."""
    if as_json:
        report = {"path": str(output), "direction": direction.name, "by": by, "separation": direction.separation}
        rows = {
            "strengths": list(steered.strengths),
            "wanted": list(steered.latent_positions),
            "seen": list(steered.decoded_positions),
        }
        print_json(report | rows)
        return
    columns = zip(steered.strengths, steered.latent_positions, steered.decoded_positions, strict=True)
    cells = [(f"{strength:g}", f"{put:.2f}", f"{decoded:.2f}") for strength, put, decoded in columns]
    print_table(f"{direction.name} by {by}", (">strength", ">latents put at", ">decoded pixels at"), cells)
    separation = direction.separation
    auc = "" if separation is None else f"; classes separate on held-out clips with AUC {separation:.3f}"
    print(f"{output}{auc}")


def direction_to_nearest(
    bank: FeatureBank, key: str, tokenizer: Tokenizer, video: Tensor, count: int, task: str | None, value: str | None
) -> Direction:
    """Return the direction from a clip to the mean of its nearest in a bank.

    Args:
        bank: the clips to move to.
        key: their features.
        tokenizer: what the clip is encoded with.
        video: the clip, (3, T, H, W) in [-1, 1].
        count: how many nearest clips.
        task: a column of labels; None takes all clips.
        value: the label in that column that the nearest clips have.
    """
    from vidgen.representations.steering.directions import direction_to_neighbors, read_labels
    from vidgen.representations.steering.steer import encode_pooled

    X = bank.X(key)
    name = f"{count} nearest"
    if task is not None:
        if value is None:
            raise VidgenError("--by neighbors takes --task with a --value, or neither")
        X = X[read_labels(bank, task, value)[0] == 1]
        name = f"{name} with {task}={value}"
    query = encode_pooled(tokenizer, video, bank.meta.get("pool", "none"))
    return direction_to_neighbors(X, query, count, name)[0]


if __name__ == "__main__":
    run_verb("steer", steer)
