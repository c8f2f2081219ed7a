"""The TFDS data set `learning_to_execute`; importing it registers the data set with TFDS."""

from .learning_to_execute_dataset_builder import Builder

__all__ = ["Builder"]
