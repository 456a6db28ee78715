"""The command `vidgen`: the table of its verbs, each in a file or folder of its own."""

from __future__ import annotations

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
    systems,
    train,
)
from vidgen.scripts.cli.dispatch import Verb, VerbApp, run_app
from vidgen.scripts.cli.dispatch import dispatch as dispatch_app
from vidgen.scripts.cli.options import JsonToFile
from vidgen.scripts.evaluate import app as evaluate
from vidgen.scripts.text_video.classify import classify
from vidgen.scripts.text_video.locate import locate
from vidgen.scripts.tokenizer import app as tokenizer

# The verbs of each panel of `vidgen --help`, everyday ones first.
PANELS: dict[str, dict[str, Verb]] = {
    "Every day": {
        "sample": sample.sample,
        "train": train.train,
        "tokenizer": tokenizer.app,
        "extract": extract.extract,
        "probe": probe.probe,
        "retrieve": retrieve.retrieve,
        "classify": classify,
        "locate": locate,
        "data": data.app,
        "doctor": doctor.doctor,
    },
    "Measurement": {
        "evaluate": evaluate.app,
        "sweep": sweep.sweep,
        "probe-dense": probe_dense.probe_dense,
        "provenance": provenance.provenance,
        "concepts": concepts.concepts,
        "solvers": solvers.app,
        "schedule": schedule.app,
        "bench": bench.bench,
        "systems": systems.systems,
    },
    "More": {
        "restore": restore.restore,
        "steer": steer.steer,
        "bank": bank.app,
        "index": index.app,
    },
}
app = VerbApp()
for panel, verbs in PANELS.items():
    for name, verb in verbs.items():
        app.add_verb(name, verb, panel=panel, cls=JsonToFile if name == "bench" else None)


def dispatch(arguments: list[str]) -> int:
    """Run one command line and return its exit status; a bug comes through as the exception it is."""
    return dispatch_app(app, arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run `arguments` (the process's own by default) and exit: the console entry point."""
    run_app(app, arguments)


if __name__ == "__main__":
    main()
