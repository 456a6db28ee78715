"""The page says what the rows say, holds all that it shows, and its clips play."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vidgen.data.writing import write_video
from vidgen.representations.bank import BankRow, BankWriter, FeatureBank
from vidgen.scripts.pages.clip_shelf import ClipShelf
from vidgen.scripts.pages.probe_page import PageClip
from vidgen.scripts.pages.rendering import ENVIRONMENT

VOID = {"meta", "img"}
KEYS = ("tokenizer.latents", "dit.blocks.0@t=0.10", "dit.blocks.0@t=0.40", "shuffled.dit.blocks.0@t=0.10", "raw_pixels")
SEEN = {"size": [32, 48], "num_frames": 5, "fps": 8.0, "windows": "head", "fit": "crop", "range": [-1, 1]}
ODD = "a<b>&'\""  # a label that would be markup


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> FeatureBank:
    """Twelve clips of two classes, four for test; block 0 tells them apart at t=0.1 alone, but for one test clip."""
    folder = tmp_path_factory.mktemp("page")
    rng, lines, rows = np.random.default_rng(0), [], []
    for i in range(12):
        write_video(rng.integers(0, 256, (7, 32, 48, 3), np.uint8), folder / f"{i}.mkv", fps=8)
        lines.append(json.dumps({"path": f"{i}.mkv"}))
        labels = {"place": f"[{i / 8}, {i % 3}]", "words": json.dumps([["x"], ["x", "y"], ["y"]][i % 3])}
        times = tuple(t / 8 for t in range(1, 6))
        split = "test" if i > 7 else "train"
        rows.append(BankRow(id=f"{i}.mkv", label=(ODD, "b")[i % 2], split=split, times=times, labels=labels))
    (folder / "list.jsonl").write_text("\n".join(lines))
    noise = torch.from_numpy(rng.normal(size=(len(KEYS), 12, 4)).astype(np.float32))
    features = dict(zip(KEYS, noise, strict=True))
    side = torch.tensor([i % 2 if i != 9 else 0 for i in range(12)]).float()
    features[KEYS[1]] = features[KEYS[1]] * 0.1 + 5 * side[:, None] * torch.tensor([1.0, -1.0, 1.0, 0.0])
    meta = {"pool": "mean", "keys": list(KEYS), "source": str(folder / "list.jsonl"), "preprocessing": SEEN}
    with BankWriter(folder / "bank", meta) as writer:
        writer.add(rows, features)
    return FeatureBank.load(folder / "bank")


class Reader(HTMLParser):
    """Elements that are open, and all that were seen: (tag, attributes), and text by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []
        self.text: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.seen if name == tag]


def write(vidgen, bank: FeatureBank, folder: Path, *words) -> Reader:
    ran = vidgen("probe", bank.folder, "--kind", "centroid", "--report", folder, *words)
    assert ran.status == 0 and str(folder / "index.html") in ran.out, ran
    page = Reader((folder / "index.html").read_text(encoding="utf-8"))
    assert not page.open
    return page


def test_the_page_of_classes(vidgen, bank, tmp_path) -> None:
    page = write(vidgen, bank, tmp_path / "page")
    lead = " ".join(page.text["p"])
    assert "Best on validation is dit.blocks.0, t=0.1: accuracy 0.750" in lead and "temporal gain" in lead
    assert page.text["h2"] == [
        *("Scores", "Where it is known", "Answers", "Mistakes", "Neighbours", "How this was made"),
    ]
    rows = json.loads(vidgen("probe", bank.folder, "--kind", "centroid", "--json").out)["rows"]
    cells = page.text["td"]
    assert all(f"{row['test']:.3f}" in cells and row["layer"] in cells for row in rows)
    assert [svg["aria-label"] for svg in page.all("svg")] == [
        *("scores on test", "scores on validation", "confusion matrix"),
    ]
    assert "1 of 4 clips; the first 1." in lead
    kinds = [attributes["class"] for attributes in page.all("figure") if attributes.get("class", "").startswith("clip")]
    assert kinds.count("clip query") == 4 and kinds.count("clip bad") + kinds.count("clip good") == 1 + 4 * 5
    assert ODD in page.text["b"]  # as text: nothing of it became an element
    assert page.all("meta")[1]["content"].startswith("width=device-width")


def test_all_is_in_the_page_and_plays(vidgen, bank, tmp_path) -> None:
    page = write(vidgen, bank, tmp_path / "page")
    sources = [attributes["src"] for attributes in page.all("img")]
    assert len(sources) == 1 + 4 * 6 and not [tag for tag, _ in page.seen if tag in ("script", "link", "iframe")]
    text = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["index.html"]
    head, data = sources[0].split(",")
    assert head == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (48, 32) and picture.n_frames == 5
    assert (tmp_path / "page" / "index.html").read_text() == text
    write(vidgen, bank, tmp_path / "again")
    assert (tmp_path / "again" / "index.html").read_text(encoding="utf-8") == text


@pytest.mark.slow
def test_the_pages_of_numbers_and_of_sets_of_words(vidgen, bank, tmp_path) -> None:
    numbers = write(vidgen, bank, tmp_path / "numbers", "--task", "place", "--kind", "ridge")
    assert "answers against truth" in [svg.get("aria-label") for svg in numbers.all("svg")]
    assert "R² " in " ".join(numbers.text["p"]) and "Mistakes" not in numbers.text["h2"]
    words = write(vidgen, bank, tmp_path / "words", "--task", "words", "--kind", "knn")
    assert {"word", "precision", "recall"} <= set(words.text["th"]) and {"x", "y"} <= set(words.text["td"])


def test_clips_that_are_gone_leave_the_rest(vidgen, bank, tmp_path) -> None:
    bank.meta["source"], there = str(tmp_path / "nowhere"), bank.meta["source"]
    try:
        assert ClipShelf(bank).draw(bank.rows[0]) is None
    finally:
        bank.meta["source"] = there
    shelf = ClipShelf(bank)
    assert shelf.draw(bank.rows[0]).startswith("data:") and shelf.draw(BankRow(id="gone.mkv")) is None
    late = BankRow(id="0.mkv", times=(99.0,))
    clip = ENVIRONMENT.get_template("elements.html").module.clip
    assert ClipShelf(bank).draw(late) is None
    assert 'class="absent"' in clip(PageClip(source=None, title="a", note="b"))


def test_what_cannot_be_reported_is_one_line(vidgen, bank, tmp_path) -> None:
    (tmp_path / "file").write_text("mine")
    words = ("probe", bank.folder, "--kind", "centroid")
    assert "file: is a file" in vidgen(*words, "--report", tmp_path / "file").error
    assert "does not exist" in vidgen(*words, "--report", tmp_path / "no" / "where").error
    with BankWriter(tmp_path / "pixels", {"keys": ["raw_pixels"]}) as writer:
        writer.add(bank.rows, {"raw_pixels": torch.from_numpy(bank.X("raw_pixels"))})
    ran = vidgen("probe", tmp_path / "pixels", "--kind", "centroid", "--report", tmp_path / "page")
    assert "has no features of a model to report on" in ran.error
