"""What the README shows works: its example of a new method is put through the laws of all methods."""

import importlib.util
import re
from pathlib import Path

import pytest

from tests.contracts import test_objectives as laws

README = (Path(__file__).resolve().parents[1] / "README.md").read_text()
MOST_LINES = 40


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The method of the README, out of a file of its own."""
    (code,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "(Objective)" in block]
    assert code.count("\n") <= MOST_LINES
    path = tmp_path_factory.mktemp("readme") / "rotation.py"
    path.write_text(code)
    spec = importlib.util.spec_from_file_location("rotation", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Rotation.example()


@pytest.mark.parametrize(
    "law",
    [
        laws.test_a_loss_is_a_finite_scalar_and_its_gradient_reaches_the_whole_backbone,
        laws.test_features_are_the_backbone_s_and_detached,
        laws.test_where_all_images_are_one_the_loss_is_the_trivial_one,
        laws.test_what_is_kept_has_the_names_and_shapes_of_the_backbone,
        laws.test_fresh_heads_depend_on_the_generator_only,
        laws.test_fifty_steps_on_eight_images_lower_the_loss_without_collapse,
        laws.test_save_load_continue_equals_continue,
    ],
    ids=lambda law: law.__name__,
)
def test_the_example_of_a_new_method_keeps_the_laws(law, example, tiny_vit):
    law(example, tiny_vit)


def test_slices_of_the_example_give_what_the_batch_gives(example, tiny_vit):
    laws.test_slices_of_a_batch_give_what_the_batch_gives(example, tiny_vit, 2)
