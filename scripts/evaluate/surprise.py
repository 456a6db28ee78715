"""`vidgen evaluate surprise`: does a denoiser lose more on motion that cannot be?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.options import (
    ClipLengthOption,
    DeviceOption,
    Dtype,
    JsonOption,
    ModelOption,
    NoiseLevelsOption,
    SeedOption,
    find_device,
    find_dtype,
    parse_names,
    parse_numbers,
)
from vidgen.scripts.cli.printing import describe_memory, peak_memory_mb, print_json, print_table, progress


def surprise(
    model: ModelOption = "default",
    n: Annotated[int, typer.Option("--n", min=1, help="Quartets of clips, of each violation.")] = 50,
    violations: Annotated[str, typer.Option(help="As vanishes,teleports; all: every one, and the control.")] = "all",
    noise_levels: NoiseLevelsOption = "0.1,0.3,0.5,0.7",
    draws: Annotated[int, typer.Option(min=1, help="Draws of noise that a loss is the mean of.")] = 4,
    in_view: Annotated[
        bool, typer.Option("--in-view", help="In the open, rather than behind a screen that hides it.")
    ] = False,
    num_frames: ClipLengthOption = None,
    baselines: Annotated[bool, typer.Option(help="Random weights and frame differences beside it.")] = True,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    dtype: Annotated[Dtype, typer.Option("--dtype", help="Precision of the networks.")] = "float32",
    json: JsonOption = False,
) -> None:
    """Violation of expectation: how often a denoiser's loss is higher on impossible motion, against 0.5 by chance.

    Things vanish, teleport, change colour or shape, or pass through a block; the possible clips beside them show the
    same in every frame, and get the same noise. Example: vidgen evaluate surprise --model default --n 50
    """
    levels = tuple(parse_numbers(noise_levels, "--noise-levels"))

    from vidgen.data.shapes import ShapeWorldConfig
    from vidgen.data.shapes.scenes import VIOLATIONS
    from vidgen.pipelines.loading import load_pipeline
    from vidgen.representations.time.surprise import Noise, measure_surprise

    names = list(VIOLATIONS) if violations.strip() == "all" else parse_names(violations)
    noise, where = Noise(levels=levels, draws=draws, seed=seed), find_device(device)
    pipe = load_pipeline(model, device=where, dtype=find_dtype(dtype, where))
    s = pipe.scheduler
    size = {"height": s.height, "width": s.width, "num_frames": num_frames or s.num_frames, "fps": round(s.fps)}
    try:
        config = ShapeWorldConfig(**size, seed=seed, split="held_out")
        with progress(model, n * len(names)) as moved:
            rows = measure_surprise(
                pipe, names, n, config=config, noise=noise, in_view=in_view, baselines=baselines, progress=moved
            )
    except ValueError as error:
        if isinstance(error, VidgenError):
            raise
        raise VidgenError(f"no such clips can be made for {model}: {error}") from None
    if json:
        about = {"model": model, "n": n, "draws": draws, "in_view": in_view, "seed": seed}
        print_json({**about, "rows": rows, "peak_mb": peak_memory_mb()})
        return
    print_surprise(f"surprise of {model}, {n} quartets a violation", rows)


def print_surprise(title: str, rows: list[dict[str, Any]]) -> None:
    cells = []
    for row in rows:
        level = "" if row["noise_level"] is None else f"{row['noise_level']:.2f}"
        low, high = row["ci"]
        scores = (f"{row['accuracy']:.3f}", f"{low:.3f} - {high:.3f}", f"{100 * row['excess']:+.2f}%", row["ties"])
        cells.append((row["scorer"], level, row["violation"], *scores, "baseline" if row["baseline"] else ""))
    columns = ("scorer", ">noise", "violation", ">accuracy", ">95% interval", ">more loss", ">ties", "")
    print_table(title, columns, cells)
    print(f"0.5 is chance{describe_memory()}")
