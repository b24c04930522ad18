"""A process that is warned saves at the end of its step, and who goes on from there ends with the same bytes."""

import pytest

from scaleback.core.errors import LeavingError
from scaleback.pretrain import leaving, watch
from scaleback.pretrain.leaving import NOTICE
from scaleback.pretrain.loop import train
from scaleback.pretrain.world import World
from tests.pretrain.test_loop import checkpoints, resumed, training


@pytest.fixture(autouse=True)
def _other_stages_are_not_warned():
    yield
    NOTICE.withdraw()


def warn_at(step):
    def hook(state):
        if state.step == step:
            NOTICE.give()

    return hook


@pytest.mark.parametrize("step", [1, 6, 8, 11])
def test_a_warned_run_is_saved_within_a_row_and_goes_on_bit_equal(step, tiny_vit, store, monkeypatch):
    monkeypatch.setattr(watch, "CURVE_ROWS", 3)  # rows of four steps
    whole = train(training(tiny_vit), World())
    with pytest.raises(LeavingError, match=f"saved after step {step}"):
        train(training(tiny_vit), World(), checkpoints=checkpoints(store, 3_600.0), hooks=[warn_at(step)])
    NOTICE.withdraw()
    state = resumed(training(tiny_vit), store)
    assert state.resumed == step
    assert state.rows == whole.rows
    assert state.save() == whole.save()


def test_a_run_that_is_warned_in_its_last_step_ends(tiny_vit, store):
    state = train(training(tiny_vit), World(), checkpoints=checkpoints(store, 3_600.0), hooks=[warn_at(12)])
    assert state.step == 12
    assert store.addresses("pretrain") == []


def test_a_member_of_a_group_waits_for_the_end_of_a_row_but_not_for_ever(monkeypatch):
    assert not NOTICE.heeded_now(whole=True)
    NOTICE.give()
    assert NOTICE.heeded_now(whole=True)
    assert not NOTICE.heeded_now(whole=False)
    monkeypatch.setattr(leaving, "ROW_WAIT_S", -1.0)
    assert NOTICE.heeded_now(whole=False)
