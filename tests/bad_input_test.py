"""Whatever comes from outside: the checks of benchmarks/bad_input.py on fewer inputs."""

import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keras_l2e.language.tasks import TASKS

# Seconds: far more than any input takes, so that other work on the machine cannot matter.
HANGS_AFTER = 30
# Of 200 inputs to each place.
FEWEST_GOOD = {"interpreter": 5, "vocabulary": 5, "flags": 5, "signature": 50}


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
def checks(bad_input, network):
    """The checks, by the names of their places.

    That of the signature on readable texts, half of the time; else nearly all would be refused.
    """

    def check_signature(rng):
        with pytest.MonkeyPatch.context() as patch:
            if rng.randrange(2):
                patch.setattr(bad_input, "draw_bytes", lambda rng: draw_readable(bad_input, rng))
            return network(rng)

    others = ("interpreter", "vocabulary", "flags")
    return {
        "signature": check_signature,
        **{name: getattr(bad_input, f"check_{name}") for name in others},
    }


@pytest.mark.parametrize("name", FEWEST_GOOD)
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# Hypothesis makes every draw, so it can shorten an input that breaks something.
@given(rng=st.randoms(use_true_random=False))
def test_whatever_comes_is_answered_or_refused(checks, name, rng):
    """Without hanging; how fast it is `benchmarks/bad_input.py` measures."""
    started = time.thread_time()  # Of this thread: TensorFlow has others.
    checks[name](rng)
    assert time.thread_time() - started < HANGS_AFTER


@pytest.mark.parametrize(("name", "fewest"), FEWEST_GOOD.items())
def test_some_inputs_are_good_and_some_are_bad(checks, name, fewest):
    """Else nothing would be tested but one of the two."""
    accepted = sum(checks[name](random.Random(f"{name}/{i}")) for i in range(200))
    assert fewest < accepted < 195


def test_the_network_s_answers_are_not_all_alike(bad_input, network):
    """Else they would be the same in every batch anyway."""
    programs = [draw_readable(bad_input, random.Random(i)) for i in range(200)]
    assert len(set(network.answers(programs))) > 10
