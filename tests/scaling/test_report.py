"""The report: one file that fetches nothing, says what the table says, and lets no name become markup."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from scaleback.scaling.content import Content, RunLine, Sheet
from scaleback.scaling.figures import contact_sheet, heat_map, non_dominated
from scaleback.scaling.metrics import ACCURACY, Metric, Shown
from scaleback.scaling.report import render_report
from scaleback.scaling.table import Row, Table

HOSTILE = "<script>alert(1)</script>\"'&amp;<img src=x onerror=y>"
VOID = {"meta", "link", "br", "img", "hr", "input", "base", "source"}
KNN = Shown(label="knn.accuracy", evaluation="knn", metric="accuracy", images_seen=None, kind=ACCURACY)
TUNED = Shown(label="finetune.accuracy@200", evaluation="finetune", metric="accuracy", images_seen=200, kind=ACCURACY)
COUNTS = (2, 4, 8, 16, 32)


class Page(HTMLParser):
    """Every tag with its attributes; a tag that closes another than the last opened one is a fault."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.links, self.metas, self.text = [], [], [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        names = ("src", "href", "xlink:href", "action", "data", "poster", "srcset")
        self.links += [value for name, value in attributes if name in names]
        self.metas += [value for name, value in attributes if tag == "meta" and name == "content"]
        assert not [name for name, _ in attributes if name.startswith("on")], tag

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def row(point, seed, value, measure, images_seen, **values):
    return Row(
        point=point,
        values=values,
        baseline=not values,
        searched=False,
        seed=seed,
        run="f" * 64,
        evaluation=measure.evaluation,
        metric=measure.metric,
        value=value,
        images_seen=images_seen,
        count=1_000,
        collapsed=point == "images=2",
    )


def accuracy(images, seed):
    return 0.9 - 0.6 * images**-0.5 + 0.01 * seed


def whole(name="sweep", points=COUNTS, **changes):
    """A study of one axis, two seeds, two measures; every section of the report has something to show."""
    made = [("no pre-training", {}, 1)] + [(f"images={n}", {"images": n}, n) for n in points]
    rows = [row(p, s, accuracy(n, s), KNN, None, **v) for p, v, n in made for s in (0, 1)]
    rows += [
        row(p, s, accuracy(n, s) * share, TUNED, seen, **v)
        for p, v, n in made
        for s in (0, 1)
        for seen, share in ((100, 0.5), (200, 0.8))
    ]
    png = contact_sheet(np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8, 1), 2, 16)
    fields = {
        "name": name,
        "purpose": f"asks {name}",
        "axes": ["images"],
        "measures": (KNN, TUNED),
        "reach": 0.4,
        "fit_field": "images",
        "table": Table(rows),
        "cost": {f"images={n}": float(n) for n in points},
        "sheets": [Sheet(title=f"sheet of {name}", png=png)],
        "runs": [RunLine(point="images=2", seed=0, fingerprint="ab" * 32, state="done", addresses=["evaluate/x"])],
        "base_spec": f"base: {name}",
        "study_spec": f"study: {name}",
        "made": f"made of {name}",
        "notes": [f"note on {name}"],
    }
    return Content(**{**fields, **changes})


@pytest.fixture(scope="module")
def html():
    return render_report(whole())


def test_tags_are_balanced_and_headings_are_there(html):
    page = Page(html)
    assert page.open == []
    assert html.startswith("<!doctype html>")
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings[0] == "Findings"
    assert {"knn.accuracy", "finetune.accuracy@200", "Along fine-tuning", "Fewest images for knn.accuracy"} <= set(
        headings
    )


def test_nothing_is_fetched_and_nothing_runs(html):
    page = Page(html)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert not {"script", "iframe", "object", "embed", "link", "base", "form"} & set(page.tags)
    assert not re.search(r"@import|url\((?!#)", html)
    assert any(meta.startswith("default-src 'none';") for meta in page.metas)
    without = re.sub(r'xmlns(:\w+)?="[^"]*"|(?s:<metadata>.*?</metadata>)', "", html)  # names, never fetched
    assert not re.search(r"https?://", without)


def test_the_table_holds_the_numbers_of_every_point(html):
    cells = [re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", html)]
    for images in COUNTS:
        place = cells.index(f"images={images}")
        mean = 100 * (accuracy(images, 0) + accuracy(images, 1)) / 2
        assert cells[place + 1] == f"{mean:.1f}"
        assert cells[place + 4] == f"{mean - 30.5:+.1f} points [{mean - 30.5:.1f}, {mean - 30.5:.1f}]"  # paired
        assert cells[place + 5] == f"{mean - 0.5:.1f}, {mean + 0.5:.1f}"
        assert cells[place + 6] == ("2 of 2" if images == 2 else "")
    assert cells[cells.index("no pre-training") + 1] == "30.5"


def test_generations_have_a_section_of_their_own():
    """Of two measures the one that has no error has none; what synthetic images are worth is not asked of them."""
    rows = [
        replace(
            row(f"images={g}", seed, 0.8 - 0.03 * g + 0.002 * ((g + seed) % 3), KNN, None, images=g),
            synthetic_images=100,
        )
        for g in range(1, 6)
        for seed in range(3)
    ]
    ratio = replace(KNN, label="knn.ratio", kind=Metric("neither"))
    page = whole(table=Table(rows), fit_form="generations", measures=(KNN, ratio), reach=None, cost={})
    html = render_report(page)
    Page(html)
    section = html.partition("<h2>Generations</h2>")[2].partition("<h2>")[0]
    assert re.findall(r"<h3>(.*?)</h3>", section) == ["knn.accuracy"]
    cells = re.findall(r"<td.*?>(.*?)</td>", section)
    assert re.fullmatch(r"\+3\.\d points \[.*\]", cells[1])
    assert cells[-1] == "grows, linear"
    none, linear, bounded = map(float, cells[3].split(", "))
    assert none > bounded > linear == 0  # AICc
    assert section.count("<svg") == 1
    assert "the error grows, +3." in html.partition("<h2>")[2].partition("<h2>")[0]  # among the findings
    assert "What synthetic images are worth" not in html
    assert "Fitted laws" not in html
    assert "<h2>Generations</h2>" not in render_report(whole())


def test_the_law_the_reach_and_the_runs_are_told(html):
    text = " ".join(" ".join(Page(html).text).split())
    assert "offset + A n" in text
    cells = re.findall(r"<td>(.*?)</td>", html.partition("Fitted laws")[2])
    assert re.fullmatch(r"0\.(50?|499) \[.*\]", cells[3])  # the exponent the table was made with
    assert re.search(r"until 40 % are reached", text)
    assert "reached by 0 of 2 seeds" in text  # the baseline
    assert "abababababababab" in text
    assert "note on sweep" in text
    assert "base: sweep" in text


def test_equal_content_makes_equal_bytes(html):
    assert render_report(whole()) == html


def test_hostile_names_stay_text():
    made = whole(HOSTILE)
    hostile = [row(HOSTILE, s, 0.9, KNN, None, images=64) for s in (0, 1)]
    hostile += [row(HOSTILE, s, 0.9, TUNED, seen, images=64) for s in (0, 1) for seen in (100, 200)]
    html = render_report(whole(HOSTILE, table=Table([*made.table.rows, *hostile]), cost={**made.cost, HOSTILE: 64.0}))
    page = Page(html)
    assert page.open == []
    assert "script" not in page.tags
    assert page.tags.count("img") == 1
    assert "".join(page.text).count(HOSTILE) >= 8  # title, heading, findings, tables, legend, front


def test_dollar_signs_in_names_are_no_mathematics():
    rows = [row("data=$x^{$", s, 0.9, KNN, None, data="$x^{$", images=n) for s in (0, 1) for n in (1, 2)]
    assert "$x^{$" in render_report(whole(table=Table(rows), axes=["images", "data"], measures=(KNN,), cost={}))


def test_a_study_without_results_says_so():
    html = render_report(whole(table=Table([]), sheets=[], runs=[], notes=[]))
    assert Page(html).open == []
    assert "No run has finished yet." in html
    assert "<svg" not in html


def test_a_missing_measure_and_one_seed_make_a_report():
    rows = [row("no pre-training", 0, 0.5, KNN, None), row("images=4", 0, 0.625, KNN, None, images=4)]
    html = render_report(whole(table=Table(rows)))
    assert ">62.5<" in html
    assert "nan" not in "".join(Page(html).text).lower().split()
    assert "no fit: " in html


def test_the_front_is_what_no_other_point_beats():
    made = whole(points=(1, 2, 4))
    worse = [row("images=3", s, 0.1, KNN, None, images=3) for s in (0, 1)]
    cells = Table([*made.table.rows, *worse]).cells("knn", "accuracy", None)[1:]
    cost = {"images=1": 1.0, "images=2": 2.0, "images=3": 3.0, "images=4": 2.0}
    assert [cell.point for cell in non_dominated(cells, cost)] == ["images=1", "images=4"]


def test_a_distance_is_shown_as_it_is_and_its_front_holds_the_least():
    made = whole()
    distance = replace(KNN, kind=Metric("low"))
    values = {2: 0.5, 4: 0.125, 8: 0.25, 16: 0.0625, 32: 0.75}
    rows = [row(f"images={n}", s, values[n], KNN, None, images=n) for n in COUNTS for s in (0, 1)]
    html = render_report(whole(table=Table(rows), measures=(distance,), fit_field=None))
    assert "mean, %" not in html
    assert ", %" not in "".join(Page(html).text)
    assert ">0.0625<" in html
    front = re.findall(r"<td>(images=\d+)</td>", html.partition("Fewest images for")[2].partition("<h2>")[0])
    assert front == ["images=2", "images=4", "images=16"]
    assert made.measures[0].headed == "knn.accuracy, %"


def test_a_heat_map_shows_the_mean_over_a_third_axis():
    rows = [
        row(f"{a} {b} {c}", 0, 0.1 * c + 0.013 * a + 0.04 * b, KNN, None, a=a, b=b, c=c)
        for a in (1, 2)
        for b in (1, 2)
        for c in (1, 2)
    ]
    cells = Table(rows).cells("knn", "accuracy", None)
    drawn = heat_map(cells, "a", "b", KNN)
    written = [text for text in re.findall(r">([\d.]+)<", drawn) if text in {"20.3", "21.6", "24.3", "25.6"}]
    assert sorted(written) == ["20.3", "21.6", "24.3", "25.6"]


def test_each_point_is_compared_with_its_own_baseline():
    made = [(f"{'no pre-training ' * (n == 0)}depth={d} n={n}", d, n) for d in (1, 2) for n in (0, 4)]
    rows = [
        row(label, s, 0.1 * d + 0.01 * d * n + 0.01 * s, KNN, None, depth=d, **({"n": n} if n else {}))
        for label, d, n in made
        for s in (0, 1)
    ]
    rows = [replace(one, baseline="n" not in one.values) for one in rows]
    html = render_report(whole(table=Table(rows), axes=["depth", "n"], fit_field=None, measures=(KNN,), cost={}))
    cells = [re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", html)]
    assert cells[cells.index("depth=1 n=4") + 4] == "+4.0 points [4.0, 4.0]"
    assert cells[cells.index("depth=2 n=4") + 4] == "+8.0 points [8.0, 8.0]"
    assert html.count('<tr class="baseline">') == 2
