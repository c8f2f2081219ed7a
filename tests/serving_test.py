"""The SavedModel in a process with TensorFlow only: benchmarks/serving.py on fewer requests."""

import pytest
import tensorflow as tf

from keras_l2e.language.tasks import Difficulty, grid


@pytest.fixture(scope="module")
def network(benchmark, tmp_path_factory):
    """A model with random weights and the folder of its SavedModel."""
    folder = tmp_path_factory.mktemp("network") / "saved_model"
    return benchmark("bad_input").export_network(folder), folder


def test_requests_are_answered_as_decoding_does_and_keep_no_memory(benchmark, network):
    serving, config = benchmark("serving"), benchmark("bad_input").NETWORK
    model, folder = network
    programs = serving.draw_programs(config.task, grid(Difficulty(3, 3)), 200)
    requests = [[], *serving.draw_requests(300, len(programs))]
    found = serving.ask(folder, programs, requests)
    expected = serving.decode(model, config, programs)
    num_different, largest = serving.compare(requests, found["answers"], expected)
    assert num_different == 0
    assert largest < 1e-5
    assert len(set(expected)) > 10
    assert sum(map(len, found["answers"])) == sum(map(len, requests))
    assert found["memory"][-1] - found["memory"][60] < serving.GROWTH_ALLOWED_MIB


def test_differences_are_counted(benchmark):
    answers = [[("1", 0.5), ("2", 0.25)], [("1", 0.5)]]
    compare = benchmark("serving").compare
    assert compare([[0, 1], [0]], answers, [("1", 0.5), ("2", 0.25)]) == (0, 0.0)
    assert compare([[0, 1], [0]], answers, [("3", 0.5), ("2", 0.5)]) == (2, 0.25)


def test_names_of_outputs_are_text_to_tensorflow_serving(network):
    """It encodes as base64 whatever ends with _bytes; and it reads rows only by the batch."""
    served = tf.saved_model.load(str(network[1])).signatures["serving_default"]
    assert set(served.structured_outputs) == {"output", "probability"}
    assert set(served.structured_input_signature[1]) == {"program"}
    specs = [*served.structured_outputs.values(), *served.structured_input_signature[1].values()]
    assert all(spec.shape.as_list() == [None] for spec in specs)
