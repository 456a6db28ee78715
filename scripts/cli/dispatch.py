"""One command line, run to its exit status: the one place that turns failures into a line. It knows no verb."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from vidgen.bounds import Range
from vidgen.errors import ENDING_SIGNALS, Interrupted
from vidgen.scripts.cli.errors import FAILED, SIGNALED, explain, one_line
from vidgen.scripts.cli.outputs import checked_parameters
from vidgen.scripts.cli.printing import LAST_NOTES, note, print_last_notes
from vidgen.scripts.cli.renamed import with_new_names
from vidgen.scripts.cli.suggestions import suggest_option

OFFLINE = "--offline"
SCRIPTS = Path(__file__).resolve().parents[1]
Verb = Callable[..., None] | typer.Typer


def show_version(is_set: bool) -> None:
    """Print the package's version and stop, if the option is set."""
    if is_set:
        import vidgen

        print(f"vidgen {vidgen.__version__}")
        raise typer.Exit


def global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    offline: Annotated[
        bool,
        typer.Option(OFFLINE, help="Take models from disk and from the hub's cache only; also allowed after the verb."),
    ] = False,
) -> None:
    """Apply the options that stand before every verb."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"


class VerbApp(typer.Typer):
    """The command `vidgen`: at first without any verb. Its help lists them in the order that they are added."""

    def __init__(self) -> None:
        super().__init__(
            help="Generative video: sample clips, train models, compress clips to latents, extract and probe features.",
            add_completion=False,
            pretty_exceptions_enable=False,
            no_args_is_help=True,
            rich_markup_mode="rich",
            # --num_frames, as in Python, is the same as --num-frames
            context_settings={
                "help_option_names": ["-h", "--help"],
                "token_normalize_func": lambda token: token.replace("_", "-"),
            },
        )
        self.callback()(global_options)
        self.names: list[str] = []

    def add_verb(
        self, name: str, verb: Verb, *, cls: type[TyperCommand] | None = None, panel: str | None = None
    ) -> None:
        """Add a command function, or a group with verbs of its own; `panel` is its part of the help."""
        self.names.append(name)
        if isinstance(verb, typer.Typer):
            self.add_typer(verb, name=name, rich_help_panel=panel)
        else:
            self.command(name, cls=cls, rich_help_panel=panel)(verb)

    def to_command(self) -> TyperGroup:
        """Return the command that parses arguments."""
        command = typer.main.get_command(self)
        command.commands = {name: command.commands[name] for name in self.names}
        check_each(command)
        return command


def check_each(command: TyperGroup) -> None:
    """Put the check of what it reads and writes around every command of a group."""
    for verb in command.commands.values():
        if isinstance(verb, TyperGroup):
            check_each(verb)
        else:
            verb.callback = checked(verb.callback)


def checked(callback: Callable[..., None]) -> Callable[..., None]:
    """Return a command's callback with the check around it."""

    @wraps(callback)
    def run(**values: Any) -> None:
        with checked_parameters(values):
            callback(**values)

    return run


def to_front(arguments: list[str]) -> list[str]:
    """Return the arguments with `--offline`, wherever it stands before a `--`, in front of the verb."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    rest = [argument for argument in arguments[:end] if argument != OFFLINE]
    return [OFFLINE] * (len(rest) < end) + rest + arguments[end:]


def dispatch(app: VerbApp, arguments: list[str]) -> int:
    """Run one command line and return its exit status; a bug comes through as the exception it is."""
    LAST_NOTES.clear()
    try:
        command = app.to_command()
        with command.make_context("vidgen", to_front(with_new_names(arguments))) as context:
            command.invoke(context)
        sys.stdout.flush()
        print_last_notes()
        return 0
    except typer.Exit as stop:
        return stop.exit_code
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command_path = context.command_path if context is not None else "vidgen"
        if message := one_line(error.format_message()).rstrip("."):  # none: the help was printed, as for no verb
            options = [name for p in context.command.params for name in p.opts] if context is not None else []
            message = suggest_option(message, options)
            option = getattr(error, "param", None)
            if getattr(option, "max", None) is not None:
                message += f" (a number {Range(option.min, option.max)} is wanted)"
            note(f"error: {message}; see `{command_path} --help`")
        return FAILED
    except (KeyboardInterrupt, typer.Abort) as error:
        with suppress(OSError):  # the terminal may be what has gone
            note(one_line(error) or "interrupted")
        return SIGNALED + getattr(error, "number", signal.SIGINT)
    except BrokenPipeError:  # whoever reads our output has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        note(f"error: {line}")
        return FAILED


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does: what it has half done is cleared away.

    Later ones do not disturb that; a SIGHUP that is ignored, as under `nohup`, stays so.
    """
    owner = os.getpid()

    def end(number: int, _: object) -> None:
        if os.getpid() != owner:  # a worker, which inherits this
            os._exit(SIGNALED + number)
        for other in ENDING_SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(number, f"ended by {signal.Signals(number).name}")

    for number in ENDING_SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)


def run_app(app: VerbApp, arguments: list[str] | None = None) -> None:
    """Run `arguments` (the process's own by default) and exit.

    Status 0; 2 after one line `error: ...`; 128 + n after signal n: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    end_on_signals()
    warnings.formatwarning = lambda message, *_, **__: f"warning: {one_line(message)}\n"
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold bytes that are no text
    sys.exit(dispatch(app, sys.argv[1:] if arguments is None else arguments))


def run_verb(name: str, verb: Verb, cls: type[TyperCommand] | None = None) -> None:
    """Run one verb with the process's own arguments and exit: what `python scripts/VERB.py` and
    `python -m vidgen.scripts.VERB` do.

    The folders of scripts leave the path, where `data` or `evaluate` would hide packages of other people.
    """
    sys.path[:] = [entry for entry in sys.path if not Path(entry or ".").resolve().is_relative_to(SCRIPTS)]
    app = VerbApp()
    app.add_verb(name, verb, cls=cls)
    run_app(app, [name, *sys.argv[1:]])
