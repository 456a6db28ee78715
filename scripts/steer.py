"""`vidgen steer`: what a probe or neighbours found in a bank, added to a clip's latents and decoded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import DeviceOption, Dtype, JsonOption, ModelOption, SeedOption, parse_numbers
from vidgen.scripts.cli.outputs import check_output, output_kind
from vidgen.scripts.cli.printing import print_json, print_table
from vidgen.scripts.extract import open_model

if TYPE_CHECKING:
    import numpy as np

    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.steering import Direction


def steer(
    bank: Annotated[Path, typer.Argument(metavar="BANK", help="With tokenizer.latents, of pool mean or none.")],
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="The clip to change.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="A clip, strengths side by side from left to right.")
    ],
    task: Annotated[str | None, typer.Option(help="The column of labels that the direction is of.")] = None,
    value: Annotated[str | None, typer.Option(help="The label to move to; none for a column of numbers.")] = None,
    by: Annotated[
        Literal["mean", "probe", "neighbours"],
        typer.Option(help="The difference of class means, a linear probe's weights, or the mean of nearest clips."),
    ] = "mean",
    neighbours: Annotated[int, typer.Option(min=1, help="So many, of --value where it is given.")] = 5,
    strengths: Annotated[
        str, typer.Option(help="1: as clips with the label are, on average (of numbers: a standard deviation more).")
    ] = "-1,0,1,2",
    model: ModelOption = "default",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option(help="Precision of the networks; as the bank's.")] = "float32",
    json: JsonOption = False,
) -> None:
    """Add a direction that was found in a bank to a clip's latents, and decode it to pixels at several strengths.

    Printed is how far along the direction the latents were put, and how far those of the decoded pixels are.

    Example: vidgen steer bank clip.mp4 --task colour --value red -o redder.mp4
    """
    found_at = parse_numbers(strengths, "--strengths")
    if not found_at:
        raise VidgenError("--strengths needs a number or more, such as -1,0,1,2")
    if by != "neighbours" and task is None:
        raise VidgenError(f"a direction by {by} is one of labels; name their column with --task")
    output_kind(output, None)
    check_output(output, folder=output.suffix == "")

    from vidgen.checkpoints.hashing import model_hash
    from vidgen.data.frames import to_tensor
    from vidgen.data.reading import read_video
    from vidgen.data.writing import write_video
    from vidgen.representations.bank import FeatureBank
    from vidgen.representations.steering.steer import LATENTS
    from vidgen.representations.steering.steer import steer as add_and_decode

    held = FeatureBank.load(bank)
    key, window = held.find_key(LATENTS), held.meta.get("preprocessing", {})
    opened = open_model(model, device, dtype)
    if held.meta.get("model_hash") not in (None, model_hash(opened)):
        raise VidgenError(f"{bank} was not made with the model {model!r} in {dtype}; give --model and --dtype as there")
    shown = read_video(clip, **{name: window.get(name) for name in ("num_frames", "fps")}, size=window_size(window))
    video, tokenizer = to_tensor(shown.frames), getattr(opened, "vae", opened)
    if by == "neighbours":
        direction = to_neighbours(held, key, tokenizer, video, neighbours, task, value)
    else:
        from vidgen.representations.steering import fit_direction

        direction = fit_direction(held, key, task, value, way=by, seed=seed)
    made = add_and_decode(tokenizer, video, direction, found_at, held.meta.get("pool", "none"))
    write_video(made.side_by_side, output, fps=shown.fps)
    report = {
        "path": str(output), "direction": direction.name, "by": by, "separation": direction.separation,
        "strengths": list(made.strengths), "wanted": list(made.latent_positions), "seen": list(made.decoded_positions),
    }  # fmt: skip
    if json:
        print_json(report)
        return
    positions = zip(made.strengths, made.latent_positions, made.decoded_positions, strict=True)
    cells = [(f"{s:g}", f"{w:.2f}", f"{n:.2f}") for s, w, n in positions]
    print_table(f"{direction.name} by {by}", (">strength", ">latents put at", ">decoded pixels at"), cells)
    apart = "" if direction.separation is None else f"; told apart on held-out clips: AUC {direction.separation:.3f}"
    print(f"{output}{apart}")


def window_size(window: dict[str, Any]) -> tuple[int, int] | None:
    return (window["size"][0], window["size"][1]) if window.get("size") else None


def to_neighbours(
    bank: FeatureBank, key: str, tokenizer: Any, video: Any, count: int, task: str | None, value: str | None
) -> Direction:
    """From the clip to the mean of its nearest in the bank, of those with the label where one is given."""
    from vidgen.representations.steering.directions import direction_to_neighbors, read_labels
    from vidgen.representations.steering.steer import encode_pooled

    X: np.ndarray = bank.X(key)
    name = f"{count} nearest"
    if task is not None:
        if value is None:
            raise VidgenError("--by neighbours takes --task with a --value, or neither")
        X, name = X[read_labels(bank, task, value)[0] == 1], f"{name} with {task}={value}"
    query = encode_pooled(tokenizer, video, bank.meta.get("pool", "none"))
    return direction_to_neighbors(X, query, count, name)[0]


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("steer")
