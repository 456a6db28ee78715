"""The command `vidgen`: one verb a file; the one place that turns failures into a line and an exit status."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from vidgen.scripts import (
    bank,
    bench,
    concepts,
    data,
    doctor,
    extract,
    index,
    probe,
    probe_dense,
    provenance,
    restore,
    retrieve,
    sample,
    schedule,
    solvers,
    steer,
    sweep,
    train,
)
from vidgen.scripts.cli.errors import FAILED, INTERRUPTED, explain, one_line
from vidgen.scripts.evaluate import app as evaluate
from vidgen.scripts.tokenizer import app as tokenizer
from vidgen.scripts.tokenizer.evaluate import JsonToFile

OFFLINE = "--offline"
app = typer.Typer(
    help="Generative video: sample clips, train models, compress clips to latents, extract and probe features.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    # --num_frames, as in Python, is the same as --num-frames
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": lambda t: t.replace("_", "-")},
)
app.command("sample")(sample.sample)
app.command("restore")(restore.restore)
app.command("train")(train.train)
app.add_typer(tokenizer.app, name="tokenizer")
app.command("extract")(extract.extract)
app.command("probe")(probe.probe)
app.command("probe-dense")(probe_dense.probe_dense)
app.command("sweep")(sweep.sweep)
app.command("retrieve")(retrieve.retrieve)
app.add_typer(bank.app, name="bank")
app.add_typer(index.app, name="index")
app.command("provenance")(provenance.provenance)
app.command("steer")(steer.steer)
app.command("concepts")(concepts.concepts)
app.add_typer(data.app, name="data")
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(schedule.app, name="schedule")
app.add_typer(solvers.app, name="solvers")
app.command("bench", cls=JsonToFile)(bench.bench)
app.command("doctor")(doctor.doctor)


def show_version(wanted: bool) -> None:
    if wanted:
        import vidgen

        print(f"vidgen {vidgen.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    offline: Annotated[
        bool, typer.Option(OFFLINE, help="Take models from disk and the hub's cache only; may stand after the verb.")
    ] = False,
) -> None:
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"


def to_front(arguments: list[str]) -> list[str]:
    """The arguments with `--offline`, wherever it stands before a `--`, in front of the verb."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    rest = [argument for argument in arguments[:end] if argument != OFFLINE]
    return [OFFLINE] * (len(rest) < end) + rest + arguments[end:]


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def dispatch(arguments: list[str]) -> int:
    """Runs one command line and returns its exit status; a bug comes through as the exception it is."""
    try:
        command = typer.main.get_command(app)
        with command.make_context("vidgen", to_front(list(arguments))) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except typer.Exit as stop:
        return stop.exit_code
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        place = context.command_path if context is not None else "vidgen"
        if message := one_line(error.format_message()).rstrip("."):  # none: the help was printed, as for no verb
            say(f"error: {message}; see `{place} --help`")
        return FAILED
    except (KeyboardInterrupt, typer.Abort) as error:
        say(one_line(error) or "interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        say(f"error: {line}")
        return FAILED


def main(arguments: list[str] | None = None) -> None:
    """The console entry point: runs `arguments` (the process's own by default) and exits.

    Status 0; 2 after one line `error: ...`; 130 after Ctrl-C.
    """
    warnings.formatwarning = lambda message, *_, **__: f"warning: {one_line(message)}\n"
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold bytes that are no text
    sys.exit(dispatch(sys.argv[1:] if arguments is None else arguments))


def main_of(verb: str) -> None:
    """What `python scripts/VERB.py` runs. The scripts' folder leaves the path, where `data` or `evaluate` would hide
    packages of other people."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") != os.path.realpath(here)]
    main([verb, *sys.argv[1:]])


if __name__ == "__main__":
    main()
