"""Published categories: read as they are written, in numeric order, with the chances that the file states."""

import numpy as np
import pytest

from scaleback.core.errors import DataError, RenderError, SpecError
from scaleback.sources import ifs
from scaleback.sources.fractaldb import OFDB, FractalDB
from scaleback.sources.parameters import category_files, read_published
from scaleback.sources.population import Population
from tests.sources.reference import picture

PUBLISHED = """\
5.837848063254049702e-01,5.710404955054340093e-01,7.431312327013381847e-01,-5.511572939835394092e-01,\
-6.844673029160008859e-02,6.882748449569975335e-02,6.392281307787082145e-01
6.977003265133947529e-01,-5.440939903470098926e-02,-2.932283806845803475e-02,-6.012640439817884541e-01,\
3.581232498435951150e-01,-3.860114230278139935e-01,3.607718692212917855e-01
"""
"""Category 00002 of FractalDB-1k (FractalDB-Pretrained-ResNet-PyTorch, data/csv_rate0.2_category1000/csv0; MIT)."""
ROW = "0.5,0.1,-0.2,0.5,{},0.3,{}"
OPTIONS = {"points": 5_000, "size_px": 32}


def folder_of(path, files):
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return str(path)


def category(shift, chances=(0.25, 0.75)):
    return "\n".join(ROW.format(shift * place, chance) for place, chance in enumerate(chances, start=1)) + "\n"


@pytest.fixture
def three(tmp_path):
    """In sub-folders as released, and such that order as text, order of folders and numeric order all differ."""
    names = {"csv0/00010.csv": 0.3, "csv1/00002.csv": 0.2, "csv0/1.csv": 0.1}
    return folder_of(tmp_path / "csv", {name: category(shift) for name, shift in names.items()})


def test_what_is_published_fills_a_fifth_of_its_picture_under_the_chances_in_the_file(tmp_path):
    (found,) = read_published(folder_of(tmp_path, {"csv0/00002.csv": PUBLISHED}), 1).categories
    assert found.chance_M == pytest.approx(ifs.probabilities(found.system_M6), rel=1e-15)
    drawn = picture(found.system_M6, found.chance_M, 100_000, 512, 6, None)
    assert (drawn > 0).mean() > 0.2


def test_categories_come_in_the_numeric_order_of_their_names(three):
    assert [file.stem for file in category_files(three)] == ["1", "00002", "00010"]
    reader = FractalDB(parameters=three, categories=3, **OPTIONS).open(4)
    assert [reader.system(label)[0, 4] for label in range(3)] == [0.1, 0.2, 0.3]
    assert reader.record == {"categories": ["1", "00002", "00010"]}
    samples = reader(np.arange(9))
    assert samples.label_B.tolist() == [0, 1, 2] * 3
    assert samples.facts["system"][:3, 0, 4] == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("kind", [FractalDB, OFDB])
def test_a_picture_is_drawn_with_the_files_chances_and_not_with_those_of_its_matrices(kind, tmp_path):
    where = folder_of(tmp_path, {"0.csv": category(0.4, (0.05, 0.95))})
    source = kind(parameters=where, categories=1, renderer="exact", draw="point_gray", **OPTIONS)
    (image,) = source.open(0)(np.array([0])).image_BHWC
    table = np.array([[0.5, 0.1, -0.2, 0.5, 0.4, 0.3], [0.5, 0.1, -0.2, 0.5, 0.8, 0.3]])
    table[:, 0] *= 0.2  # row 0 of the weights
    assert (image[..., 0] == picture(table, [0.05, 0.95], 5_000, 32, 6, None)).all()
    assert (image[..., 0] != picture(table, ifs.probabilities(table), 5_000, 32, 6, None)).any()


def test_only_masks_are_drawn_from_the_seed(three):
    first, second = (OFDB(parameters=three, categories=3, **OPTIONS).open(seed)(np.arange(3)) for seed in (0, 1))
    assert (first.facts["system"][~np.isnan(first.facts["system"])] != 0).all()
    np.testing.assert_array_equal(first.facts["system"], second.facts["system"])
    assert (first.image_BHWC != second.image_BHWC).any()


def test_fewer_categories_are_the_first(three):
    many, few = (OFDB(parameters=three, categories=count, **OPTIONS).open(0) for count in (3, 2))
    assert (many(np.arange(2)).image_BHWC == few(np.arange(2)).image_BHWC).all()


def test_a_category_may_have_more_maps_than_a_search_draws(tmp_path):
    where = folder_of(tmp_path, {"0.csv": category(0.05, (0.125,) * 8), "1.csv": category(0.3)})
    samples = OFDB(parameters=where, categories=2, **OPTIONS).open(0)(np.arange(2))
    assert samples.facts["system"].shape == (2, 8, 6)
    assert np.isnan(samples.facts["system"][1, 2:]).all()
    assert samples.image_BHWC.any(axis=(1, 2, 3)).all()


def test_the_content_of_the_files_that_are_read_is_part_of_identity(tmp_path):
    def address(name, files, categories=1):
        where = folder_of(tmp_path / name, files)
        return Population.of(OFDB(parameters=where, categories=categories, **OPTIONS), 0).origin

    same = address("a", {"0.csv": category(0.1)})
    assert address("b", {"csv0/0.csv": category(0.1), "1.csv": category(0.5)}) == same
    assert address("c", {"0.csv": category(0.1), "1.csv": category(0.5)}, 2) != same
    assert address("d", {"0.csv": category(0.11)}) != same
    assert address("e", {"00.csv": category(0.1)}) != same
    assert OFDB().origin() is None


def test_without_parameters_nothing_changes():
    assert OFDB().canonical() == {"kind": "ofdb", "revision": 3}


@pytest.mark.parametrize("kind", ["fractaldb", "ofdb"])
@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"categories": 4}, r"^categories: must be at most the 3 of .*csv; got 4$"),
        ({}, r"^categories: must be at most the 3 of .*csv; got 1000$"),
        (
            {"parameters": "{}v"},
            r"^parameters: unknown path, known are .*csv; got '.*csvv'; the nearest .* is '.*csv'$",
        ),
        ({"parameters": "{}/csv7"}, r"^parameters: unknown path, known are .*csv0.*; the nearest known name is "),
    ],
)
def test_what_is_not_there_is_refused(kind, fields, line, three):
    plain = {"parameters": "{}", **fields}
    plain["parameters"] = plain["parameters"].format(three)
    with pytest.raises(SpecError, match=line):
        {"fractaldb": FractalDB, "ofdb": OFDB}[kind].parse(plain)


def test_a_folder_without_categories_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"^parameters: .*: holds no category \(\.csv\)$"):
        OFDB.parse({"parameters": str(tmp_path), "categories": 1})
    folder_of(tmp_path, {"a/00.csv": category(0.1), "b/00.csv": category(0.1)})
    with pytest.raises(SpecError, match=r"^parameters: .*b/00\.csv: is the second category of that name; .*a/00\.csv$"):
        OFDB.parse({"parameters": str(tmp_path), "categories": 1})


GOOD = ROW.format(0.1, 0.5)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{GOOD}\n0.5,0.1,-0.2,0.5,0.4,0.3\n", r"row 1: must be seven finite numbers a,b,c,d,e,f,p; got '0\.5,0\.1"),
        (f"{GOOD},1\n{GOOD}\n", "row 0: must be seven finite numbers"),
        (f"{GOOD}\n{GOOD.replace('0.3', 'three')}\n", "row 1: must be seven finite numbers"),
        (f"{GOOD}\n{GOOD.replace('0.3', 'nan')}\n", "row 1: must be seven finite numbers"),
        (f"{GOOD}\n{GOOD.replace('0.3', 'inf')}\n", "row 1: must be seven finite numbers"),
        (f"{GOOD}\n\n{GOOD}\n", "row 1: must be seven finite numbers .*; got ''"),
        (f"{ROW.format(0.1, -0.5)}\n{ROW.format(0.1, 1.5)}\n", r"row 0: p, the chance .* at least 0; got -0\.5"),
        (f"{GOOD}\n{ROW.format(0.2, 0.25)}\n", r"0\.csv: the last column, .*, must sum to 1; got 0\.75"),
        ("", "must have 1 to 256 rows, one a map; got 0"),
        (f"{ROW.format(0.1, 1 / 257)}\n" * 257, "must have 1 to 256 rows, one a map; got 257"),
        ("\x00\x01", "row 0: must be seven finite numbers"),
    ],
)
def test_a_malformed_file_is_refused_with_its_name_and_row(text, line, tmp_path):
    source = OFDB(parameters=folder_of(tmp_path, {"0.csv": text}), categories=1, **OPTIONS)
    for look in (source.verify, source.origin, lambda: source.open(0)):
        with pytest.raises(DataError, match=line) as caught:
            look()
        assert "0.csv" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "0.csv").write_bytes(b"\xff\xfe0,1")
    with pytest.raises(DataError, match=r"0\.csv: cannot be read"):
        OFDB(parameters=str(tmp_path), categories=1).verify()


def test_a_category_that_leaves_nothing_to_draw_is_refused_by_its_name(tmp_path):
    diverging = "9,0,0,9,0.1,0.1,1\n"
    source = OFDB(parameters=folder_of(tmp_path, {"0.csv": category(0.1), "1.csv": diverging}), categories=2, **OPTIONS)
    with pytest.raises(RenderError, match=r"^ofdb: .*1\.csv leaves nothing to draw$"):
        source.open(0)(np.arange(2))
