"""What workers run when the data set is built: the Beam pipeline and the writer of examples.

Beam sends functions to its workers by their names, so they stand in a module that is installed
there; the data set's builder may be a file in any folder. One scan of the candidates serves all
splits:

    blocks of candidates -> scan -> the first distinct ones, or each block's quota -> examples
"""

import operator

from tensorflow_datasets.core import writer

from keras_l2e.data.candidates import Candidates, first_distinct, quotas
from keras_l2e.language import programs


class StableExampleWriter(writer.ExampleWriter):
    """Writes the features of an example in the order of their names.

    As TFDS serializes them, their order differs from process to process: protobuf seeds its maps
    with an address. Costs 7 us an example.
    """

    def write(self, path, examples):
        import tensorflow as tf  # Late, as in TFDS: only building needs it.

        def stable(serialized):
            return tf.train.Example.FromString(serialized).SerializeToString(deterministic=True)

        return super().write(path, ((key, stable(example)) for key, example in examples))


def split_pipelines(pipeline, candidates: Candidates) -> dict:
    """The examples of each split as Beam finds them: those of `candidates.choose()`.

    A worker holds a block of candidates, a few lists of as many digests as a held-out split has
    examples, and a number for each block.

    Args:
        pipeline: a `beam.Pipeline`.
        candidates: what to choose from.

    Returns:
        Split -> `beam.PCollection` of (number, features).
    """
    import apache_beam as beam

    sizes = candidates.split_sizes
    scanned = (
        pipeline
        | beam.Create([candidates.num_blocks])
        | "Blocks" >> beam.FlatMap(range)
        | "Share" >> beam.Reshuffle()
        | "Scan" >> beam.Map(candidates.scan)
    )
    train_quotas = (
        scanned
        | "Count" >> beam.Map(_block_and_size)
        | beam.combiners.ToList()
        | "Quotas" >> beam.Map(quotas, size=sizes["train"])
    )
    chosen = {
        "train": scanned
        | "TakeQuota" >> beam.FlatMap(_take_quota, beam.pvalue.AsSingleton(train_quotas))
    }
    for split in programs.SPLITS[1:]:
        chosen[split] = (
            scanned
            | f"{split}Digests" >> beam.Map(operator.itemgetter(split))
            | f"{split}First" >> beam.CombineGlobally(first_distinct, size=sizes[split])
            | f"{split}Numbers" >> beam.FlatMap(dict.values)
            | f"{split}Share" >> beam.Reshuffle()
        )
    return {
        split: numbers | f"{split}Examples" >> beam.Map(_example, candidates)
        for split, numbers in chosen.items()
    }


def _block_and_size(found: dict) -> tuple[int, int]:
    return found["block"], len(found["train"])


def _take_quota(found: dict, train_quotas: dict[int, int]) -> list[int]:
    return found["train"][: train_quotas[found["block"]]].tolist()


def _example(i: int, candidates: Candidates) -> tuple[int, dict]:
    return i, candidates.features(i)
