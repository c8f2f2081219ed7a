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

    from keras_l2e import config as configs
    from keras_l2e import devices

    config = configs.read_finished(workdir)
    devices.load_tensorflow(config.onednn)
    devices.start(1)
    import tensorflow as tf

    from keras_l2e.data import pipeline, stored
    from keras_l2e.language import forms, vocabulary
    from keras_l2e.networks import decoding, models

    examples = stored.read(
        config.task, config.target, "test", config.data_dir, config.examples_per_difficulty
    )
    texts = examples.program[:NUM_EXAMPLES]
    written = forms.write_all(examples, config.target_form)[:NUM_EXAMPLES]
    model = models.load(workdir / "model.keras")

    @tf.function(reduce_retracing=True)
    def teacher_forced(inputs):
        return tf.argmax(model(inputs), -1)

    @tf.function(reduce_retracing=True)
    def free_running(inputs):
        return decoding.greedy_decode(
            model.get_layer("decoder"),
            model.get_layer("encoder")(inputs["encoder_token_ids"]),
            max_steps=config.interface.longest_written + 1,
            bos=vocabulary.BOS,
            eos=vocabulary.EOS,
        )

    def evaluate(function) -> None:
        for start in range(0, len(texts), ROWS):
            batch = (tf.constant(column[start : start + ROWS]) for column in (texts, written))
            inputs, *_ = pipeline.encode_examples(*batch, config.input_form, "character")
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
