"""A model's answers to stored examples: teacher-forced counts and free-running outputs.

    scores = Scorer(model, "none", max_steps=4).score([b"print(1+2)"], [b"3"])
    scores.exact_match(), scores.num_right[0], scores.num_tokens[0]  # 1.0, 2, 2 if it is right

A target of one character has two tokens, itself and EOS.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_l2e import devices as runtime
from keras_l2e.data import pipeline as input_pipeline
from keras_l2e.language import vocabulary
from keras_l2e.networks import decoding
from keras_l2e.training import metrics


class Scores(NamedTuple):
    """One entry per example, in the order given.

    Attributes:
        num_right: teacher-forced target positions predicted right, EOS included.
        num_tokens: target positions, EOS included.
        targets, outputs: true texts and free-running greedy answers.
    """

    num_right: np.ndarray
    num_tokens: np.ndarray
    targets: list[str]
    outputs: list[str]

    def token_accuracy(self) -> float:
        """Teacher-forced; see `metrics.token_accuracy`."""
        return metrics.token_accuracy(self.num_right, self.num_tokens)

    def exact_match(self) -> float:
        """Free-running; see `metrics.exact_match`."""
        return metrics.exact_match(self.targets, self.outputs)

    def free_token_accuracy(self) -> float:
        """Free-running; see `metrics.free_token_accuracy`."""
        return metrics.free_token_accuracy(self.targets, self.outputs)

    def subset(self, chosen: Sequence[int]) -> "Scores":
        """The scores of the examples with these numbers."""
        return Scores(
            self.num_right[chosen],
            self.num_tokens[chosen],
            [self.targets[i] for i in chosen],
            [self.outputs[i] for i in chosen],
        )


class Scorer:
    """Runs one model over examples; keeps the compiled function from call to call."""

    def __init__(self, model: keras.Model, input_form: str, max_steps: int, batch_size: int = 256):
        self.batch_size = batch_size
        texts = tf.TensorSpec([None], tf.string)

        # A pipeline of tf.data would take longer to set up than a validation's 500 examples to
        # answer.
        @tf.function(input_signature=[texts, texts])
        def score(programs, targets):
            inputs, labels, _ = input_pipeline.encode_examples(
                programs, targets, input_form, "character"
            )
            states = model.get_layer("encoder")(inputs["encoder_token_ids"])
            logits, *_ = model.get_layer("decoder")([inputs["decoder_token_ids"], *states])
            real = labels != vocabulary.PAD
            right = real & (tf.argmax(logits, -1, tf.int32) == labels)
            ids, _ = decoding.greedy_decode(
                model, states, max_steps=max_steps, bos=vocabulary.BOS, eos=vocabulary.EOS
            )
            return (
                tf.reduce_sum(tf.cast(right, tf.int32), axis=1),
                tf.reduce_sum(tf.cast(real, tf.int32), axis=1),
                vocabulary.decode_batch(ids),
            )

        self._score = score

    def score(self, programs: Sequence[bytes], targets: Sequence[bytes]) -> Scores:
        """Scores every example; similar lengths go through the model together."""
        order = np.argsort([len(program) for program in programs], kind="stable")

        def score_batch(start: int):
            chosen = order[start : start + self.batch_size]
            batch = ([texts[i] for i in chosen] for texts in (programs, targets))
            return self._score(*(tf.constant(texts, tf.string) for texts in batch))

        # One operation has one thread (`runtime.start`), but batches do not wait for each other.
        with ThreadPoolExecutor(runtime.num_cores()) as threads:
            parts = list(threads.map(score_batch, range(0, len(order), self.batch_size)))
        num_right, num_tokens, outputs = (
            np.concatenate([part.numpy() for part in column]) for column in zip(*parts, strict=True)
        )
        back = np.argsort(order)
        return Scores(
            num_right[back],
            num_tokens[back],
            [target.decode() for target in targets],
            [outputs[i].decode() for i in back],
        )
