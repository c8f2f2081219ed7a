import random

import keras
import numpy as np
import pytest

from keras_l2e.errors import WorkError
from keras_l2e.training import checkpoints


def make_variables(value=0.0, shape=(2, 3)):
    return [
        keras.Variable(np.full(shape, value, "float32"), name="kernel"),
        keras.Variable(np.array(int(value), "int64"), name="step", trainable=False),
    ]


def values(variables):
    return [variable.numpy().tolist() for variable in variables]


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of epochs 1 to 3, in which every value is the epoch's number."""
    for epoch in (1, 2, 3):
        checkpoints.save(tmp_path / "c", epoch, make_variables(epoch), {"epoch": epoch, "x": None})
    return tmp_path / "c"


def restore(folder, report=None, **changes):
    """The state restored and the variables it was restored into."""
    variables = make_variables(**changes)
    return checkpoints.restore(folder, variables, report), values(variables)


def test_the_newest_is_restored_and_the_one_before_kept(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["epoch_00002.npz", "epoch_00003.npz"]
    assert restore(folder) == ({"epoch": 3, "x": None}, values(make_variables(3)))


def test_numbers_come_back_bit_for_bit(tmp_path):
    value = np.array([0.1, 1e-45, -0.0, np.pi], "float32")
    checkpoints.save(tmp_path, 1, [keras.Variable(value, name="v")], {"rate": 0.1 + 0.2})
    variable = keras.Variable(np.ones(4, "float32"), name="v")
    assert checkpoints.restore(tmp_path, [variable]) == {"rate": 0.1 + 0.2}
    assert variable.numpy().tobytes() == value.tobytes()


def test_a_run_whose_folder_was_taken_away_does_not_bring_it_back(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoints.save(tmp_path / "taken/checkpoints", 1, make_variables(), {})
    assert not (tmp_path / "taken").exists()


def test_no_checkpoint_is_no_state(tmp_path):
    assert restore(tmp_path / "missing") == (None, values(make_variables()))


def test_any_altered_bit_is_noticed_or_harmless(folder):
    newest = folder / "epoch_00003.npz"
    data = newest.read_bytes()
    rng = random.Random(1)
    outcomes = []
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        newest.write_bytes(damaged)
        state, found = restore(folder, lambda line: None)
        outcomes.append(state["epoch"])
        assert found == values(make_variables(state["epoch"]))
    # Names, sizes and arrays are most of the file; dates in its headers do no harm.
    assert 150 < outcomes.count(2) < 300


def test_without_a_whole_one_nothing_is_restored(folder):
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(WorkError, match="no whole checkpoint"):
        restore(folder, lambda line: None)


@pytest.mark.parametrize(
    ("make", "difference"),
    [
        (lambda: make_variables(shape=(2, 4)), "000:kernel is (2, 3) there, (2, 4) here"),
        (lambda: make_variables()[:1], "001:step is () there, missing here"),
    ],
)
def test_another_model_is_named_and_nothing_is_restored(folder, make, difference):
    variables = make()
    with pytest.raises(WorkError) as error:
        checkpoints.restore(folder, variables)
    assert str(error.value) == f"{folder / 'epoch_00003.npz'} is of another model: {difference}"
    assert values(variables) == values(make())
