"""Mixed images: pixels, shares and partners, against loops over images."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from scaleback.core import seeds
from scaleback.core.errors import RunError, SpecError
from scaleback.objectives.learners import mixing
from scaleback.objectives.learners.base import Batch
from scaleback.objectives.learners.mixing import Mix, beta_quantile, draw_mix, mixed, partner, places
from scaleback.objectives.mixing import Mixing

IMAGES, HEIGHT, WIDTH = 8, 24, 20
MIXERS = ("mixup", "cutmix", "resizemix")
BOXES = MIXERS[1:]
PAIRINGS = ("local", "global")


def batch(images=IMAGES, step=0, seed=1, size=(HEIGHT, WIDTH)):
    generator = torch.Generator().manual_seed(0)
    return Batch(
        view_VBCHW=[torch.randn(images, 2, *size, generator=generator) for _ in range(2)],
        label_B=torch.zeros(images, dtype=torch.int64),
        index_B=torch.arange(images),
        counter_B=seeds.counter(step, np.arange(images)),
        seed=seed,
        step=step,
        progress=0.0,
    )


def cut(given, images):
    """The part of a batch that a worker may have."""
    return dataclasses.replace(
        given,
        view_VBCHW=[view[images] for view in given.view_VBCHW],
        label_B=given.label_B[images],
        index_B=given.index_B[images],
        counter_B=given.counter_B[images],
    )


def partner_by_hand(i, pairing, images=IMAGES):
    if pairing == "global":
        return images - 1 - i
    return i + 1 if i % 2 == 0 else i - 1


def mixed_by_hand(image, other, mix, i, view):
    """One mixed image, pixel by pixel or by torch's own resizing."""
    share = float(mix.share_B[i])
    if mix.mixer == "mixup":
        return share * image + (1 - share) * other
    (h, w), (top, left) = mix.box_B2[i].tolist(), mix.corner_BV2[i, view].tolist()
    result = image.clone()
    if h * w == 0:
        return result
    if mix.mixer == "resizemix":
        pasted = F.interpolate(other[None], (h, w), mode="bilinear", align_corners=False)[0]
    else:
        pasted = other[:, top : top + h, left : left + w]
    for y in range(h):
        for x in range(w):
            result[:, top + y, left + x] = pasted[:, y, x]
    return result


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("mixer", MIXERS)
def test_pixels_are_those_of_a_loop_over_images(mixer, pairing):
    for step in range(3):
        given = batch(step=step)
        mix = draw_mix(Mixing(mixers=(mixer,), pairing=pairing), given)
        for view, image in enumerate(given.view_VBCHW):
            found = mixed(image, mix, view)
            for i in range(IMAGES):
                expected = mixed_by_hand(image[i], image[partner_by_hand(i, pairing)], mix, i, view)
                torch.testing.assert_close(found[i], expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("mixer", MIXERS)
def test_pixels_are_mixed_and_not_their_shares_alone(mixer):
    # The released code's last version pastes where (i >= start) and (i < start), which is nowhere.
    image = torch.arange(4.0)[:, None, None, None].expand(4, 1, HEIGHT, WIDTH)
    given = dataclasses.replace(batch(4), view_VBCHW=[image, image])
    mix = draw_mix(Mixing(mixers=(mixer,)), given)
    found = mixed(image, mix, 0)
    for i, share in enumerate(mix.share_B.tolist()):
        assert 0 < share < 1
        mean = share * i + (1 - share) * partner_by_hand(i, "local")
        assert found[i].mean().item() == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize("mixer", BOXES)
def test_the_share_is_exactly_what_the_box_leaves(mixer):
    given = batch(64)
    mix = draw_mix(Mixing(mixers=(mixer,)), given)
    own, other = (torch.full((64, 1, HEIGHT, WIDTH), value) for value in (0.0, 1.0))
    image = torch.where((torch.arange(64) % 2 == 0)[:, None, None, None], own, other)
    for view in (0, 1):
        pasted = mixed(image, mix, view) != image
        assert torch.equal((~pasted).double().mean((1, 2, 3)).float(), mix.share_B)
        for mask in pasted[:, 0]:
            assert torch.equal(mask, mask.any(1)[:, None] & mask.any(0))


@pytest.mark.parametrize("mixer", BOXES)
def test_both_views_have_one_share_and_boxes_of_their_own(mixer):
    mix = draw_mix(Mixing(mixers=(mixer,)), batch(512))
    room = torch.tensor([HEIGHT, WIDTH]) - mix.box_B2
    assert (mix.corner_BV2 >= 0).all()
    assert (mix.corner_BV2 <= room[:, None]).all()
    roomy = (room > 3).all(1)
    first, second = (mix.corner_BV2[roomy, view].double() / room[roomy] for view in (0, 1))
    assert abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < 0.2
    for corner in (first, second):
        for way in (0, 1):
            assert corner[:, way].min() == 0
            assert corner[:, way].max() == 1
            assert corner[:, way].mean().item() == pytest.approx(0.5, abs=0.05)


def test_a_draw_that_is_rounded_to_one_stays_inside(monkeypatch):
    monkeypatch.setattr(Batch, "draw", lambda self, purpose, slots: torch.full((len(self.index_B), slots), 1.0))
    mix = draw_mix(Mixing(mixers=("resizemix",)), batch())
    assert torch.equal(mix.corner_BV2, (torch.tensor([HEIGHT, WIDTH]) - mix.box_B2)[:, None].expand(-1, 2, -1))


@pytest.mark.parametrize("alpha", [1.0, 0.4, 3.0])
def test_shares_are_drawn_from_beta(alpha):
    share = draw_mix(Mixing(mixers=("mixup",), alpha=alpha), batch(4_000, size=(1, 1))).share_B
    assert share.dtype == torch.float32
    assert stats.kstest(share.numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3


def test_the_quantile_is_scipy_s():
    chance = torch.rand(100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for alpha in (1.0, 0.4, 3.0):
        assert beta_quantile(chance, alpha).tolist() == pytest.approx(stats.beta(alpha, alpha).ppf(chance), abs=1e-9)


def test_resizemix_keeps_a_share_between_a_tenth_and_nine_tenths():
    size = 1_000  # so large that pixels do not matter
    given = batch(2_000, size=(1, 1))
    drawn = draw_mix(Mixing(mixers=("mixup",)), given).share_B
    wide = dataclasses.replace(given, view_VBCHW=[torch.zeros(1, 1, 1, 1).expand(2_000, 1, size, size)] * 2)
    share = draw_mix(Mixing(mixers=("resizemix",)), wide).share_B
    torch.testing.assert_close(share, 0.8 * drawn + 0.1, atol=3e-3, rtol=0)
    for side, box in ((0, "height"), (1, "width")):
        found = draw_mix(Mixing(mixers=("resizemix",)), wide).box_B2[:, side]
        expected = (size * (1 - (0.8 * drawn + 0.1)).sqrt()).floor()
        assert (found - expected).abs().max() <= 0, box


def test_every_image_s_draws_are_its_own_whatever_slice_it_is_in():
    spec, whole = Mixing(), batch()
    for start in range(0, IMAGES, 2):
        part = slice(start, start + 2)
        for one, all_of_it in zip(
            dataclasses.astuple(draw_mix(spec, cut(whole, part))),
            dataclasses.astuple(draw_mix(spec, whole)),
            strict=True,
        ):
            assert one == all_of_it if isinstance(one, str) else torch.equal(one, all_of_it[part])


def test_mixers_are_drawn_uniformly_a_batch():
    found = [draw_mix(Mixing(), batch(2, step, size=(4, 4))).mixer for step in range(900)]
    counts = [found.count(mixer) for mixer in MIXERS]
    assert stats.chisquare(counts).pvalue > 1e-3
    assert {draw_mix(Mixing(mixers=("cutmix",)), batch(2, step, size=(4, 4))).mixer for step in range(20)} == {"cutmix"}


@pytest.mark.parametrize(
    ("mine", "theirs", "common"), [(0.7, 0.6, 0.7), (1.0, 1.0, 0.0), (0.3, 0.7, 1.0), (0.2, 0.2, 0.4), (0.8, 0.8, 0.4)]
)
def test_what_two_mixed_images_have_in_common(mine, theirs, common):
    none = torch.zeros(1, 2)
    mix = Mix(
        mixer="mixup",
        pairing="local",
        share_B=torch.tensor([mine]),
        partner_share_B=torch.tensor([theirs]),
        box_B2=none,
        corner_BV2=none,
    )
    assert mix.in_common.tolist() == pytest.approx([common])


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_what_is_in_common_is_the_overlap_of_two_mixtures_of_two_images(pairing):
    mix = draw_mix(Mixing(pairing=pairing, mixers=("mixup",)), batch())
    for i in range(IMAGES):
        j = partner_by_hand(i, pairing)
        of_i = {i: float(mix.share_B[i]), j: 1 - float(mix.share_B[i])}
        of_j = {j: float(mix.share_B[j]), i: 1 - float(mix.share_B[j])}
        assert mix.in_common[i].item() == pytest.approx(sum(min(of_i[k], of_j[k]) for k in (i, j)), abs=1e-6)


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_partners_are_partners_of_each_other_and_never_oneself(pairing):
    own, other = places(IMAGES, pairing, torch.device("cpu"))
    assert own.tolist() == list(range(IMAGES))
    assert other.tolist() == [partner_by_hand(i, pairing) for i in range(IMAGES)]
    assert torch.equal(partner(own, pairing), other)
    assert torch.equal(partner(other, pairing), own)
    assert (own != other).all()


@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("worker", [0, 1])
def test_a_partner_s_share_is_the_partner_s_own_on_another_worker_too(pairing, worker, monkeypatch):
    # The first release flips shares within a worker while images come from the other one.
    whole, half = batch(), IMAGES // 2
    parts = [slice(0, half), slice(half, None)]

    def told(value):
        """What the two workers hold, told of this one's by which draw it is."""
        kinds = {"share": shares, "image": images}
        return torch.cat(kinds["share" if value.ndim == 1 else "image"])

    spec = Mixing(pairing=pairing, mixers=("cutmix",))
    expected = draw_mix(spec, whole)
    expected_image = mixed(whole.view_VBCHW[0], expected, 0)
    shares = [expected.share_B[part] for part in parts]
    images = [whole.view_VBCHW[0][part] for part in parts]
    monkeypatch.setattr(mixing, "rank", lambda: worker)
    monkeypatch.setattr(mixing, "workers", lambda: 2)
    monkeypatch.setattr(mixing, "gathered", told)
    mine = cut(whole, parts[worker])
    found = draw_mix(spec, mine)
    assert torch.equal(found.partner_share_B, expected.partner_share_B[parts[worker]])
    assert torch.equal(mixed(mine.view_VBCHW[0], found, 0), expected_image[parts[worker]])
    own, other = places(half, pairing, torch.device("cpu"))
    assert own.tolist() == list(range(IMAGES))[parts[worker]]
    assert other.tolist() == [partner_by_hand(i, pairing) for i in own.tolist()]


def test_views_of_two_sizes_are_refused_where_they_are_mixed():
    given = batch()
    given.view_VBCHW[1] = given.view_VBCHW[1][:, :, :16, :16]
    with pytest.raises(RunError, match=r"^mixed views must be of one size; got \[\(16, 16\), \(24, 20\)\]$"):
        draw_mix(Mixing(), given)
    assert draw_mix(Mixing(), given, views=1).corner_BV2.shape == (IMAGES, 1, 2)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"mixers": []}, "mixers: must name at least one way to mix, each once; got ()"),
        ({"mixers": ["mixup"] * 2}, "mixers: must name at least one way to mix, each once; got ('mixup', 'mixup')"),
        ({"alpha": 0.0}, "alpha: must be greater than 0; got 0.0"),
        ({"mix_weight": 0.0}, "mix_weight: must be greater than 0; got 0.0"),
    ],
)
def test_impossible_fields_are_refused(fields, line):
    with pytest.raises(SpecError) as caught:
        Mixing.parse(fields)
    assert str(caught.value) == line
