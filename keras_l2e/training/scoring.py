"""A network's answers to stored examples: teacher-forced counts and free-running outputs.

    scorer = Scorer(network, "none", "answer")
    scores = scorer.score(Example([b"print(1+2)"], [b"3"], [b"3"]))
    scores.exact_match(), scores.num_right[0], scores.num_tokens[0]  # 1.0, 2, 2 if it is right

A target of one character has two tokens, itself and EOS.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_l2e import devices
from keras_l2e.data import pipeline
from keras_l2e.language import vocabulary
from keras_l2e.language.forms import TARGET_FORMS, shows_work, write_all
from keras_l2e.language.programs import Example
from keras_l2e.networks import text
from keras_l2e.networks.decoding import WORK_ROWS, greedy_decode, similar_lengths

# Examples that go through a network at once where no work is written.
ROWS = 256
# What is said of a network at a level.
RATES = ("token_accuracy", "exact_match", "free_token_accuracy")


class Scores(NamedTuple):
    """One entry per example, in the order given; every rate needs at least one.

    Attributes:
        num_right: int array, teacher-forced positions of the text to be written that were predicted
            right, EOS included.
        num_tokens: int array, positions of that text, EOS included.
        written_right: bool array, whether the free-running text is the one to be written.
        targets, outputs: the true answers and the free-running ones; "" where work did not end.
        written: the whole free-running texts.
    """

    num_right: np.ndarray
    num_tokens: np.ndarray
    written_right: np.ndarray
    targets: list[str]
    outputs: list[str]
    written: list[str]

    def token_accuracy(self) -> float:
        """Teacher-forced, the paper's accuracy: right positions / positions, EOS included.

        Each is predicted from the true characters before it.
        """
        return float(np.sum(self.num_right) / np.sum(self.num_tokens))

    def exact_match(self) -> float:
        """The share of free-running answers that equal their target."""
        return float(np.mean([a == b for a, b in zip(self.targets, self.outputs, strict=True)]))

    def written_match(self) -> float:
        """The share of free-running texts that are right as a whole, the work included."""
        return float(np.mean(self.written_right))

    def free_token_accuracy(self) -> float:
        """Free-running: equal positions of the answers / the longer of both lengths; no EOS."""
        pairs = list(zip(self.targets, self.outputs, strict=True))
        equal = sum(a == b for pair in pairs for a, b in zip(*pair, strict=False))
        return equal / sum(max(len(target), len(output)) for target, output in pairs)

    def rates(self) -> dict[str, float]:
        """All RATES by name."""
        return {name: getattr(self, name)() for name in RATES}

    def subset(self, chosen: Sequence[int]) -> "Scores":
        """The scores of the examples with these numbers."""
        arrays = (column[chosen] for column in self[:3])
        return Scores(*arrays, *([column[i] for i in chosen] for column in self[3:]))


class Scorer:
    """Runs one network over examples; keeps the compiled function from call to call."""

    def __init__(
        self,
        network,
        input_form: str,
        target_form: str,
        max_steps: int | None = None,
        batch_size: int | None = None,
    ):
        """Makes the function.

        Args:
            network: of `models.build`.
            input_form, target_form: of `language.forms`.
            max_steps: the most ids to write; by default as many as the longest true text of the
                batch has, for a network that has not learnt to end writes for ever; half as many
                again where work is written, behind which, too long, the right answer may stand.
            batch_size: examples that go through the network at once; by default ROWS, or WORK_ROWS
                where work is written.
        """
        self.target_form = target_form
        self.batch_size = batch_size or (WORK_ROWS if shows_work(target_form) else ROWS)
        encoder, decoder = (network.get_layer(name) for name in ("encoder", "decoder"))
        texts = tf.TensorSpec([None], tf.string)

        # A pipeline of tf.data would take longer to set up than a validation's 500 examples to
        # answer.
        @tf.function(input_signature=[texts, texts], autograph=False)
        def score(programs, written):
            inputs, labels, _ = pipeline.encode_examples(programs, written, input_form, "character")
            state = encoder(inputs["encoder_token_ids"])
            logits, _ = decoder([inputs["decoder_token_ids"], state])
            real = labels != vocabulary.PAD
            right = real & (tf.argmax(logits, -1, tf.int32) == labels)
            longest = tf.shape(labels)[1]
            steps = max_steps or (longest * 3 // 2 if shows_work(target_form) else longest)
            ids, _ = greedy_decode(
                decoder, state, max_steps=steps, bos=vocabulary.BOS, eos=vocabulary.EOS
            )
            return (
                tf.reduce_sum(tf.cast(right, tf.int32), axis=1),
                tf.reduce_sum(tf.cast(real, tf.int32), axis=1),
                text.decode(ids),
                tf.reduce_any(ids == vocabulary.EOS, axis=1),
            )

        self._score = score

    def score(self, examples: Example) -> Scores:
        """Scores every example; similar lengths go through the network together.

        Args:
            examples: columns of UTF-8 `bytes`.
        """
        written = write_all(examples, self.target_form)
        longer = written if shows_work(self.target_form) else examples.program
        batches, places = similar_lengths(longer, self.batch_size)

        def score_batch(chosen: np.ndarray):
            batch = ([texts[i] for i in chosen] for texts in (examples.program, written))
            return self._score(*(tf.constant(texts, tf.string) for texts in batch))

        # One operation has one thread (`devices.start`), but batches do not wait for each other.
        with ThreadPoolExecutor(devices.num_cores()) as threads:
            parts = list(threads.map(score_batch, batches))
        num_right, num_tokens, outputs, ended = (
            np.concatenate([part.numpy() for part in column])[places]
            for column in zip(*parts, strict=True)
        )
        form, texts = TARGET_FORMS[self.target_form], [text.decode() for text in outputs]
        return Scores(
            num_right,
            num_tokens,
            outputs == np.array(written, object),
            [target.decode() for target in examples.target],
            list(map(form.answer, texts, ended)),
            texts,
        )
