"""What answers cost: free-running against teacher-forced evaluation, the SavedModel, `execute`.

    python benchmarks/answering.py --workdir=runs/quickstart --json=FILE

Needs a finished training run: how long a free-running answer takes depends on when it ends. The two
evaluations go over the same 10,000 test examples and take turns.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import measuring

NUM_EXAMPLES = 10_000
ROWS = 512


def timed(function) -> float:
    """Seconds a call takes."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="folder of a finished training run")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each figure")
    arguments = parser.parse_args()
    workdir = Path(arguments.workdir)

    from keras_l2e import config as run_flags
    from keras_l2e import devices as runtime

    config = run_flags.read_finished(workdir)
    runtime.load_tensorflow(config.onednn)
    runtime.start(1)
    import tensorflow as tf

    from keras_l2e.data import pipeline as input_pipeline
    from keras_l2e.data import stored as prepared_data
    from keras_l2e.language import vocabulary
    from keras_l2e.language.tasks import TASKS, Difficulty
    from keras_l2e.networks import decoding, models

    target = Difficulty(config.target_length, config.target_nesting)
    texts, targets = prepared_data.read(
        config.task, target, "test", config.data_dir, config.examples_per_difficulty
    )
    texts, targets = texts[:NUM_EXAMPLES], targets[:NUM_EXAMPLES]
    model = models.load(workdir / "model.keras")
    max_steps = TASKS[config.task].longest(target)[1] + 1

    @tf.function(reduce_retracing=True)
    def teacher_forced(inputs):
        return tf.argmax(model(inputs), -1)

    @tf.function(reduce_retracing=True)
    def free_running(inputs):
        states = model.get_layer("encoder")(inputs["encoder_token_ids"])
        return decoding.greedy_decode(
            model, states, max_steps=max_steps, bos=vocabulary.BOS, eos=vocabulary.EOS
        )

    def evaluate(function) -> None:
        for start in range(0, len(texts), ROWS):
            batch = (tf.constant(column[start : start + ROWS]) for column in (texts, targets))
            inputs, *_ = input_pipeline.encode_examples(*batch, config.input_form, "character")
            function(inputs)

    network = tf.saved_model.load(str(workdir / "saved_model"))
    answer = network.signatures["serving_default"]
    one, many = (tf.constant([bytes(t) for t in texts[:n]]) for n in (1, 256))
    command = [sys.executable, "-m", "keras_l2e.execute", f"--model={workdir}", texts[0].decode()]
    tasks = {
        "teacher_forced": lambda: evaluate(teacher_forced),
        "free_running": lambda: evaluate(free_running),
        "saved_model_1": lambda: answer(program=one),
        "saved_model_256": lambda: answer(program=many),
        "execute": lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL),
    }
    seconds = {name: [] for name in tasks}
    for function in tasks.values():
        function()
    for _ in range(arguments.repeats):
        for name, function in tasks.items():
            seconds[name].append(timed(function))
    result = {name: measuring.summary(values) for name, values in seconds.items()}
    print(f"{'seconds':20} {'median':>10} {'min':>10} {'max':>10}")
    for name, figures in result.items():
        print(f"{name:20} {figures['median']:10.4f} {figures['min']:10.4f} {figures['max']:10.4f}")
    ratio = result["free_running"]["median"] / result["teacher_forced"]["median"]
    throughput = 256 / result["saved_model_256"]["median"]
    print(f"free-running / teacher-forced: {ratio:.2f}; SavedModel: {throughput:,.0f} programs/s")
    measuring.write(
        arguments.json,
        {
            "seconds": result,
            "ratio_free_running_to_teacher_forced": ratio,
            "saved_model_programs_per_second": throughput,
        },
    )


if __name__ == "__main__":
    main()
