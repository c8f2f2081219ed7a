"""Whatever comes from outside: the checks of benchmarks/bad_input.py on fewer inputs."""

import random
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def bad_input(benchmark):
    return benchmark("bad_input")


@pytest.fixture(scope="module")
def signature(bad_input, tmp_path_factory):
    """The check of a network's signature, its first and slow call done."""
    folder = tmp_path_factory.mktemp("network")
    bad_input.export_network(folder / "saved_model")
    signature = bad_input.Signature(folder / "saved_model")
    signature.answers([b"print(1)"])
    return signature


# Hypothesis makes every draw, so it can shorten an input that breaks something. A second each.
anything = given(st.randoms(use_true_random=False))
limits = settings(
    max_examples=400,
    deadline=timedelta(seconds=1),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@limits
@anything
def test_interpreter(bad_input, rng):
    bad_input.check_interpreter(rng)


@limits
@anything
def test_vocabulary(bad_input, rng):
    bad_input.check_vocabulary(rng)


@limits
@anything
def test_flags(bad_input, rng):
    bad_input.check_flags(rng)


@limits
@anything
def test_signature(signature, rng):
    signature(rng)


def test_some_inputs_are_good(bad_input, signature):
    """Else nothing would be tested but refusals."""
    checks = {
        "interpreter": bad_input.check_interpreter,
        "vocabulary": bad_input.check_vocabulary,
        "flags": bad_input.check_flags,
        "signature": signature,
    }
    for name, check in checks.items():
        accepted = sum(check(random.Random(f"{name}/{i}")) for i in range(200))
        assert 5 < accepted < 195, name
    # Answers that are all alike would be the same in every batch.
    programs = [bad_input.draw_program(random.Random(i)).encode() for i in range(200)]
    assert len(set(signature.answers(programs))) > 10


def test_a_failure_is_named(bad_input):
    def check(rng):
        assert rng.random() < 2
        raise KeyError("k")

    found = bad_input.examine("place", check, range(7, 9))
    assert found["failures"] == ["input 7: KeyError: 'k'", "input 8: KeyError: 'k'"]
