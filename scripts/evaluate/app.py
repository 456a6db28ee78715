"""`vidgen evaluate`: how often clips show what their prompts ask for, by the synthetic world's checker.

`alignment`, `concepts`, `conditions`, `control`, `distance`, `horizon`, `invariance`, `likelihood`, `moments`,
`rollout`, `sampler-law`, `side-stream`, `steps`, `surprise` and `text` have own files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidgen.errors import VidgenError
from vidgen.scripts.cli.dispatch import run_verb
from vidgen.scripts.cli.guidance import GuidanceOptions
from vidgen.scripts.cli.option_sets import (
    HardwareOptions,
    MaskingOptions,
    SamplerOptions,
    StepCacheOptions,
    TokenOptions,
    describe_passes,
    with_option_sets,
)
from vidgen.scripts.cli.options import (
    BatchOption,
    CountOption,
    JsonOption,
    JsonToFile,
    MaxObjectsOption,
    ModelOption,
    SeedOption,
)
from vidgen.scripts.cli.printing import (
    describe_memory,
    format_interval,
    peak_memory_mb,
    pluralize,
    print_json,
    print_table,
    progress,
)
from vidgen.scripts.evaluate.alignment import alignment
from vidgen.scripts.evaluate.concepts import concepts
from vidgen.scripts.evaluate.conditions import conditions
from vidgen.scripts.evaluate.control import control
from vidgen.scripts.evaluate.distance import distance
from vidgen.scripts.evaluate.horizon import horizon
from vidgen.scripts.evaluate.imitation import imitation
from vidgen.scripts.evaluate.invariance import invariance
from vidgen.scripts.evaluate.likelihood import likelihood
from vidgen.scripts.evaluate.moments import moments
from vidgen.scripts.evaluate.rollout import rollouts
from vidgen.scripts.evaluate.sampler_law import sampler_law
from vidgen.scripts.evaluate.side_stream import side_stream
from vidgen.scripts.evaluate.steps import steps
from vidgen.scripts.evaluate.surprise import surprise
from vidgen.scripts.evaluate.text import text
from vidgen.scripts.sampling.pipelines import call_settings, describe_settings, sampler_settings

if TYPE_CHECKING:
    from vidgen.pipelines.evaluation.adherence import LabeledPrompt

app = typer.Typer(
    no_args_is_help=True,
    help="Measure models: adherence to prompts, conditions, solvers, decoders, distance, surprise, alignment, texts.",
)


@app.command()
@with_option_sets
def generation(
    *,
    model: ModelOption = "default",
    n: CountOption = 200,
    prompts: Annotated[
        Path | None,
        typer.Option(help="Prompts to use, the labels.jsonl of `vidgen data synthesize`. Default: held-out ones."),
    ] = None,
    max_objects: MaxObjectsOption = 1,
    sampling: SamplerOptions,
    guidance: GuidanceOptions,
    step_cache: StepCacheOptions,
    tokens: TokenOptions,
    masking: MaskingOptions,
    seed: SeedOption = 0,
    batch_size: BatchOption = 8,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure how often a text-to-video model shows the colour, shape and motion of its prompt, with 95% intervals.

    Prompt i has noise of its own, fixed by --seed. Example: vidgen evaluate generation --model default --n 200
    """
    from vidgen.pipelines.evaluation.adherence import held_out_prompts, held_out_world, score_generation
    from vidgen.pipelines.loading import load_generator
    from vidgen.pipelines.video import VideoPipeline

    placement = hardware.settings()
    caching = step_cache.read()
    pipe = load_generator(model, **placement)
    made_by = sampler_settings(pipe, model, sampling, guidance, tokens, masking)
    has_denoiser = isinstance(pipe, VideoPipeline)
    if has_denoiser:
        made_by |= {"guidance": guidance.read(**placement), "step_cache": caching}
        pipe = pipe.maker(**made_by)
    else:
        call_settings(pipe, model, step_cache)
    scenes = read_labels(prompts)[:n] if prompts else held_out_prompts(held_out_world(pipe.scheduler, max_objects), n)
    with progress(model, len(scenes)) as advance:
        report = score_generation(
            pipe,
            scenes,
            seed=seed,
            batch_size=batch_size,
            progress=advance,
            **made_by,
        )
    used = describe_settings(made_by)
    if has_denoiser:
        used = sampling.used(pipe.scheduler) | {"guidance": guidance.to_dict(), **describe_passes(caching)}
    show("generation", {"model": model, "seed": seed, **used, **report}, json)


@app.command()
@with_option_sets
def ceiling(
    *,
    model: ModelOption = "default",
    n: CountOption = 200,
    max_objects: MaxObjectsOption = 1,
    batch_size: BatchOption = 8,
    hardware: HardwareOptions,
    json: JsonOption = False,
) -> None:
    """Measure the same on a tokenizer's reconstructions of held-out clips: no generator that uses it can score more.

    Example: vidgen evaluate ceiling --model runs/tokenizer_default/final
    """
    from vidgen.pipelines.evaluation.adherence import held_out_world, score_reconstruction
    from vidgen.pipelines.loading import load_tokenizer

    tokenizer = load_tokenizer(model, **hardware.settings())
    with progress(model, n) as advance:
        world = held_out_world(max_objects=max_objects)
        report = score_reconstruction(tokenizer, world, n, batch_size=batch_size, progress=advance)
    show("ceiling", {"model": model, **report}, json)


def read_labels(path: Path) -> list[LabeledPrompt]:
    """Return the prompts of a file with their labels, a JSON object a line. VidgenError for a file of another kind."""
    from vidgen.data.shapes import ClipLabels
    from vidgen.files.json_lines import read_json_lines
    from vidgen.pipelines.evaluation.adherence import LabeledPrompt

    scenes: list[LabeledPrompt] = []
    try:
        for _, row in read_json_lines(path):
            scenes.append(LabeledPrompt(caption=row["caption"], labels=ClipLabels.from_dict(row["labels"])))
    except (ValueError, KeyError, TypeError) as error:
        line = f"{path}, line {len(scenes) + 1}"
        raise VidgenError(
            f"{line}: no caption with labels ({error}); `vidgen data synthesize` writes such files"
        ) from None
    if not scenes:
        raise VidgenError(f"{path}: no prompts in it; `vidgen data synthesize` writes such files")
    return scenes


def show(title: str, report: dict[str, Any], as_json: bool) -> None:
    """Print the report as JSON, or as a table with the shares and their intervals."""
    if as_json:
        print_json(report | {"peak_mb": peak_memory_mb()})
        return
    rows = []
    for name, interval in report["ci"].items():
        rows.append((name, f"{report[name]:.3f}", format_interval(interval)))
    title = f"{title} of {report['model']}, {pluralize(report['n'], 'clip')}"
    print_table(title, ("as asked", ">share", ">95% interval"), rows)
    passes = report.get("passes")
    skipped = f", {passes['skipped']} of {sum(passes.values())} passes skipped" if passes else ""
    print(f"{report['seconds_per_clip']:.2f} s a clip{skipped}{describe_memory()}")


app.command()(alignment)
app.command()(concepts)
app.command()(conditions)
app.command()(control)
app.command()(distance)
app.command()(horizon)
app.command()(imitation)
app.command()(invariance)
app.command()(likelihood)
app.command()(moments)
app.command("rollout")(rollouts)
app.command("sampler-law")(sampler_law)
app.command("side-stream")(side_stream)
app.command(cls=JsonToFile)(steps)
app.command()(surprise)
app.command()(text)

if __name__ == "__main__":
    run_verb("evaluate", app)
