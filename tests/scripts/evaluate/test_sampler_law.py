"""`vidgen evaluate sampler-law` prints what was measured, beside what perfect draws would have."""

import json


def test_the_table_and_its_json(vidgen) -> None:
    words = ("evaluate", "sampler-law", "--only", "first_hitting,groups", "--draws", 2_000)
    report = json.loads(vidgen(*words, "--json").out)
    assert report["draws"] == 2_000 and 0.2 < report["perfect"]["total_variation"] < 0.6
    assert [(row["decoder"], row["setting"], row["by"]) for row in report["rows"]] == [
        ("first_hitting", "", "draws"),
        ("groups", "rows", "enumeration"),
        ("groups", "frames", "enumeration"),
        ("groups", "far apart", "enumeration"),
    ]
    assert all(row["p_value"] > 1e-3 for row in report["rows"])
    table = vidgen(*words).out
    assert "laws of decoders, 2,000 draws each" in table or "laws of decoders, 2000 draws each" in table
    assert "first_hitting" in table and "perfect draws: total variation" in table


def test_names_of_no_decoder_are_one_line(vidgen) -> None:
    line = vidgen("evaluate", "sampler-law", "--only", "beam").error
    assert "'beam' names what is no token decoder; choose from autoregressive, speculative_jacobi" in line
