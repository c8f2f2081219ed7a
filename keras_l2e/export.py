"""Exports a trained network as a SavedModel that reads program text and writes what it prints.

    python -m keras_l2e.export --workdir=W --output=DIR
    python -m keras_l2e.export --pretrained=addition_9 --output=DIR

    serving_default(program: string[n]) -> {output: string[n], probability: float32[n]}

The SavedModel needs TensorFlow only.
"""

from dataclasses import dataclass

from keras_l2e import command_line, devices, pretrained
from keras_l2e import config as configs
from keras_l2e.errors import UsageError
from keras_l2e.settings import path, text


@dataclass(frozen=True)
class Arguments:
    """See `settings`."""

    workdir: str = path("", "Folder of the training run.")
    pretrained: str = text(
        "", "Instead of --workdir: name of a network that comes with the package."
    )
    output: str = path("", "Folder for the SavedModel; must be new.", required=True)


def main(arguments: Arguments) -> None:
    workdir = pretrained.chosen(arguments.workdir, arguments.pretrained)
    config = configs.read_finished(workdir)
    output = command_line.check_folder("output", arguments.output)
    if output.exists():
        raise UsageError(f"--output={arguments.output} exists; name a new folder")
    devices.load_tensorflow(config.onednn)
    from keras_l2e.networks import models, saved_model

    output.parent.mkdir(parents=True, exist_ok=True)
    saved_model.save(models.load(workdir / "model.keras"), config.interface, output)
    print(f"SavedModel: {output}")


if __name__ == "__main__":
    command_line.run(main, Arguments)
