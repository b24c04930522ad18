"""One photograph: what it looks like, and where each warp looks."""

import importlib.util
import sys

import numpy as np
import pytest
from PIL import Image

from scaleback.core.errors import DataError, SpecError
from scaleback.sources import one_photo
from scaleback.sources.one_photo import OnePhoto, elastic, grid, perspective, polynomial
from scaleback.sources.population import Population

SIZE = 40


def drawn(count=4, seed=0, **fields):
    return OnePhoto(**{"size_px": SIZE, "look": "gray", **fields}).open(seed)(np.arange(count)).image_BHWC


@pytest.mark.parametrize("warp", one_photo.WARPS)
def test_hardly_any_warp_leaves_the_photograph(warp):
    plain = one_photo.decode_file(OnePhoto().file, SIZE, 1, "china")
    assert abs(drawn(warp=warp, delta=1e-9).astype(int) - plain).max() <= 1


@pytest.mark.parametrize("warp", one_photo.WARPS)
def test_a_larger_delta_is_a_larger_change_by_the_same_draws(warp):
    plain = one_photo.decode_file(OnePhoto().file, SIZE, 1, "china").astype(int)
    small, large = (abs(drawn(8, warp=warp, delta=delta).astype(int) - plain).mean() for delta in (0.05, 0.5))
    assert 0 < small < large
    at = [one_photo.WARPS[warp](np.random.default_rng(3), delta, SIZE) for delta in (0.1, 0.2)]
    x = grid(SIZE)[0]
    if warp == "perspective":  # a homography is not linear in its corners
        assert np.corrcoef((at[0][0] - x).ravel(), (at[1][0] - x).ravel())[0, 1] > 0.99
    else:
        assert 2 * (at[0][0] - x) == pytest.approx(at[1][0] - x, abs=1e-9)


def test_a_perspective_takes_corners_to_their_moved_places():
    rng = np.random.default_rng(0)
    moved = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]) + 0.8 * (np.random.default_rng(0).random((4, 2)) - 0.5)
    x, y = perspective(rng, 0.8, 2_000)
    for (row, column), place in zip([(0, 0), (0, -1), (-1, -1), (-1, 0)], moved, strict=True):
        assert (x[row, column], y[row, column]) == pytest.approx(tuple(place), abs=5e-3)
    middle = np.array([x[:, 999], y[:, 999]])  # straight lines stay straight
    assert np.linalg.matrix_rank(middle - middle[:, :1], tol=1e-6) == 1


def test_a_polynomial_is_quadratic_and_no_more():
    x, y = polynomial(np.random.default_rng(1), 0.5, 64)
    for field in (x, y):
        assert abs(np.diff(field, n=3, axis=0)).max() < 1e-12
        assert abs(np.diff(field, n=3, axis=1)).max() < 1e-12
    assert abs(np.diff(x, n=2, axis=1)).max() > 0


def test_an_elastic_field_is_smooth_and_has_its_spread():
    x, y = elastic(np.random.default_rng(2), 0.4, 64)
    shift = np.stack([x - grid(64)[0], y - grid(64)[1]])
    assert shift.std() == pytest.approx(0.1)
    assert abs(np.diff(shift, axis=2)).max() < 0.1


def test_looks_are_what_they_say():
    rgb, gray, canny, binary = (drawn(1, look=look, delta=1e-9)[0] for look in ("rgb", "gray", "canny", "binary"))
    assert rgb.shape == (SIZE, SIZE, 3)
    assert gray.shape == canny.shape == binary.shape == (SIZE, SIZE, 1)
    assert (binary > 127).mean() == pytest.approx(0.5, abs=0.05)
    assert 0.02 < (canny > 127).mean() < 0.3
    steep = np.hypot(*np.gradient(gray[..., 0].astype(float)))
    assert steep[canny[..., 0] > 127].mean() > 1.3 * steep.mean()


def test_ones_own_photograph_has_its_digest_in_its_identity(tmp_path):
    file = tmp_path / "mine.png"
    Image.fromarray(np.arange(48 * 60, dtype=np.uint8).reshape(48, 60)).save(file)
    source = OnePhoto(photo=str(file), size_px=20, look="gray")
    before = Population.of(source, 0)
    assert source.open(0)(np.arange(2)).image_BHWC.shape == (2, 20, 20, 1)
    Image.fromarray(np.zeros((48, 60), np.uint8)).save(file)
    assert Population.of(source, 0).address != before.address


def test_what_is_no_photograph_is_refused(tmp_path):
    with pytest.raises(SpecError, match=r"^photo: unknown photograph or file, .*; got 'chin'; .* 'china'$"):
        OnePhoto.parse({"photo": "chin"})
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png"):
        OnePhoto(photo=str(tmp_path / "text.png")).verify()


@pytest.fixture
def skimage(tmp_path, monkeypatch):
    """A stand-in for scikit-image that brings two of its photographs."""
    monkeypatch.delitem(sys.modules, "skimage", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    data = tmp_path / "skimage" / "data"
    data.mkdir(parents=True)
    (tmp_path / "skimage" / "__init__.py").write_text("raise AssertionError('only its files are wanted')")
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    for name in ("astronaut", "clock_motion"):
        Image.fromarray(pixels).save(data / f"{name}.png")
    return pixels


@pytest.mark.parametrize("name", ["astronaut", "clock"])
def test_photographs_of_scikit_image_are_known_by_name(name, skimage):
    source = OnePhoto(photo=name, size_px=20, look="rgb", delta=1e-9)
    assert abs(source.open(0)(np.array([0])).image_BHWC[0].astype(int) - skimage).max() <= 1
    source.verify()
    assert source.origin() is not None


def test_what_the_installed_version_does_not_bring_is_refused(skimage):
    with pytest.raises(SpecError, match=r"^photo: must be in the installed skimage as data/coffee\.png, .* 'coffee'$"):
        OnePhoto.parse({"photo": "coffee"})


def test_without_scikit_image_its_photographs_are_refused_with_what_to_install(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "skimage" else found(name))
    line = r"^photo: comes with scikit-image, which is not installed; pip install 'scaleback\[photos\]'; got 'coffee'$"
    with pytest.raises(SpecError, match=line):
        OnePhoto.parse({"photo": "coffee"})
    assert OnePhoto(photo="flower").file.is_file()


def test_every_name_is_a_photograph_of_the_real_scikit_image():
    if importlib.util.find_spec("skimage") is None:
        pytest.skip("scikit-image is not installed")
    for name in one_photo.BUNDLED:
        assert OnePhoto(photo=name, size_px=16, look="gray").open(0).record["lit_share"] > 0
