"""Whatever comes from outside: the checks of benchmarks/bad_input.py on fewer inputs."""

import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_l2e.language.tasks import TASKS

# Seconds: far more than any input takes, so that other work on the machine cannot matter.
HANGS_AFTER = 30


@pytest.fixture(scope="module")
def bad_input(benchmark):
    return benchmark("bad_input")


@pytest.fixture(scope="module")
def network(bad_input, random_network):
    """The check of a network's signature, its first and slow call done."""
    network = bad_input.Signature(random_network[1])
    network.answers([b"print(1)"])
    return network


def draw_readable(bad_input, rng):
    """A program of the network's own class."""
    config = bad_input.NETWORK
    return TASKS[config.task].generate(rng, rng.choice(config.levels)).program.encode()


@pytest.fixture(scope="module")
def signature(bad_input, network):
    """The check of the signature, half on readable texts; else nearly all would be refused."""

    def check(rng):
        with pytest.MonkeyPatch.context() as patch:
            if rng.randrange(2):
                patch.setattr(bad_input, "draw_bytes", lambda rng: draw_readable(bad_input, rng))
            return network(rng)

    return check


@pytest.fixture(scope="module")
def in_time():
    """Runs a check, which must not hang; how fast it is `benchmarks/bad_input.py` measures."""

    def run(check, rng):
        started = time.thread_time()  # Of this thread: TensorFlow has others.
        check(rng)
        assert time.thread_time() - started < HANGS_AFTER

    return run


# Hypothesis makes every draw, so it can shorten an input that breaks something.
anything = given(st.randoms(use_true_random=False))
limits = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@limits
@anything
def test_interpreter(bad_input, in_time, rng):
    in_time(bad_input.check_interpreter, rng)


@limits
@anything
def test_vocabulary(bad_input, in_time, rng):
    in_time(bad_input.check_vocabulary, rng)


@limits
@anything
def test_flags(bad_input, in_time, rng):
    in_time(bad_input.check_flags, rng)


@limits
@anything
def test_signature(signature, in_time, rng):
    in_time(signature, rng)


@pytest.mark.parametrize(
    ("name", "fewest"), [("interpreter", 5), ("vocabulary", 5), ("flags", 5), ("signature", 50)]
)
def test_some_inputs_are_good_and_some_are_bad(bad_input, request, name, fewest):
    """Else nothing would be tested but one of the two."""
    own = name == "signature"
    check = request.getfixturevalue(name) if own else getattr(bad_input, f"check_{name}")
    accepted = sum(check(random.Random(f"{name}/{i}")) for i in range(200))
    assert fewest < accepted < 195


def test_the_network_s_answers_are_not_all_alike(bad_input, network):
    """Else they would be the same in every batch anyway."""
    programs = [draw_readable(bad_input, random.Random(i)) for i in range(200)]
    assert len(set(network.answers(programs))) > 10


def test_a_failure_is_named(bad_input):
    def check(rng):
        assert rng.random() < 2
        raise KeyError("k")

    found = bad_input.examine("place", check, range(7, 9))
    assert found["failures"] == ["input 7: KeyError: 'k'", "input 8: KeyError: 'k'"]
