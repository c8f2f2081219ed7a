"""Networks: Keras and integers, never the data.

The tables name what there is and where it is built, so that names are known without TensorFlow. A
value may also be the function itself.
"""

import pkgutil
from collections.abc import Callable
from typing import Any

Table = dict[str, str | Callable[..., Any]]

MODELS: Table = {
    "lstm": "keras_l2e.networks.models:lstm",
    "attention": "keras_l2e.networks.attention:attention",
    "transformer": "keras_l2e.networks.transformer:transformer",
    "universal_transformer": "keras_l2e.networks.transformer:universal_transformer",
}
OPTIMIZERS: Table = {
    "adam": "keras_l2e.networks.optimizers:Adam",
    "muon": "keras_l2e.networks.optimizers:Muon",
    "sgd": "keras_l2e.networks.optimizers:SGD",
}


def resolve(table: Table, name: str) -> Any:
    """What a table names, imported if need be."""
    found = table[name]
    return pkgutil.resolve_name(found) if isinstance(found, str) else found
