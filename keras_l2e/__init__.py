"""Learning to Execute (Zaremba & Sutskever, 2014) in TensorFlow and Keras.

Programs are drawn per difficulty, stored by TFDS, mixed by a curriculum with
`sample_from_datasets`, learnt by a functional Keras LSTM encoder-decoder with `fit` under a
`MirroredStrategy`, and exported as a SavedModel that reads program text and writes what the program
prints.

Importing this package imports neither TensorFlow nor Keras.
"""

import importlib.util
import os

__version__ = "0.1.0"

# What a notebook starts inherits the name of its backend, and where that is not installed the mere
# import of matplotlib fails. Figures here are written to files and need no backend. It is settled
# before any module imports matplotlib; a backend that is there stays, for the user's own figures.
_, _, _backend = os.environ.get("MPLBACKEND", "").partition("module://")
if _backend and importlib.util.find_spec(_backend.partition(".")[0]) is None:
    os.environ["MPLBACKEND"] = "agg"
