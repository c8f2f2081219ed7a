"""Learning to Execute (Zaremba & Sutskever, 2014) in TensorFlow and Keras.

Programs are drawn per difficulty, stored by TFDS, mixed by a teacher's weights with
`sample_from_datasets`, learnt by a functional Keras encoder-decoder with `fit` under a
`MirroredStrategy`, and exported as a SavedModel that reads program text and writes what the program
prints.

    import keras_l2e

    network = keras_l2e.load("addition_9")
    network.execute("print(12+34)").output                     # '46'
    config = keras_l2e.Config(task="addition", target_length=3, num_epochs=10)
    network = keras_l2e.train(config, "runs/addition_3")

Importing this package imports neither TensorFlow nor Keras.
"""

import importlib.util
import os
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

from keras_l2e.config import Config

if TYPE_CHECKING:
    from keras_l2e.api import Answer, TrainedNetwork

__all__ = ["Config", "execute", "load", "train"]
__version__ = "0.2.0"

# What a notebook starts inherits the name of its backend, and where that is not installed the mere
# import of matplotlib fails. Figures here are written to files and need no backend. It is settled
# before any module imports matplotlib; a backend that is there stays, for the user's own figures.
_, _, _backend = os.environ.get("MPLBACKEND", "").partition("module://")
if _backend and importlib.util.find_spec(_backend.partition(".")[0]) is None:
    os.environ["MPLBACKEND"] = "agg"


class _Package(types.ModuleType):
    """The package, of which `train` and `execute` are functions whatever is imported.

    They are names of entry points too, and the import system would put such a module in the place
    of the function.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name not in __all__ or not isinstance(value, types.ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def load(place: str | Path) -> "TrainedNetwork":
    """Loads a trained network.

    >>> network = load("addition_9")
    >>> network.execute("print(123456789+987654321)").output
    '1111111110'
    >>> [answer.right for answer in network.execute(["print(5+6)", "print(12+34)"])]
    [True, True]
    >>> network.model.count_params()
    405803

    Args:
        place: the folder of a finished run or of an exported SavedModel, a place on a hub
            (hf://user/name, kaggle://user/model/keras/variation), or the name of a network that
            comes with the package.

    Returns:
        An `api.TrainedNetwork`.

    Raises:
        errors.UsageError: there is no such network.
        errors.WorkError: its files are not whole, or it cannot be downloaded.
    """
    from keras_l2e import api

    return api.TrainedNetwork(api.find(place))


def execute(program: str) -> "Answer":
    """Has a network of the package that was trained on such programs execute one.

    >>> answer = execute("print(12+34)")
    >>> answer.output, answer.right
    ('46', True)

    Args:
        program: a program's text.

    Returns:
        An `api.Answer`.

    Raises:
        errors.UsageError: no network was trained on such a text; says what does not fit.
    """
    from keras_l2e import pretrained

    return load(pretrained.suited(program)).execute(program)


def train(config: Config, workdir: str | Path) -> "TrainedNetwork":
    """Trains, evaluates and exports a network, as `python -m keras_l2e.train` does.

        network = keras_l2e.train(Config(task="addition", target_length=3), "runs/addition_3")
        network.evaluation["rows"][-1]["exact_match"]

    A stopped run goes on where it left off. A TensorFlow that was used before in this process has
    one device on the CPU, and trains one replica there, where a new one would train two.

    Args:
        config: a `Config`.
        workdir: the folder of the run.

    Returns:
        The finished run's network, an `api.TrainedNetwork`.

    Raises:
        errors.UsageError: a value is wrong, or the folder is that of another run.
        errors.WorkError: data or checkpoints are not what they should be, or training diverged.
    """
    from keras_l2e.training import session

    return load(session.train(config, workdir))
