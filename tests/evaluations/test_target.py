"""Targets with synthetic images: where they come from, and what is refused."""

import pytest

from scaleback.core.errors import Refusal, SpecError
from scaleback.evaluations import Target
from scaleback.evaluations.base import Synthetic
from scaleback.evaluations.frozen import KNN
from scaleback.evaluations.run import Evaluate
from scaleback.sources import AnySource
from scaleback.sources.diffusion import Diffusion
from scaleback.sources.named import Digits
from scaleback.sources.point_cloud import PointCloud

MADE = Synthetic(source=Digits(fold=(1, 2)), images=50)


def test_populations_of_real_and_synthetic_images_are_the_seed_s():
    target = Target(data=Digits(), images=100, synthetic=MADE)
    (real, many), (made, made_images), (test, _) = target.stored(7)
    assert (many, made_images, target.training_images) == (100, 50, 150)
    assert (real.seed, made.seed, test.seed) == (7, 7, 0)
    assert (real.source, made.source, test.source.split) == (Digits(), MADE.source, "test")
    alone = target.replace({"synthetic.role": "alone"})
    assert (alone.real_images, alone.synthetic_images, alone.training_images) == (0, 50, 50)
    assert alone.stored(7) == target.stored(7)  # the real images are still what copies are searched among


def test_a_multiplier_is_the_number_it_comes_to(tiny_vit):
    by_number = Target(data=Digits(), images=20, synthetic=MADE)
    by_multiple = by_number.replace({"synthetic.images": None, "synthetic.multiplier": 2.5})
    assert by_multiple.synthetic_images == 50
    assert by_multiple.fingerprint == by_number.fingerprint
    holder = Evaluate(evaluation=KNN(), target=by_multiple, backbone=tiny_vit, seed=0)
    assert holder.address == holder.model_copy(update={"target": by_number}).address
    more = by_multiple.replace({"images": 40})
    assert more.synthetic_images == 100
    assert Target.parse(more.plain()) == more


def test_a_share_keeps_the_total_and_is_the_numbers_it_comes_to():
    by_share = Target(data=Digits(), images=200, synthetic=Synthetic(source=Digits(fold=(1, 2)), share=0.25))
    assert (by_share.real_images, by_share.synthetic_images, by_share.training_images) == (150, 50, 200)
    by_number = Target(data=Digits(), images=150, synthetic=MADE)
    assert by_share.fingerprint == by_number.fingerprint
    assert by_share.stored(7) == by_number.stored(7)
    assert Target.parse(by_share.plain()) == by_share
    with pytest.raises(Refusal, match=r"^must give each of the 10 classes an image; got 5$"):
        by_share.replace({"synthetic.share": 0.975}).refuse_impossible()
    with pytest.raises(SpecError, match=r"synthetic.share: must be left out where they are alone; got 0.25"):
        by_share.replace({"synthetic.role": "alone"})


@pytest.mark.parametrize(
    "numbers", [{}, {"images": 5, "multiplier": 1.0}, {"images": 5, "share": 0.5}, {"multiplier": 1.0, "share": 0.5}]
)
def test_one_number_of_synthetic_images_is_needed(numbers):
    with pytest.raises(SpecError, match=r"^synthetic: needs one of images, multiplier and share$"):
        Target.parse({"data": "digits", "images": 20, "synthetic": {"source": "digits", **numbers}})


@pytest.mark.parametrize(
    ("synthetic", "images", "line"),
    [
        (None, 9, "images: must give each of the 10 classes an image; got 9"),
        (Synthetic(source=Digits(), images=9), 100, "synthetic.images: must give each of the 10 classes an image"),
        (
            Synthetic(source=Digits(), multiplier=0.05),
            100,
            "synthetic.multiplier: must give each of the 10 classes an image; got 0.05",
        ),
        (
            Synthetic(source=PointCloud(size_px=16), images=50),
            100,
            "synthetic.source: must give images of shape (8, 8, 1)",
        ),
        (
            Synthetic(source=Digits(class_limit=3), images=50),
            100,
            "synthetic.source: must have the 10 classes of the data",
        ),
        (
            Synthetic(source=Digits(), images=5_000),
            100,
            "synthetic.images: must be at most the 797 there are; got 5000",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused(synthetic, images, line):
    with pytest.raises(Refusal) as caught:
        Target(data=Digits(), images=images, synthetic=synthetic).refuse_impossible()
    assert f"{caught.value.field}: {caught.value}".startswith(line)


def test_a_diffusion_of_the_data_has_its_shape_and_classes(tmp_path):
    source: AnySource = Diffusion.example(tmp_path)
    target = Target(data=Digits(), images=20, synthetic=Synthetic(source=source, images=40))
    target.refuse_impossible()
    assert [type(stage).__name__ for stage in source.learnt(3)] == ["Trained", "Adapted"]
