"""The SavedModel in a process with TensorFlow only: benchmarks/serving.py on fewer requests."""


def test_requests_are_answered_as_decoding_does_and_keep_no_memory(benchmark, random_network):
    serving, config = benchmark("serving"), benchmark("bad_input").NETWORK
    model, folder = random_network
    programs = serving.draw_programs(config.task, config.levels, 200)
    requests = [[], *serving.draw_requests(200, len(programs))]
    found = serving.ask(folder, programs, requests)
    expected = serving.decode(model, config, programs)
    num_different, largest = serving.compare(requests, found["answers"], expected)
    assert num_different == 0
    assert largest < 1e-5
    assert len(set(expected)) > 10
    assert sum(map(len, found["answers"])) == sum(map(len, requests))
    assert found["memory"][-1] - found["memory"][60] < serving.GROWTH_ALLOWED_MIB
