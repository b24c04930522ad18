"""What synthetic images are worth in a study: planted worths come back, and what cannot be said is said so."""

import re
from dataclasses import replace

import pytest

from scaleback.scaling.content import Content
from scaleback.scaling.metrics import ACCURACY, Shown
from scaleback.scaling.report import render_report
from scaleback.scaling.synthetic import arms, course, exchange
from scaleback.scaling.table import Row, Table

MEASURE = Shown(
    label="classifier.accuracy", evaluation="classifier", metric="accuracy", images_seen=None, kind=ACCURACY
)
REAL, MULTIPLIERS, SEEDS = (100, 200, 400, 800, 1_600), (1, 3, 10), (0, 1, 2)
WORTH = {"good": 0.5, "useless": 0.0}
"""Real images that one is worth."""


def error(images, seed):
    return 0.05 + 2 * images**-0.5 + 0.002 * (seed - 1)


def row(values, seed, value, real, synthetic, metric="accuracy"):
    baseline = synthetic == 0
    label = " ".join(["real images alone"] * baseline + [f"{name}={one}" for name, one in values.items()])
    return Row(
        point=label,
        values=values,
        baseline=baseline,
        searched=False,
        seed=seed,
        run="f" * 64,
        evaluation="classifier",
        metric=metric,
        value=value,
        images_seen=None,
        count=1_000,
        collapsed=False,
        real_images=real,
        synthetic_images=synthetic,
    )


def content(roles=("added",)):
    rows = [row({"real": str(n)}, seed, 1 - error(n, seed), n, 0) for n in REAL for seed in SEEDS]
    for kind, each in WORTH.items():
        for role in roles:
            for n in REAL[:3]:
                for m in MULTIPLIERS:
                    values = {"kind": kind, "role": role, "real": str(n), "multiplier": m}
                    real = n if role == "added" else 0
                    worth = real + max(each, 0.2 * (role == "alone")) * m * n
                    rows += [row(values, seed, 1 - error(worth, seed), real, m * n) for seed in SEEDS]
    return Content(
        name="x",
        purpose="",
        axes=["kind", "role", "real", "multiplier"],
        measures=[MEASURE],
        reach=None,
        fit_field=None,
        table=Table(rows),
        cost={},
        sheets=[],
        runs=[],
        base_spec="",
        study_spec="",
        made="",
        count_axes=["real", "multiplier"],
        synthetic_axes=["multiplier"],
        compared="real images alone",
    )


@pytest.fixture(scope="module")
def found():
    return arms(content())


def test_a_planted_worth_comes_back_by_the_law_and_without_it(found):
    good, useless = found
    assert (good.name, useless.name) == ("kind = good, role = added", "kind = useless, role = added")
    assert good.law.worth_each(0).mean == pytest.approx(0.5, rel=0.05)
    assert useless.law.form == "useless"
    for cell, found in good.worth:
        if found.extra is not None:  # within the curve
            assert found.extra.mean == pytest.approx(0.5 * cell.synthetic_images, rel=0.15)
    assert sum(found.extra is not None for _, found in good.worth) >= 6
    assert all(found.extra.mean == pytest.approx(0, abs=1e-6) for _, found in useless.worth)


def test_each_line_has_its_own_baseline_and_says_its_course(found):
    good, useless = found
    assert [line.label for line in good.lines] == [f"kind = good, role = added, real = {n}" for n in REAL[:3]]
    for line, n in zip(good.lines, REAL, strict=False):
        assert line.baseline.point == f"real images alone real={n}"
        assert [cell.synthetic_images for cell in line.cells] == [n * m for m in MULTIPLIERS]
    assert re.search(
        r"1,000 synthetic images, .*real = 100: .* points .* against real images alone real=100", course(good)[0]
    )
    assert "it rises from 100 to 300 and it rises from 300 to 1,000" in course(good)[0]
    assert "changes by no more than its intervals" in course(useless)[0]
    assert "the first synthetic images are worth 0.5" in exchange(good)


def test_images_that_stand_alone_are_read_off_the_curve_and_the_report_shows_every_kind():
    whole = content(roles=("added", "alone"))
    by_name = {arm.name: arm for arm in arms(whole)}
    alone = by_name["kind = good, role = alone"]
    assert alone.law is None
    assert "stand alone" in alone.refused
    cell, worth = alone.worth[2]
    assert worth.extra.mean == pytest.approx(0.5 * cell.synthetic_images, rel=0.15)
    assert "no law of the exchange rate: its images stand alone" in exchange(alone)

    html = render_report(whole)
    assert html.count("<h3>classifier.accuracy, kind = ") == 4
    assert "against real images alone</th>" in html
    assert "off the curve of real images alone" in html


def test_a_study_without_synthetic_images_has_none():
    whole = content()
    rows = [one for one in whole.table.rows if one.baseline]
    assert arms(replace(whole, table=Table(rows))) == []
