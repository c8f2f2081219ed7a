import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_l2e.training import metrics

TEXTS = st.text("0123456789-", min_size=1, max_size=6)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("num_right", "num_tokens", "accuracy"),
    [
        ([4], [4], 1.0),
        ([0], [4], 0.0),
        # Positions count alike, whatever the example they stand in: 7 of 14, not the mean of rates.
        ([2, 1, 4], [2, 2, 10], 0.5),
    ],
)
def test_token_accuracy(num_right, num_tokens, accuracy):
    assert metrics.token_accuracy(num_right, num_tokens) == accuracy
    assert type(metrics.token_accuracy(num_right, num_tokens)) is float


@pytest.mark.parametrize(
    ("targets", "outputs", "match"),
    [
        (["123"], ["123"], 1.0),
        (["123"], ["12"], 0.0),
        (["12"], ["123"], 0.0),
        (["12"], [""], 0.0),
        (["12"], ["012"], 0.0),
        (["1", "2", "3", "4"], ["1", "2", "3", "5"], 0.75),
    ],
)
def test_exact_match(targets, outputs, match):
    assert metrics.exact_match(targets, outputs) == match
    assert type(metrics.exact_match(targets, outputs)) is float


@pytest.mark.parametrize(
    ("targets", "outputs", "accuracy"),
    [
        (["123"], ["123"], 1.0),
        (["123"], [""], 0.0),
        # Too short and too long: the longer of both lengths counts.
        (["1234"], ["12"], 0.5),
        (["12"], ["1234"], 0.5),
        # One character too many at the start spoils every place behind it.
        (["123"], ["0123"], 0.0),
        (["-12"], ["12"], 0.0),
        # 3 + 0 equal places of 3 + 1.
        (["123", "4"], ["123", "5"], 0.75),
    ],
)
def test_free_token_accuracy(targets, outputs, accuracy):
    assert metrics.free_token_accuracy(targets, outputs) == accuracy


@given(PAIRS)
def test_free_running_metrics_agree_at_their_ends(pairs):
    targets, outputs = zip(*pairs, strict=True)
    exact = metrics.exact_match(targets, outputs)
    free = metrics.free_token_accuracy(targets, outputs)
    assert 0 <= exact <= 1
    assert 0 <= free <= 1
    assert (exact == 1) == (free == 1)
    assert metrics.free_token_accuracy(outputs, targets) == free
    assert metrics.exact_match(targets, targets) == 1


@pytest.mark.parametrize("metric", [metrics.exact_match, metrics.free_token_accuracy])
def test_as_many_outputs_as_targets(metric):
    with pytest.raises(ValueError, match="shorter"):
        metric(["1", "2"], ["1"])
