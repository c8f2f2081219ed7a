"""Compares a training step of this package with stock Keras and with PyTorch.

    python benchmarks/training_step.py --json=FILE

The same encoder-decoder, batch, loss, clipping and plain SGD everywhere: examples of the package's
own tasks, all of one length, so that no padding is computed on any side. Each side in a process of
its own with the thread settings that suit it (ours: replicas of one thread each, as in train.py;
stock Keras: TensorFlow's defaults, no strategy; PyTorch: one thread, and all cores). They take
turns, a burst of steps each, so that a change of the machine's speed meets all of them. Keras runs
in `fit`; what a call of `fit` costs beside its steps is shown apart. Networks of other models than
`lstm` are compared with PyTorch only, and write their work where a task has any.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from typing import NamedTuple

import measuring
import numpy as np

from keras_l2e import devices
from keras_l2e.config import Config
from keras_l2e.language import vocabulary
from keras_l2e.language.forms import TARGET_FORMS
from keras_l2e.language.tasks import TASKS, Difficulty


class Network(NamedTuple):
    """What is trained, on what, and how many steps a burst has."""

    layer_count: int
    cells: int
    embedding_dim: int
    tied: bool
    task: str
    difficulty: Difficulty
    rows: int
    read: int  # Steps, EOS included.
    written: int
    burst: int
    model: str = "lstm"
    num_heads: int = 0  # Of the other models.

    @property
    def target_form(self) -> str:
        has_work = TASKS[self.task].steps is not None
        return "reversed_trace" if has_work and self.model != "lstm" else "answer"


NETWORKS = {
    "2x400": Network(2, 400, 400, True, "program", Difficulty(6, 2), 100, 42, 8, 16),
    "1x128": Network(1, 128, 64, False, "addition", Difficulty(10), 128, 29, 11, 48),
    "1x256": Network(1, 256, 64, False, "program", Difficulty(4, 1), 128, 24, 6, 32),
    "attention": Network(
        1, 192, 64, False, "program", Difficulty(5, 2), 64, 44, 49, 16, "attention", 4
    ),
    # Those of the figure `models`.
    "transformer": Network(
        4, 64, 64, False, "program", Difficulty(4, 2), 64, 42, 41, 16, "transformer", 4
    ),
    "transformer_double": Network(
        4, 64, 64, False, "double", Difficulty(40), 64, 41, 81, 16, "transformer", 4
    ),
    "universal": Network(
        4, 128, 128, False, "program", Difficulty(4, 2), 64, 42, 41, 16, "universal_transformer", 4
    ),
    "universal_double": Network(
        4, 128, 128, False, "double", Difficulty(40), 64, 41, 81, 16, "universal_transformer", 4
    ),
}
SIDES = ("ours", "keras", "torch_1", "torch_2")
CLIP_NORM = 1.0
LEARNING_RATE = 1e-3


def draw_batch(network: Network) -> dict[str, list[list[int]]]:
    """Ids to read, to write from (BOS first) and to write (EOS last), of drawn examples."""
    rng = random.Random(0)
    batch = {"read": [], "given": [], "written": []}
    while len(batch["read"]) < network.rows:
        example = TASKS[network.task].generate(rng, network.difficulty)
        text = TARGET_FORMS[network.target_form].write(example)
        read, written = vocabulary.encode(example.program), vocabulary.encode(text)
        if (len(read), len(written)) == (network.read - 1, network.written - 1):
            batch["read"].append([*read, vocabulary.EOS])
            batch["given"].append([vocabulary.BOS, *written])
            batch["written"].append([*written, vocabulary.EOS])
    return batch


def keras_side(network: Network, batch: dict[str, np.ndarray], ours: bool):
    """A function that makes a number of steps in `fit`."""

    devices.load_tensorflow(devices.default_onednn() if ours else "")
    strategy = devices.start(devices.default_num_replicas(), 1) if ours else None
    import contextlib

    import keras
    import tensorflow as tf

    from keras_l2e.data import pipeline
    from keras_l2e.networks import models, optimizers
    from keras_l2e.networks.lstm import LSTM
    from keras_l2e.training.run import STEPS_PER_EXECUTION

    with strategy.scope() if ours else contextlib.nullcontext():
        if ours:
            config = Config(
                hidden_dim=network.cells,
                num_layers=network.layer_count,
                embedding_dim=network.embedding_dim,
                tie_encoder_decoder=network.tied,
                num_heads=network.num_heads or 1,
            )
            model = models.build(network.model, vocabulary.SIZE, config)
            optimizer = optimizers.SGD(LEARNING_RATE, clip_norm=CLIP_NORM)
        else:
            model = stock_model(network)
            optimizer = keras.optimizers.SGD(LEARNING_RATE, global_clipnorm=CLIP_NORM)
        model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
            steps_per_execution=STEPS_PER_EXECUTION,
        )
    own_layers = any(isinstance(x, LSTM) for x in model.get_layer("encoder").layers)
    assert own_layers == (ours and "transformer" not in network.model)
    written = batch["written"]
    inputs = {"encoder_token_ids": batch["read"], "decoder_token_ids": batch["given"]}
    example = inputs, written, np.full(written.shape, 1 / written.size, np.float32)
    options = tf.data.Options()
    options.autotune.enabled = False

    def run(num_steps: int) -> None:
        repeated = tf.data.Dataset.from_tensors(example).repeat(num_steps).with_options(options)
        dataset = pipeline.distribute(lambda: repeated, strategy) if ours else repeated
        model.fit(dataset, verbose=0, shuffle=False)

    return run


def stock_model(network: Network):
    """The same network from stock layers."""
    import keras

    def stack():
        return [
            keras.layers.LSTM(network.cells, return_sequences=True, return_state=True)
            for _ in range(network.layer_count)
        ]

    embedding = keras.layers.Embedding(vocabulary.SIZE, network.embedding_dim, mask_zero=True)
    reader = stack()
    writer = reader if network.tied else stack()
    read = keras.Input([None], dtype="int32", name="encoder_token_ids")
    x, states = embedding(read), []
    for layer in reader:
        x, *state = layer(x)
        states.append(state)
    encoder = keras.Model(read, states, name="encoder")
    written = keras.Input([None], dtype="int32", name="decoder_token_ids")
    x = embedding(written)
    for layer, state in zip(writer, encoder(read), strict=True):
        x, *_ = layer(x, initial_state=state)
    logits = keras.layers.Dense(vocabulary.SIZE)(x)
    return keras.Model({"encoder_token_ids": read, "decoder_token_ids": written}, logits)


def torch_side(network: Network, batch: dict[str, np.ndarray], num_threads: int):
    """A function that makes a number of steps."""
    import torch
    from torch import nn

    torch.set_num_threads(num_threads)
    read, given, written = (
        torch.from_numpy(batch[name].astype(np.int64)) for name in ("read", "given", "written")
    )

    model = TORCH[network.model](network)
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, LEARNING_RATE)

    def run(num_steps: int) -> None:
        for _ in range(num_steps):
            optimizer.zero_grad()
            logits = model(read, given)
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), written.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
            optimizer.step()

    return run


def torch_lstm(network: Network):
    """The model lstm as a PyTorch module: ids to read and to write from -> logits."""
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(vocabulary.SIZE, network.embedding_dim)
            self.reader = self.stack()
            self.writer = self.reader if network.tied else self.stack()
            self.logits = nn.Linear(network.cells, vocabulary.SIZE)

        def stack(self):
            sizes = network.embedding_dim, network.cells, network.layer_count
            return nn.LSTM(*sizes, batch_first=True)

        def forward(self, read, given):
            _, states = self.reader(self.embedding(read))
            outputs, _ = self.writer(self.embedding(given), states)
            return self.logits(outputs)

    return Model()


def torch_attention(network: Network):
    """The model attention as a PyTorch module; no text is padded, so nothing is masked."""
    import torch
    from torch import nn

    cells, heads = network.cells, network.num_heads

    def attend(queries, keys, values, causal: bool):
        parts = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries, keys, values))
        found = nn.functional.scaled_dot_product_attention(*parts, is_causal=causal)
        return found.transpose(1, 2).flatten(-2)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(vocabulary.SIZE, network.embedding_dim)
            sizes = network.embedding_dim, cells // 2
            self.reader = nn.LSTM(*sizes, batch_first=True, bidirectional=True)
            self.first = nn.LSTM(network.embedding_dim, cells, batch_first=True)
            self.second = nn.LSTM(cells, cells, batch_first=True)
            self.tell = nn.Linear(cells, 2 * cells, bias=False)
            self.ask = nn.Linear(cells, 4 * cells, bias=False)
            self.mix = nn.Linear(2 * cells, cells, bias=False)
            self.logits = nn.Linear(2 * cells, vocabulary.SIZE)

        def forward(self, read, given):
            outputs, states = self.reader(self.embedding(read))
            # [2 directions, n, cells / 2] -> [1, n, cells]
            joined = tuple(x.transpose(0, 1).flatten(1)[None] for x in states)
            h, _ = self.first(self.embedding(given), joined)
            query, *past = self.ask(h).chunk(4, dim=-1)
            found = attend(query, *self.tell(outputs).chunk(2, dim=-1), causal=False)
            recalled = attend(*past, causal=True)
            u = h + self.mix(torch.cat([found, recalled], dim=-1))
            x, _ = self.second(u)
            return self.logits(torch.cat([x, u], dim=-1))

    return Model()


def torch_transformer(network: Network):
    """Both Transformers as PyTorch modules, of its own blocks; nothing is padded or masked."""
    import math

    import torch
    from torch import nn

    width, again = network.cells, network.model == "universal_transformer"
    depth = network.layer_count
    settings = {"dim_feedforward": 4 * width, "dropout": 0.0, "batch_first": True}

    def waves(numbers):
        rates = torch.exp(torch.arange(width // 2) * (-math.log(10_000) / (width // 2 - 1)))
        angles = numbers[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(vocabulary.SIZE, width)
            self.reader = self.blocks(nn.TransformerEncoderLayer)
            self.writer = self.blocks(nn.TransformerDecoderLayer)
            self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
            self.logits = nn.Linear(width, vocabulary.SIZE)

        def blocks(self, kind):
            return nn.ModuleList(
                kind(width, network.num_heads, norm_first=True, **settings)
                for _ in range(1 if again else depth)
            )

        def through(self, blocks, ids, *others, **masks):
            x, places = self.embedding(ids) * width**0.5, waves(torch.arange(ids.shape[1]))
            x = x if again else x + places
            for step in range(depth):
                told = x + places + waves(torch.tensor([step])) if again else x
                x = blocks[0 if again else step](told, *others, **masks)
            return x

        def forward(self, read, given):
            memory = self.norms[0](self.through(self.reader, read))
            mask = nn.Transformer.generate_square_subsequent_mask(given.shape[1])
            x = self.through(self.writer, given, memory, tgt_mask=mask, tgt_is_causal=True)
            return self.logits(self.norms[1](x))

    return Model()


TORCH = {
    "lstm": torch_lstm,
    "attention": torch_attention,
    "transformer": torch_transformer,
    "universal_transformer": torch_transformer,
}


def serve(side: str, name: str) -> None:
    """A side's process: reads the batch, then makes a burst for each line on standard input.

    It answers each with its two times.
    """
    network = NETWORKS[name]
    batch = {key: np.array(ids, np.int32) for key, ids in json.loads(input()).items()}
    if side.startswith("torch"):
        cores = devices.num_cores()
        run = torch_side(network, batch, 1 if side == "torch_1" else cores)
    else:
        run = keras_side(network, batch, side == "ours")
    run(3)
    run(1)
    burst = network.burst
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        run(1)
        middle = time.perf_counter()
        run(1 + burst)
        ended = time.perf_counter()
        one = middle - started
        step = (ended - middle - one) / burst
        print(json.dumps([step, one - step]), flush=True)


def measure(network: str, sides: list[str], repeats: int) -> dict[str, dict]:
    """Seconds a step, and a call's cost beside its steps, of each side; they take turns."""
    processes = {}
    batch = json.dumps(draw_batch(NETWORKS[network]))
    for side in sides:
        command = [sys.executable, __file__, f"--side={side}", f"--network={network}"]
        processes[side] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        print(batch, file=processes[side].stdin, flush=True)
    steps = {side: [] for side in sides}
    calls = {side: [] for side in sides}
    for process in processes.values():
        if process.stdout.readline() != "ready\n":
            sys.exit(1)
    for _ in range(repeats):
        for side, process in processes.items():
            print(file=process.stdin, flush=True)
            step, call = json.loads(process.stdout.readline())
            steps[side].append(step)
            calls[side].append(call)
    for process in processes.values():
        process.stdin.close()
        process.wait()
    return {
        side: {
            "step_seconds": measuring.summary(steps[side]),
            "call_seconds": measuring.summary(calls[side]),
        }
        for side in sides
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--repeats", type=int, default=5, help="bursts of each side")
    parser.add_argument("--network", choices=NETWORKS, nargs="+", help="only these networks")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        return serve(arguments.side, *arguments.network)
    has_torch = measuring.environment()["versions"]["torch"]
    if not has_torch:
        print("PyTorch is not installed: compared with Keras only", file=sys.stderr)
    result = {"networks": {}}
    titles = f"{'ms a step: median':>18} {'min':>8} {'max':>8} {'peer/ours':>10}"
    print(f"{'network':11} {'side':8} {titles}")
    for network in arguments.network or NETWORKS:
        sides = [side for side in SIDES if has_torch or not side.startswith("torch")]
        if NETWORKS[network].model != "lstm":
            sides.remove("keras")
        figures = measure(network, sides, arguments.repeats)
        result["networks"][network] = figures
        medians = {side: figures[side]["step_seconds"]["median"] for side in sides}
        for side in sides:
            seconds = figures[side]["step_seconds"]
            print(
                f"{network:11} {side:8} {1e3 * seconds['median']:18.1f} "
                f"{1e3 * seconds['min']:8.1f} "
                f"{1e3 * seconds['max']:8.1f} {medians[side] / medians['ours']:10.2f}"
            )
        if "keras" in medians:
            result[f"ratio_to_keras_{network}"] = medians["keras"] / medians["ours"]
        if has_torch:
            best = min(medians["torch_1"], medians["torch_2"])
            result[f"ratio_to_torch_{network}"] = best / medians["ours"]
    measuring.write(arguments.json, result)


if __name__ == "__main__":
    main()
