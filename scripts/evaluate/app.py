"""`vidgen evaluate`: how often clips show what their prompts ask for, by the synthetic world's checker.

`conditions`, `distance`, `rollout`, `steps` and `surprise` have files of their own.
"""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.guidance import (
    GuidanceIntervalOption,
    GuidanceOption,
    GuidancePassesOption,
    GuidanceRescaleOption,
    GuidanceScaleOption,
    GuidanceSettingOption,
    GuidanceWords,
)
from vidgen.scripts.cli.options import DeviceOption, Dtype, JsonOption, ModelOption, SeedOption, find_device, find_dtype
from vidgen.scripts.cli.printing import (
    describe_memory,
    peak_memory_mb,
    print_json,
    print_table,
    progress,
    settings_used,
)
from vidgen.scripts.cli.step_cache import CacheBoundOption, CacheByOption, describe_passes, read_caching
from vidgen.scripts.evaluate.conditions import conditions
from vidgen.scripts.evaluate.distance import distance
from vidgen.scripts.evaluate.rollout import rollouts
from vidgen.scripts.evaluate.steps import steps
from vidgen.scripts.evaluate.surprise import surprise
from vidgen.scripts.tokenizer.evaluate import JsonToFile

if TYPE_CHECKING:
    from vidgen.pipelines.evaluation.adherence import LabeledPrompt

app = typer.Typer(
    no_args_is_help=True, help="Measure models: adherence to prompts, the tokenizer's ceiling, distance, surprise."
)
app.command()(conditions)
app.command()(distance)
app.command("rollout")(rollouts)
app.command(cls=JsonToFile)(steps)
app.command()(surprise)

CountOption = Annotated[int, typer.Option("--n", min=1, help="How many clips.")]
BatchOption = Annotated[int, typer.Option("--batch-size", min=1, help="Clips made at once.")]
DtypeChoice = Annotated[Dtype, typer.Option("--dtype", help="Precision of the networks.")]


@app.command()
def generation(
    model: ModelOption = "default",
    n: CountOption = 200,
    prompts: Annotated[
        Path | None, typer.Option(help="labels.jsonl of `vidgen data synthesize`; default: held-out prompts.")
    ] = None,
    max_objects: Annotated[int, typer.Option(min=1, max=2, help="Moving shapes in a held-out prompt.")] = 1,
    num_inference_steps: Annotated[int | None, typer.Option(min=1, help="Default: the model's.")] = None,
    guidance_scale: GuidanceScaleOption = None,
    guidance: GuidanceOption = "cfg",
    guidance_interval: GuidanceIntervalOption = None,
    guidance_rescale: GuidanceRescaleOption = None,
    guidance_passes: GuidancePassesOption = "auto",
    guidance_option: GuidanceSettingOption = None,
    cache_bound: CacheBoundOption = None,
    cache_by: CacheByOption = "first_block",
    sampler: Annotated[str | None, typer.Option(help="Default: the model's.")] = None,
    seed: SeedOption = 0,
    batch_size: BatchOption = 8,
    device: DeviceOption = "auto",
    dtype: DtypeChoice = "float32",
    json: JsonOption = False,
) -> None:
    """Adherence of a text-to-video model: colour, shape and motion as asked, with 95% intervals.

    Prompt i has noise of its own, fixed by --seed. Example: vidgen evaluate generation --model default --n 200
    """
    from vidgen.pipelines.evaluation.adherence import held_out_prompts, held_out_world, score_generation
    from vidgen.pipelines.loading import load_pipeline

    where = find_device(device)
    precision = find_dtype(dtype, where)
    words = GuidanceWords(
        guidance=guidance,
        guidance_interval=guidance_interval,
        guidance_rescale=guidance_rescale,
        guidance_passes=guidance_passes,
        guidance_option=guidance_option,
    )
    guiding, caching = words.read(where, precision), read_caching(cache_bound, cache_by)
    pipe = load_pipeline(model, device=where, dtype=precision)
    asked = read_labels(prompts)[:n] if prompts else held_out_prompts(held_out_world(pipe.scheduler, max_objects), n)
    settings = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale, "sampler": sampler}
    with progress(model, len(asked)) as moved:
        sizes = {"seed": seed, "batch_size": batch_size, "step_cache": caching}
        report = score_generation(pipe, asked, progress=moved, guidance=guiding, **sizes, **settings)
    used = settings_used(pipe.scheduler, settings)
    used |= {"guidance": words.to_dict(), **describe_passes(caching)}
    show("generation", {"model": model, "seed": seed, **used, **report}, json)


@app.command()
def ceiling(
    model: ModelOption = "default",
    n: CountOption = 200,
    max_objects: Annotated[int, typer.Option(min=1, max=2, help="Moving shapes in a clip.")] = 1,
    batch_size: BatchOption = 8,
    device: DeviceOption = "auto",
    dtype: DtypeChoice = "float32",
    json: JsonOption = False,
) -> None:
    """The checker on a tokenizer's reconstructions of held-out clips: no generator that uses it can score more.

    Example: vidgen evaluate ceiling --model runs/tokenizer_default/final
    """
    from vidgen.pipelines.evaluation.adherence import held_out_world, score_reconstruction
    from vidgen.pipelines.tokenizer_loading import load_tokenizer

    where = find_device(device)
    tokenizer = load_tokenizer(model, device=where, dtype=find_dtype(dtype, where))
    with progress(model, n) as moved:
        world = held_out_world(max_objects=max_objects)
        report = score_reconstruction(tokenizer, world, n, batch_size=batch_size, progress=moved)
    show("ceiling", {"model": model, **report}, json)


def read_labels(path: Path) -> list[LabeledPrompt]:
    """Prompts with labels, one JSON object a line. VidgenError for a file of another kind."""
    from vidgen.data.shapes import ClipLabels
    from vidgen.pipelines.evaluation.adherence import LabeledPrompt

    asked = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json_format.loads(line)
            asked.append(LabeledPrompt(caption=row["caption"], labels=ClipLabels.from_dict(row["labels"])))
    except (ValueError, KeyError, TypeError) as error:
        where = f"{path}, line {len(asked) + 1}"
        raise VidgenError(
            f"{where}: no caption with labels ({error}); `vidgen data synthesize` writes such files"
        ) from None
    if not asked:
        raise VidgenError(f"{path}: no prompts in it; `vidgen data synthesize` writes such files")
    return asked


def show(what: str, report: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    rows = []
    for name, (low, high) in report["ci"].items():
        rows.append((name, f"{report[name]:.3f}", f"{low:.3f} - {high:.3f}"))
    print_table(f"{what} of {report['model']}, {report['n']} clips", ("as asked", ">share", ">95% interval"), rows)
    passes = report.get("passes")
    skipped = f", {passes['skipped']} of {sum(passes.values())} passes skipped" if passes else ""
    print(f"{report['seconds_per_clip']:.2f} s a clip{skipped}{describe_memory()}")


if __name__ == "__main__":
    from vidgen.scripts.main import main_of

    main_of("evaluate")
