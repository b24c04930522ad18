"""Laws of every generator; a registry line is what adds the tests."""

import pickle

import pytest
import torch

from scaleback.core.errors import InputError
from scaleback.sources.generator import Subject
from scaleback.sources.generators import GENERATORS

SHAPE = (8, 8, 1)  # of the digits that the embedded one's example draws


@pytest.fixture(scope="module", params=GENERATORS)
def spec(request, tmp_path_factory):
    return GENERATORS[request.param].example(tmp_path_factory.mktemp("generator"))


@pytest.fixture(scope="module")
def diffuser(spec):
    return spec.build(Subject(shape=SHAPE, classes=10, drawn=True)).eval()


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def told(diffuser, images, rows=slice(None)):
    index = torch.arange(len(images))[rows]
    return diffuser.told(index, index, diffuser.looks(images)[rows])


def test_latents_have_their_shape_and_become_images_of_the_subject(diffuser, images):
    with torch.no_grad():
        latent = diffuser.encode(images)
        drawn = diffuser.decode(latent)
    assert latent.shape == (4, *diffuser.latent_shape)
    assert drawn.shape == images.shape
    assert drawn.abs().max() <= 1


def test_noise_is_predicted_in_the_shape_of_latents_and_depends_on_what_is_told(diffuser, images):
    with torch.no_grad():
        latent, step = diffuser.encode(images), torch.tensor([1, 300, 600, 999])
        first = diffuser(latent, step, told(diffuser, images))
        other = diffuser(latent, step, diffuser.untold(4))
    assert first.shape == latent.shape
    assert first.dtype == torch.float32
    if not diffuser.adapted_parts():  # one that is trained here begins with classes alike
        assert (first - other).abs().max() > 0


def test_what_an_image_is_told_does_not_depend_on_its_batch(diffuser, images):
    together = told(diffuser, images)
    assert together.shape == diffuser.untold(4).shape
    for row in range(4):
        torch.testing.assert_close(told(diffuser, images, slice(row, row + 1))[0], together[row], rtol=0, atol=1e-5)


def test_two_builds_are_the_same(spec, diffuser):
    again = spec.build(Subject(shape=SHAPE, classes=10, drawn=True)).state_dict()
    assert again.keys() == diffuser.state_dict().keys()
    assert all(torch.equal(value, again[name]) for name, value in diffuser.state_dict().items())


def test_a_spec_survives_pickling_and_plain_data(spec):
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert type(spec).parse(spec.plain()) == spec
    with pytest.raises(InputError, match="unknown field"):
        type(spec).parse({**spec.plain(), "colour_of_the_sky": 1})


def test_its_files_are_looked_at_cheaply(spec):
    spec.verify()
    assert spec.origin() == spec.origin()
