"""Serving: 10,000 requests of mixed sizes to a SavedModel in a process that has TensorFlow only.

    python benchmarks/serving.py --workdir=runs/quickstart --json=FILE

The process that answers can import neither keras_l2e nor Keras. Its memory is read all along, and
its answers are compared with those of `decoding`. Without --workdir the network has random weights.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measuring

SIZES = (1, 1, 1, 2, 3, 8, 32, 100)
NUM_PROGRAMS = 5_000
# What the allocator may take once the first fifth of the requests has been answered.
GROWTH_ALLOWED_MIB = 16


def serve(model_dir: str) -> None:
    """Answers requests, a line of JSON each, on standard output; all that runs in that process.

    The first line of standard input is the list of programs; each further one a list of their
    numbers. An answer is "output" and "probability", as lists, and "memory" in MiB.
    """
    sys.modules["keras_l2e"] = sys.modules["keras"] = None
    import tensorflow as tf

    answer = tf.saved_model.load(model_dir).signatures["serving_default"]
    programs = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        results = answer(program=tf.constant([programs[i] for i in json.loads(line)], tf.string))
        output = [text.decode() for text in results["output"].numpy()]
        probability = results["probability"].numpy().tolist()
        memory = measuring.memory_mib()
        print(json.dumps({"output": output, "probability": probability, "memory": memory}))
        sys.stdout.flush()


def draw_programs(task: str, difficulties, count: int) -> list[str]:
    """Programs of the trained difficulties, one in ten with a character no network knows."""
    from keras_l2e.language.tasks import TASKS

    rng = random.Random("serving")
    programs = []
    for i in range(count):
        program = TASKS[task].generate(rng, rng.choice(difficulties)).program
        programs.append(program + "\u00e9" if i % 10 == 9 else program)
    return programs


def draw_requests(count: int, num_programs: int) -> list[list[int]]:
    """The numbers of the programs in each request."""
    rng = random.Random("requests")
    return [[rng.randrange(num_programs) for _ in range(rng.choice(SIZES))] for _ in range(count)]


def ask(model_dir: Path, programs: list[str], requests: list[list[int]]) -> dict:
    """Sends requests one after another to a process of its own.

    Returns:
        "answers": a list of (output, probability) for each request; "seconds" of each; "memory" of
        the process after each, in MiB.
    """
    command = [sys.executable, __file__, f"--serve={model_dir}"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    found = {"answers": [], "seconds": [], "memory": []}
    with subprocess.Popen(command, **pipes) as process:
        print(json.dumps(programs), file=process.stdin, flush=True)
        for request in requests:
            started = time.perf_counter()
            print(json.dumps(request), file=process.stdin, flush=True)
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the serving process ended at {request}")
            answer = json.loads(line)
            found["seconds"].append(time.perf_counter() - started)
            found["answers"].append(list(zip(answer["output"], answer["probability"], strict=True)))
            found["memory"].append(answer["memory"])
        process.stdin.close()
    return found


def decode(model, config, programs: list[str]) -> list[tuple[str, float]]:
    """Outputs and their probabilities as `decoding` gives them; "" and 0 for unknown characters."""
    import tensorflow as tf

    from keras_l2e.language import vocabulary
    from keras_l2e.networks import decoding, text

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def answer(texts):
        ids, logits = decoding.greedy_decode(
            model.get_layer("decoder"),
            model.get_layer("encoder")(text.encode_programs(texts, config.input_form)),
            max_steps=config.interface.longest_written + 1,
            bos=vocabulary.BOS,
            eos=vocabulary.EOS,
        )
        picked = tf.gather(tf.nn.softmax(logits), ids, batch_dims=2)
        ended = tf.reduce_any(ids == vocabulary.EOS, axis=1)
        product = tf.reduce_prod(tf.where(ids == vocabulary.PAD, 1.0, picked), axis=1)
        return text.decode(ids), tf.where(ended, product, 0.0)

    known = [i for i, program in enumerate(programs) if program.isascii()]
    answers = [("", 0.0)] * len(programs)
    for start in range(0, len(known), 500):
        part = known[start : start + 500]
        outputs, probabilities = answer(tf.constant([programs[i] for i in part]))
        for i, output, probability in zip(
            part, outputs.numpy(), probabilities.numpy().tolist(), strict=True
        ):
            answers[i] = (output.decode(), probability)
    return answers


def compare(
    requests: list[list[int]],
    answers: list[list[tuple[str, float]]],
    expected: list[tuple[str, float]],
) -> tuple[int, float]:
    """How many outputs differ from the expected ones, and by how much a probability at most."""
    num_different, largest = 0, 0.0
    for request, rows in zip(requests, answers, strict=True):
        for i, (output, probability) in zip(request, rows, strict=True):
            num_different += output != expected[i][0]
            largest = max(largest, abs(probability - expected[i][1]))
    return num_different, largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", help="folder of a finished training run")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--requests", type=int, default=10_000, help="number of requests")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve)
        return

    from keras_l2e import config as configs
    from keras_l2e import devices

    devices.load_tensorflow(devices.default_onednn())
    from bad_input import NETWORK, export_network

    from keras_l2e.networks import models

    with tempfile.TemporaryDirectory() as folder:
        if arguments.workdir:
            workdir = Path(arguments.workdir)
            config, model_dir = configs.read_finished(workdir), workdir / "saved_model"
            model = models.load(workdir / "model.keras")
        else:
            config, model_dir = NETWORK, Path(folder) / "saved_model"
            model = export_network(model_dir)
        programs = draw_programs(config.task, config.levels, NUM_PROGRAMS)
        requests = draw_requests(arguments.requests, len(programs))
        found = ask(model_dir, programs, requests)
    num_different, largest = compare(requests, found["answers"], decode(model, config, programs))
    warm = len(requests) // 5
    before, after = found["memory"][warm], found["memory"][-1]
    num_rows = sum(map(len, requests))
    seconds = sorted(found["seconds"][warm:])
    middle, late = (1e3 * seconds[int(share * len(seconds))] for share in (0.5, 0.99))
    print(f"{len(requests):,} requests, {num_rows:,} programs in {sum(found['seconds']):.0f} s")
    print(f"milliseconds a request: median {middle:.2f}, 99th percentile {late:.2f}")
    print(f"memory, MiB: {before:.1f} after a fifth, {after:.1f} at the end")
    print(f"unlike decoding: {num_different} outputs; probabilities by {largest:.1e} at most")
    measuring.write(
        arguments.json,
        {
            "requests": len(requests),
            "programs": num_rows,
            "seconds": sum(found["seconds"]),
            "milliseconds_a_request_median": middle,
            "milliseconds_a_request_99th_percentile": late,
            "memory_mib": [*found["memory"][:: max(1, len(requests) // 100)], after],
            "different_outputs": num_different,
            "largest_difference_in_probability": largest,
        },
    )
    sys.exit(num_different > 0 or largest > 1e-5 or after - before > GROWTH_ALLOWED_MIB)


if __name__ == "__main__":
    main()
