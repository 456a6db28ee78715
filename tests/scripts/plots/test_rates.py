"""The picture of rate and distortion: labels of points lie on no marker."""

from pathlib import Path

from vidgen.scripts.plots import rates

# name, coded and raw bits per pixel, PSNR of the shipped tokenizer on natural clips, whose last points are near
POINTS = (
    ("step 2", 0.086, 0.19, 19.30),
    ("step 1", 0.145, 0.255, 23.66),
    ("step 0.5", 0.212, 0.322, 25.41),
    ("step 0.25", 0.285, 0.40, 25.94),
    ("bfloat16", 1.176, 1.2, 26.11),
)


def test_no_label_lies_on_a_marker(monkeypatch, tmp_path: Path) -> None:
    figures = []
    monkeypatch.setattr(rates, "save_figure", lambda figure, path: figures.append(figure))
    points = [{"name": n, "coded_bpp": coded, "raw_bpp": raw, "psnr": psnr} for n, coded, raw, psnr in POINTS]
    x264 = [{"bpp": 0.016, "psnr": 21.4}, {"bpp": 0.08, "psnr": 29.2}, {"bpp": 2.1, "psnr": 41.5}]
    report = {"model": "m", "tokenizer": "t", "clips": [{}], "rate_distortion": {"codecs": {"x264": x264}}}
    report["rate_distortion"]["points"] = points
    rates.draw_rates(report, tmp_path / "rates.png")
    (figure,) = figures
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_title() == "m (t), 1 clip"
    markers = [place for line in axes.lines for place in line.get_transform().transform(line.get_xydata())]
    labels = [text for text in axes.texts if text.get_text()]
    assert [label.get_text() for label in labels] == [point[0] for point in POINTS]
    assert len(markers) == 3 + 2 * len(POINTS)
    for label in labels:
        assert not any(label.get_window_extent().contains(*place) for place in markers), label
