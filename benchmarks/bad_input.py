"""Bad input: 100,000 random and mutated ones at every place that takes text from outside.

    python benchmarks/bad_input.py --json=FILE

Four places take turns: the interpreter, the vocabulary, the flags of a training run and the
SavedModel's signature. Whatever comes, each answers or raises what it documents, within a second
and without keeping memory; a row's answer is the same in every batch. Input i of a place is drawn
from a seed of its own, so a failure is named by its number and can be repeated:

    python benchmarks/bad_input.py --place=flags --first=1234 --inputs=1
"""

import argparse
import contextlib
import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import measuring

from keras_l2e.config import Config, Run

SECONDS_ALLOWED = 1.0
# Of a process that reads 25,000 inputs more, beside what the allocator may keep.
GROWTH_ALLOWED_MIB = 32
PROBABILITY_TOLERANCE = 1e-5
LARGEST_BATCH = 64
# Of the network with random weights.
NETWORK = Config(
    task="program",
    target_length=3,
    target_nesting=3,
    hidden_dim=32,
    embedding_dim=16,
    uniform_init=1.0,
)

PIECES = [
    *"\n ()*+-0123456789:;<=>abcdefghijlnoprstx",
    *("for x in range(9):", " if ", " else ", "print(", "+=", "-=", "\n  ", "range(1000000000)"),
    *("**", "<<", "lambda:", "not ", "(x for x in ", "a=b=", "1if", "0x1f", "1_0", "9" * 700),
    *(",", "'", '"', "\\", "#", "\t", "\r", "\x00", "\x7f", "\x0c", "\ufeff", "\ud800", "\udcff"),
    *("\u00b2", "\u0661", "\u2028", "\u00e9", "\U0001f600", "__import__"),
]


def draw_program(rng: random.Random) -> str:
    """A program of the class, of any task and difficulty."""
    from keras_l2e.language.tasks import TASKS, Difficulty

    task = TASKS[rng.choice(sorted(TASKS))]
    difficulty = Difficulty(1 + rng.randrange(task.max_length), 1 + rng.randrange(task.max_nesting))
    return task.generate(random.Random(rng.randrange(2**32)), difficulty).program


def mutate(rng: random.Random, text: str) -> str:
    """The text after a few edits: pieces put in, parts taken out, doubled or moved."""
    for _ in range(1 + rng.randrange(5)):
        start = rng.randrange(len(text) + 1)
        end = min(len(text), start + rng.randrange(8))
        part = rng.choice(["", rng.choice(PIECES), text[start:end] * 2, text[start:end][::-1]])
        text = text[:start] + part + text[end:]
    return text


def draw_text(rng: random.Random) -> str:
    """A text that may or may not be a program."""
    kind = rng.randrange(10)
    if kind == 0:
        return draw_program(rng)
    if kind == 1:
        return "".join(rng.choice(PIECES) for _ in range(rng.randrange(60)))
    if kind == 2:
        return "".join(chr(rng.randrange(0x110000)) for _ in range(rng.randrange(20)))
    if kind == 3:  # Deep.
        depth = rng.choice([1, 50, 99, 100, 101, 2_000])
        opening, closing = rng.choice(["()", "[]", ("-", ""), ("1+", ""), ("1 if ", " else 1")])
        return f"print({opening * depth}1{closing * depth})"
    if kind == 4:  # Long.
        piece = rng.choice(PIECES)
        return piece * (rng.choice([100, 4_096, 4_097, 20_000, 300_000]) // len(piece))
    return mutate(rng, draw_program(rng))


def draw_bytes(rng: random.Random) -> bytes:
    """The same as bytes, which need not be UTF-8."""
    text = bytearray(draw_text(rng).encode("utf-8", "surrogatepass"))
    for _ in range(rng.choice([0, 0, 1, 3])):
        text.insert(rng.randrange(len(text) + 1), rng.randrange(256))
    return bytes(text)


def draw_arguments(rng: random.Random, folder: Path) -> list[str]:
    """A command line of `train`, most of it right; flagfiles it names are written into `folder`."""
    from keras_l2e import settings

    known = settings.of(Run)

    def argument() -> str:
        name = rng.choice([*known, "flagfile", "help"])
        choices = known[name].names if name in known else ()
        default = getattr(Run, name, "")
        number = rng.choice(["0", "1", "-1", "2", "0.5", "1e999", "nan", "1_0", "9" * 5_000, "٣"])
        value = rng.choice([str(default), rng.choice(choices or [number]), number, "", "~nobody"])
        text = rng.choice(
            [f"--{name}={value}"] * 8
            + [f"--{name}", f"-{name}={value}", value, f"--{name}{value}", f"--{name * 200}"]
        )
        return mutate(rng, text) if rng.randrange(4) == 0 else text

    arguments = [argument() for _ in range(rng.randrange(6))]
    if rng.randrange(3):
        arguments.append("--workdir=new")
    if rng.randrange(4) == 0:
        file = folder / "flags.cfg"
        text = "\n".join(argument() for _ in range(rng.randrange(6)))
        content = text.encode("utf-8", "surrogatepass")
        if rng.randrange(4) == 0:
            content += b"\n--flagfile=" + os.fsencode(file)
        if rng.randrange(4) == 0:
            content += draw_bytes(rng)[:1_000]
        file.write_bytes(content)
        arguments.append(f"--flagfile={file}")
    if rng.randrange(8) == 0:
        arguments.append(f"--flagfile={draw_text(rng)}")
    # A system's command line holds no NUL; but a flagfile does.
    return [argument.replace("\0", "") for argument in arguments]


def check_interpreter(rng: random.Random) -> bool:
    """`run` gives text or raises ProgramError, whose message is short."""
    from keras_l2e.language import interpreter

    try:
        assert isinstance(interpreter.run(draw_text(rng)), str)
    except interpreter.ProgramError as error:
        assert str(error).startswith("line ") and len(str(error)) < 200
        return False
    return True


def check_vocabulary(rng: random.Random) -> bool:
    """`encode` gives ids or raises ValueError; in TensorFlow each byte has its id or PAD.

    And `clean` is the same in TensorFlow, of bytes that are no UTF-8 too.
    """
    import tensorflow as tf

    from keras_l2e.language import forms, vocabulary
    from keras_l2e.networks import text as batches

    text = draw_bytes(rng)
    ids = [vocabulary.CHARACTERS.find(chr(byte)) + 1 for byte in text]
    neighbour = b"print(1)"
    batch = batches.encode(tf.constant([neighbour, text, neighbour])).to_list()
    assert batch[1] == ids
    assert batch[0] == batch[2] == vocabulary.encode(neighbour.decode())
    string = text.decode("utf-8", "surrogateescape")
    (cleaned,) = batches.clean(tf.constant([text])).numpy()
    assert cleaned.decode("utf-8", "surrogateescape") == forms.clean(string)
    try:
        assert vocabulary.encode(string) == ids and vocabulary.decode(ids) == string
    except ValueError as error:
        assert 0 in ids
        assert str(error).startswith("unknown character ")
        return False
    return True


def check_flags(rng: random.Random) -> bool:
    """`parse` gives values that can be written and read back, or raises what it documents."""
    from keras_l2e import command_line
    from keras_l2e import config as configs
    from keras_l2e.errors import UsageError

    with tempfile.TemporaryDirectory() as folder:
        arguments = draw_arguments(rng, Path(folder))
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # absl notes a file that names itself.
                run = command_line.parse(Run, ["train", *arguments])
        except UsageError as error:
            assert " ".join(str(error).split())
            return False
        configs.write(Path(folder), run.config)
        assert configs.read(Path(folder)) == run.config
        return True


class Signature:
    """Checks `serving_default` of a SavedModel, input by input and in batches."""

    def __init__(self, model_dir: Path):
        import tensorflow as tf

        self.constant = tf.constant
        self.serve = tf.saved_model.load(str(model_dir)).signatures["serving_default"]
        self.rows: list[tuple[bytes, bytes, float]] = []
        self.largest_difference = 0.0

    def answers(self, texts: list[bytes]) -> list[tuple[bytes, float]]:
        results = self.serve(program=self.constant(texts))
        return list(
            zip(results["output"].numpy(), results["probability"].numpy().tolist(), strict=True)
        )

    def __call__(self, rng: random.Random) -> bool:
        """A row has an answer of known characters, alone and, now and then, among the last ones."""
        from keras_l2e.language.vocabulary import CHARACTERS

        text = draw_bytes(rng)
        ((output, probability),) = self.answers([text])
        assert set(output.decode("ascii")) <= set(CHARACTERS)
        assert 0 <= probability <= 1
        self.rows.append((text, output, probability))
        if len(self.rows) > rng.randrange(LARGEST_BATCH):
            self.check_batch()
        return output != b""

    def check_batch(self) -> None:
        """The rows' answers together are those of each alone."""
        rows, self.rows = self.rows, []
        together = self.answers([text for text, *_ in rows])
        for (text, output, probability), (output_there, probability_there) in zip(
            rows, together, strict=True
        ):
            assert output_there == output, f"{text} gives {output}, in a batch {output_there}"
            difference = abs(probability_there - probability)
            assert difference <= PROBABILITY_TOLERANCE, f"{text}: {difference}"
            self.largest_difference = max(self.largest_difference, difference)


def export_network(output: Path):
    """Exports a network with random weights, whose answers are not all alike, and returns it."""
    import keras

    from keras_l2e.language import vocabulary
    from keras_l2e.networks import models, saved_model

    keras.utils.set_random_seed(1)
    model = models.build(NETWORK.model, vocabulary.SIZE, NETWORK)
    # Some answers must end: only those have a probability.
    bias = model.get_layer("decoder").get_layer("logits").bias
    bias.assign(bias + 0.5 * keras.ops.one_hot(vocabulary.EOS, vocabulary.SIZE))
    saved_model.save(model, NETWORK.interface, output)
    return model


def examine(name: str, check: Callable[[random.Random], bool], numbers: range) -> dict:
    """Runs a check on the inputs with these numbers: what it cost, and what broke."""
    num_accepted, slowest, slowest_number, failures = 0, 0.0, None, []
    warm = numbers.start + len(numbers) // 5
    before = measuring.memory_mib()
    started = time.perf_counter()
    for i in numbers:
        if i == warm:
            before = measuring.memory_mib()
        begun = time.perf_counter()
        try:
            num_accepted += check(random.Random(f"{name}/{i}"))
        except Exception as error:
            failures.append(f"input {i}: {type(error).__name__}: {str(error)[:300]}")
        seconds = time.perf_counter() - begun
        if seconds > slowest:
            slowest, slowest_number = seconds, i
    return {
        "inputs": len(numbers),
        "accepted": num_accepted,
        "failures": failures,
        "seconds": time.perf_counter() - started,
        "slowest_seconds": slowest,
        "slowest_input": slowest_number,
        "memory_mib_after_a_fifth": before,
        "memory_mib_at_the_end": measuring.memory_mib(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--inputs", type=int, default=25_000, help="inputs for each place")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--place", help="one place instead of all")
    parser.add_argument("--model", help="a SavedModel instead of one with random weights")
    arguments = parser.parse_args()

    from keras_l2e import devices

    devices.load_tensorflow(devices.default_onednn())
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.model:
            export_network(Path(folder) / "network")
        signature = Signature(arguments.model or Path(folder) / "network")
        places = {
            "interpreter": check_interpreter,
            "vocabulary": check_vocabulary,
            "flags": check_flags,
            "signature": signature,
        }
        if arguments.place:
            places = {arguments.place: places[arguments.place]}
        numbers = range(arguments.first, arguments.first + arguments.inputs)
        result = {}
        print("place        inputs accepted broken  seconds  slowest  memory, MiB")
        for name, check in places.items():
            found = result[name] = examine(name, check, numbers)
            print(
                f"{name:11} {found['inputs']:7,} {found['accepted']:8,} {len(found['failures']):6} "
                f"{found['seconds']:8.1f} {found['slowest_seconds']:8.4f}  "
                f"{found['memory_mib_after_a_fifth']:.0f} -> {found['memory_mib_at_the_end']:.0f}"
            )
            print("".join(f"  {failure}\n" for failure in found["failures"][:10]), end="")
    result["largest_difference_in_probability"] = signature.largest_difference
    print(
        f"alone and in a batch, probabilities differ by {signature.largest_difference:.1e} at most"
    )
    measuring.write(arguments.json, result)
    good = all(
        not found["failures"]
        and found["slowest_seconds"] < SECONDS_ALLOWED
        and found["memory_mib_at_the_end"] - found["memory_mib_after_a_fifth"] < GROWTH_ALLOWED_MIB
        for name, found in result.items()
        if name in places
    )
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
