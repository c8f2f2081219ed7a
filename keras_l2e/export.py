"""Exports a trained network as a SavedModel that reads program text and writes what it prints.

    python -m keras_l2e.export --workdir=W --output=DIR
    python -m keras_l2e.export --pretrained=addition_9 --output=DIR

    serving_default(program: string[n]) -> {output: string[n], probability: float32[n]}

The SavedModel needs TensorFlow only. With --format=page it is a page instead, one HTML file for a
browser, which needs nothing else; it may hold several networks:

    python -m keras_l2e.export --format=page --pretrained=addition_9,programs_5_2 --output=FILE.html
"""

import os
from dataclasses import dataclass
from pathlib import Path

from keras_l2e import command_line, devices, page, pretrained
from keras_l2e import config as configs
from keras_l2e.errors import UsageError
from keras_l2e.settings import choice, path, text


@dataclass(frozen=True)
class Arguments:
    """See `settings`."""

    workdir: str = path("", "Folder of the training run.")
    pretrained: str = text(
        "",
        "Instead of --workdir: name of a network that comes with the package; for a page also "
        "several, commas between them.",
    )
    format: str = choice(
        "saved_model",
        ("saved_model", "page"),
        "What is written. saved_model: a SavedModel, a folder that TensorFlow loads. page: one "
        "HTML file that executes programs wherever it is opened, without a server or a network.",
    )
    output: str = path(
        "",
        "Folder for the SavedModel, or file for the page, which ends with .html; must be new.",
        required=True,
    )


def main(arguments: Arguments) -> None:
    if arguments.format == "page":
        export_page(arguments)
    else:
        export_saved_model(arguments)


def export_saved_model(arguments: Arguments) -> None:
    """Writes the folder of a SavedModel."""
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


def export_page(arguments: Arguments) -> None:
    """Writes the HTML file of one network or several."""
    names = arguments.pretrained.split(",")
    if len(set(names)) < len(names):
        raise UsageError(f"--pretrained={arguments.pretrained}: a network is named twice")
    folders = [pretrained.chosen(arguments.workdir, name) for name in names]
    runs = {folder.resolve().name: folder for folder in folders}
    settings = {name: configs.read_finished(folder) for name, folder in runs.items()}
    for name, config in settings.items():
        page.check(name, config)
    output = _new_file(arguments.output)
    devices.load_tensorflow()
    from keras_l2e.networks import models

    parts = [
        page.describe(name, folder, settings[name], models.load(folder / "model.keras"))
        for name, folder in runs.items()
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    page.write(parts, output)
    print(f"page: {output}")


def _new_file(name: str) -> Path:
    """The path of a page that is to be written."""
    output = Path(os.path.normpath(Path(name).expanduser()))
    if output.exists():
        raise UsageError(f"--output={name} exists; name a new file")
    if output.suffix != ".html":
        raise UsageError(f"--output={name}: the name of a page ends with .html")
    return command_line.check_folder("output", name)


if __name__ == "__main__":
    command_line.run(main, Arguments)
