"""Networks: Keras and integers, never the data.

The tables name what there is and where it is built, so that names are known without TensorFlow. A
value may also be the function itself.
"""

import pkgutil

MODELS = {
    "lstm": "keras_l2e.networks.models:lstm",
    "attention": "keras_l2e.networks.attention:attention",
}
OPTIMIZERS = {
    "adam": "keras_l2e.networks.optimizers:Adam",
    "muon": "keras_l2e.networks.optimizers:Muon",
    "sgd": "keras_l2e.networks.optimizers:SGD",
}


def resolve(table: dict, name: str):
    """What a table names, imported if need be."""
    found = table[name]
    return pkgutil.resolve_name(found) if isinstance(found, str) else found
