"""Rows of scores, grouped into cells and curves, and written as Parquet."""

import io

import pyarrow.parquet as pq
import pytest

from scaleback.scaling.intervals import over_seeds
from scaleback.scaling.table import Row, Table


def row(point, seed, value, *, evaluation="knn", metric="accuracy", images_seen=None, **more):
    fields = {"values": {}, "baseline": False, "searched": False, "run": "f" * 64, "count": 100, "collapsed": False}
    named = {"evaluation": evaluation, "metric": metric, "images_seen": images_seen}
    return Row(point=point, seed=seed, value=value, **{**fields, **named, **more})


def test_a_cell_holds_every_seed_of_one_point_and_their_interval():
    table = Table([row("b", 1, 0.6), row("a", 0, 0.1), row("b", 0, 0.4, collapsed=True), row("b", 2, 0.5)])
    cells = table.cells("knn", "accuracy", None)
    assert [cell.point for cell in cells] == ["b", "a"]  # as they first appear
    assert cells[0].by_seed == {1: 0.6, 0: 0.4, 2: 0.5}
    assert cells[0].interval == over_seeds([0.6, 0.4, 0.5])
    assert (cells[0].count, cells[0].collapsed, cells[1].collapsed) == (100, 1, 0)


def test_a_cell_takes_one_measure_only():
    other = [
        row("a", 0, 0.9, evaluation="linear"),
        row("a", 0, 0.8, metric="accuracy_best"),
        row("a", 0, 0.7, images_seen=500),
    ]
    (cell,) = Table([*other, row("a", 0, 0.25), *other]).cells("knn", "accuracy", None)
    assert cell.by_seed == {0: 0.25}
    assert [cell.by_seed for cell in Table(other).cells("knn", "accuracy", 500)] == [{0: 0.7}]
    assert Table(other).cells("knn", "accuracy", 501) == []


def test_a_cell_knows_its_values_and_whether_it_is_the_baseline():
    table = Table([row("none", 0, 0.2, baseline=True), row("images=4", 0, 0.5, values={"images": 4})])
    base, point = table.cells("knn", "accuracy", None)
    assert (base.baseline, dict(base.values)) == (True, {})
    assert (point.baseline, dict(point.values)) == (False, {"images": 4})


def test_a_curve_leads_from_images_seen_to_accuracy_for_every_seed():
    rows = [
        row(point, seed, 0.1 * seed + seen / 1e4, images_seen=seen)
        for point in "ab"
        for seed in (0, 1)
        for seen in (200, 100)
    ]
    curves = Table([*rows, row("a", 0, 0.99)]).curves("knn", "accuracy")
    assert list(curves) == ["a", "b"]
    assert curves["a"] == {0: {200: 0.02, 100: 0.01}, 1: {200: pytest.approx(0.12), 100: pytest.approx(0.11)}}


def test_parquet_holds_every_row_with_a_column_for_each_axis():
    rows = [
        row("none", 0, 0.25, baseline=True),
        row("p", 3, 0.5, values={"images": 4, "objective": {"kind": "classify"}}, images_seen=200, searched=True),
    ]
    written = pq.read_table(io.BytesIO(Table(rows).parquet())).to_pylist()
    assert [entry["images"] for entry in written] == [None, 4]
    assert [entry["objective"] for entry in written] == [None, "{'kind': 'classify'}"]
    for entry, one in zip(written, rows, strict=True):
        for name in set(Row.__slots__) - {"values"}:
            assert entry[name] == getattr(one, name), name


def test_an_empty_table_is_written_too():
    assert pq.read_table(io.BytesIO(Table([]).parquet())).num_rows == 0
    assert Table([]).cells("knn", "accuracy", None) == []
    assert Table([]).curves("knn", "accuracy") == {}
