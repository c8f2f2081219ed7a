"""What an optimizer's update costs in a training step at 1 x 256: sgd, adam, muon side by side.

    python benchmarks/optimizer_step.py --json=FILE

The same batch and network under the same strategy in one process; the optimizers take turns. Stock
`keras.optimizers.Muon`, in which every replica orthogonalizes every kernel, is timed beside ours.
"""

import argparse
import time

import measuring
import numpy as np

CELLS, EMBEDDING_DIM, ROWS, READ, WRITTEN = 256, 64, 128, 20, 10
BURST = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--repeats", type=int, default=7, help="bursts of each optimizer")
    arguments = parser.parse_args()

    from keras_l2e import devices

    devices.load_tensorflow(devices.default_onednn())
    strategy = devices.start(devices.default_num_replicas(), 1)
    import keras
    import tensorflow as tf

    from keras_l2e.config import Config
    from keras_l2e.data import pipeline
    from keras_l2e.language import vocabulary
    from keras_l2e.networks import OPTIMIZERS, models, optimizers
    from keras_l2e.training.run import STEPS_PER_EXECUTION

    makers = {
        **{
            name: lambda name=name: optimizers.make(name, 1e-3, clip_norm=1.0)
            for name in OPTIMIZERS
        },
        "keras_muon": lambda: keras.optimizers.Muon(1e-3, exclude_layers=["logits"]),
    }
    rng = np.random.default_rng(0)
    read, written = (rng.integers(1, 41, size=(ROWS, n)).astype(np.int32) for n in (READ, WRITTEN))
    weights = np.full(written.shape, 1 / written.size, np.float32)
    example = {"encoder_token_ids": read, "decoder_token_ids": written}, written, weights

    def run(model, num_steps: int) -> float:
        repeated = tf.data.Dataset.from_tensors(example).repeat(num_steps)
        dataset = pipeline.distribute(lambda: repeated, strategy)
        started = time.perf_counter()
        model.fit(dataset, verbose=0, shuffle=False)
        return time.perf_counter() - started

    config = Config(hidden_dim=CELLS, num_layers=1, embedding_dim=EMBEDDING_DIM)
    networks = {}
    for name, make in makers.items():
        with strategy.scope():
            model = models.build("lstm", vocabulary.SIZE, config)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum")
            model.compile(make(), loss, steps_per_execution=STEPS_PER_EXECUTION)
        run(model, 3)
        run(model, 1)
        networks[name] = model
    steps = {name: [] for name in networks}
    for _ in range(arguments.repeats):
        for name, model in networks.items():
            call = run(model, 1)
            steps[name].append((run(model, 1 + BURST) - call) / BURST)
    result = {name: measuring.summary(seconds) for name, seconds in steps.items()}
    sgd = result["sgd"]["median"]
    print(f"{'optimizer':12} {'ms a step: median':>18} {'min':>8} {'max':>8} {'beyond sgd':>11}")
    for name, seconds in result.items():
        more = seconds["median"] / sgd - 1
        print(
            f"{name:12} {1e3 * seconds['median']:18.1f} {1e3 * seconds['min']:8.1f} "
            f"{1e3 * seconds['max']:8.1f} {more:11.0%}"
        )
    measuring.write(arguments.json, {"step_seconds": result})


if __name__ == "__main__":
    main()
