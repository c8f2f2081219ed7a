"""Learning to Execute (Zaremba & Sutskever, 2014) in TensorFlow and Keras.

Programs are drawn per difficulty, stored by TFDS, mixed by a curriculum with
`sample_from_datasets`, learnt by a functional Keras LSTM encoder-decoder with `fit` under a
`MirroredStrategy`, and exported as a SavedModel that reads program text and writes what the program
prints.

Importing this package imports neither TensorFlow nor Keras.
"""

__version__ = "0.1.0"
