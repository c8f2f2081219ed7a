"""What work costs to write: seconds for 256 programs at once, by the number of characters.

    python benchmarks/writing.py --json=FILE

The network `programs`, kept from ending its texts, writes each of the lengths in turns.
"""

import argparse
import time

import measuring

ROWS = 256
LENGTHS = (75, 150, 300, 600)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each length")
    arguments = parser.parse_args()

    from keras_l2e import api, devices

    devices.load_tensorflow(devices.default_onednn())
    devices.start(1, threads_per_replica=devices.num_cores())
    import tensorflow as tf

    from keras_l2e.language import vocabulary
    from keras_l2e.networks import decoding

    model = api.TrainedNetwork(api.find("programs")).model
    bias = next(weight for weight in model.weights if weight.path.endswith("logits/bias"))
    never = [-1e9 * (i == vocabulary.EOS) for i in range(vocabulary.SIZE)]
    bias.assign_add(never)
    text = vocabulary.encode("e=58308\nfor x in range(12):e+=(65807-123)\nprint(e)")
    read = tf.constant([[*text, vocabulary.EOS]] * ROWS)

    @tf.function
    def write(num_characters):
        return decoding.greedy_decode(
            model.get_layer("decoder"),
            model.get_layer("encoder")(read),
            max_steps=num_characters,
            bos=vocabulary.BOS,
            eos=vocabulary.EOS,
        )[0]

    seconds = {length: [] for length in LENGTHS}
    for length in LENGTHS:
        assert write(length).shape == (ROWS, length)
    for _ in range(arguments.repeats):
        for length, found in seconds.items():
            started = time.perf_counter()
            write(length)
            found.append(time.perf_counter() - started)
    result = {length: measuring.summary(found) for length, found in seconds.items()}
    print(f"{'characters':>10} {'median':>8} {'min':>8} {'max':>8} {'ms each':>8}")
    for length, x in result.items():
        numbers = f"{x['median']:8.2f} {x['min']:8.2f} {x['max']:8.2f}"
        print(f"{length:10} {numbers} {1000 * x['median'] / length:8.2f}")
    measuring.write(arguments.json, {"rows": ROWS, "seconds": result})


if __name__ == "__main__":
    main()
