import itertools
import json
import re
from types import SimpleNamespace

import pytest
import tensorflow as tf

from keras_l2e.training import progress
from keras_l2e.training.progress import Progress

SCORES = {"token_accuracy": 0.5, "exact_match": 0.25}
LINE = {
    "epoch": 2,
    "difficulty": {"length": 1, "nesting": 1},
    "loss": 1.0,
    "token_accuracy": 0.5,
    "learning_rate": 0.125,
    "validation": SCORES,
    "target_validation": {"token_accuracy": None, "exact_match": None},
}


@pytest.fixture
def report(tmp_path, monkeypatch, capsys):
    """Reports an epoch that took so many seconds; gives what is printed."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    examples = itertools.count(8, step=8)
    reporter = Progress(SimpleNamespace(task="addition", num_epochs=5), tmp_path, 0)

    def report(seconds):
        clock.now += seconds
        reporter.report({**LINE, "num_examples": next(examples)}, 0.25 * seconds)
        return capsys.readouterr().out

    return report


def test_a_line_an_epoch(report, tmp_path):
    assert report(0.5) == (
        "epoch 2/5  addition length 1  loss 1.000  validation token_accuracy 50.0% "
        "exact_match 25.0%  (target: -)  16 programs/s  0:00:02 left at most\n"
    )
    report(2)
    timing = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    names = ("epoch", "seconds", "validation_seconds", "programs_per_second")
    assert [tuple(t[name] for name in names) for t in timing] == [
        (2, 0.5, 0.125, 16),
        (2, 2.0, 0.5, 4),
    ]
    # TensorFlow alone takes more than 100 MiB.
    assert 100 < timing[0]["most_memory_mib"] <= timing[1]["most_memory_mib"] < 100_000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", timing[0]["finished"])


def test_tensorboard_has_every_rate_that_there_is(report, tmp_path):
    report(1)
    (path,) = (tmp_path / "tensorboard").iterdir()
    events = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    found = {}
    for record in events:
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
            found[value.tag] = (event.step, float(tf.make_ndarray(value.tensor)))
    assert found == {
        "loss": (8, 1.0),
        "token_accuracy": (8, 0.5),
        "learning_rate": (8, 0.125),
        "validation/token_accuracy": (8, 0.5),
        "validation/exact_match": (8, 0.25),
    }
