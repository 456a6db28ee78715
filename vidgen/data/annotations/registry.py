"""Layouts of annotations by name. A new one is a reader, and a line in LAYOUTS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from vidgen.data.annotations.actions import (
    read_ava,
    read_charades,
    read_hmdb51,
    read_kinetics,
    read_something_something,
    read_ucf101,
)
from vidgen.data.annotations.captions import (
    read_condensed_movies,
    read_msrvtt,
    read_msvd,
    read_vatex,
    read_vidgen_1m,
)
from vidgen.data.annotations.instructions import (
    read_activitynet_captions,
    read_coin,
    read_howto100m,
    read_vidchapters,
    read_youcook2,
)
from vidgen.data.annotations.moments import (
    read_charades_sta,
    read_didemo,
    read_lsmdc,
    read_mad,
    read_qvhighlights,
)
from vidgen.data.annotations.record import Annotation
from vidgen.data.annotations.report import ReadReport, WrongLayout
from vidgen.data.annotations.web_clips import read_finevideo, read_internvid, read_panda_70m, read_videoufo
from vidgen.errors import VidgenError

Reader = Callable[[Path, ReadReport], Iterator[Annotation]]
TRIED_ENTRIES = 3  # that are read of a file to see whether it is of a layout


@dataclass(frozen=True, slots=True)
class Layout:
    """A reader of annotations, and the files that it is for, as their data set calls them."""

    read: Reader
    files: str


LAYOUTS: dict[str, Layout] = {
    "msrvtt": Layout(read_msrvtt, "train_val_videodatainfo.json, MSRVTT_JSFUSION_test.csv"),
    "msvd": Layout(read_msvd, "AllVideoDescriptions.txt, video_corpus.csv"),
    "msvd_indonesian": Layout(read_msvd, "MSVD-indonesian.txt"),
    "vatex": Layout(read_vatex, "vatex_training_v1.0.json"),
    "didemo": Layout(read_didemo, "train_data.json"),
    "activitynet_captions": Layout(read_activitynet_captions, "train.json, val_1.json"),
    "charades": Layout(read_charades, "Charades_v1_train.csv"),
    "charades_sta": Layout(read_charades_sta, "charades_sta_train.txt"),
    "qvhighlights": Layout(read_qvhighlights, "highlight_train_release.jsonl"),
    "youcook2": Layout(read_youcook2, "youcookii_annotations_trainval.json"),
    "coin": Layout(read_coin, "COIN.json"),
    "howto100m": Layout(read_howto100m, "caption.json, ID.csv, HowTo100M_v1.csv"),
    "vidchapters": Layout(read_vidchapters, "chapters_dvc_train.json"),
    "lsmdc": Layout(read_lsmdc, "LSMDC16_annos_training.csv"),
    "mad": Layout(read_mad, "MAD_train.json"),
    "condensed_movies": Layout(read_condensed_movies, "descriptions.csv"),
    "kinetics": Layout(read_kinetics, "train.csv"),
    "something_something": Layout(read_something_something, "something-something-v2-train.json"),
    "ucf101": Layout(read_ucf101, "trainlist01.txt"),
    "hmdb51": Layout(read_hmdb51, "brush_hair_test_split1.txt"),
    "ava": Layout(read_ava, "ava_train_v2.2.csv"),
    "panda_70m": Layout(read_panda_70m, "panda70m_training_2m.csv"),
    "internvid": Layout(read_internvid, "InternVid-10M-flt.jsonl"),
    "vidgen_1m": Layout(read_vidgen_1m, "VidGen_1M_video_caption.json"),
    "videoufo": Layout(read_videoufo, "VideoUFO.csv"),
    "finevideo": Layout(read_finevideo, "sample_0.json"),
}


def find_layout(name: str) -> Layout:
    """Return a layout by its name. Raises VidgenError for an unknown one."""
    if name not in LAYOUTS:
        raise VidgenError(f"layout {name!r} is unknown; choose one of {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def read_annotations(layout: str, file: Path, report: ReadReport) -> Iterator[Annotation]:
    """Yield the annotations of a file; entries that cannot be read are counted in its `report`, and reading goes on.

    Raises VidgenError for an unknown layout, a file that is missing or damaged, and one of another layout, which it
    names where one fits.
    """
    reader = find_layout(layout).read
    try:
        for annotation in reader(file, report):
            report.read += 1
            yield annotation
        if not report.read:
            reason = f"none of its {report.skipped} entries can be read; {report.first_skip}"
            raise WrongLayout(reason if report.skipped else "it has no entries")
    except WrongLayout as error:
        fits = guess_layout(file)
        advice = f"it looks like {fits}" if fits not in (None, layout) else f"it needs {LAYOUTS[layout].files}"
        raise VidgenError(f"{file}: not of layout {layout} ({error}); {advice}") from None


def guess_layout(file: Path) -> str | None:
    """Return the first layout whose reader takes a file's first entries without passing one over; None for none."""
    for name, layout in LAYOUTS.items():
        report = ReadReport()
        try:
            entries = list(islice(layout.read(file, report), TRIED_ENTRIES))
        except VidgenError:
            continue
        if entries and not report.skipped:
            return name
    return None
