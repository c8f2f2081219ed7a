"""Exports a trained network: as a SavedModel, a page, or in the formats of other engines and hubs.

    python -m keras_l2e.export --workdir=W --output=DIR
    python -m keras_l2e.export --pretrained=addition_9 --output=DIR

    serving_default(program: string[n]) -> {output: string[n], probability: float32[n]}

The SavedModel needs TensorFlow only. With --format=page it is a page instead, one HTML file for a
browser, which needs nothing else; it may hold several networks:

    python -m keras_l2e.export --format=page --pretrained=addition_9,programs_5_2 --output=FILE.html
"""

from dataclasses import dataclass
from pathlib import Path

from keras_l2e import command_line, devices, hub, page, pretrained
from keras_l2e import config as configs
from keras_l2e.errors import UsageError
from keras_l2e.settings import Settings, choice, path, text


@dataclass(frozen=True)
class Arguments(Settings):
    """See `settings`."""

    workdir: str = path("", "Folder of the training run.")
    pretrained: str = text(
        "",
        "Instead of --workdir: name of a network that comes with the package; for a page also "
        "several, commas between them.",
    )
    format: str = choice(
        "saved_model",
        ("saved_model", "onnx", "litert", "hub", "page"),
        "What is written: a folder for TensorFlow (saved_model), ONNX Runtime (onnx), LiteRT "
        "(litert), Hugging Face or Kaggle (hub), or one HTML file for a browser (page).",
    )
    output: str = path(
        "",
        "Folder to write, or file for the page, which ends with .html; must be new.",
        required=True,
    )


def main(arguments: Arguments) -> None:
    output = command_line.check_new("output", arguments.output)
    write = write_page if arguments.format == "page" else write_folder
    write(arguments, output)
    print(f"{arguments.format}: {output}")


def write_folder(arguments: Arguments, output: Path) -> None:
    """Writes one network as a folder."""
    workdir = pretrained.chosen(arguments.workdir, arguments.pretrained)
    config = configs.read_finished(workdir)
    devices.load_tensorflow(config.onednn)
    from keras_l2e.networks import exchange, models, saved_model

    network = models.load(configs.network_in(workdir))
    if arguments.format == "hub":
        hub.write(workdir, output, network)
    elif arguments.format == "saved_model":
        saved_model.save(network, config.interface, output)
    else:
        exchange.save(network, config.interface, output, arguments.format)


def write_page(arguments: Arguments, output: Path) -> None:
    """Writes the HTML file of one network or several."""
    if output.suffix != ".html":
        raise UsageError(f"--output={arguments.output}: the name of a page ends with .html")
    names = arguments.pretrained.split(",")
    folders = [pretrained.chosen(arguments.workdir, name) for name in names]
    runs = {folder.resolve().name: folder for folder in folders}
    settings = {name: configs.read_finished(folder) for name, folder in runs.items()}
    for name, config in settings.items():
        page.check(name, config)
    devices.load_tensorflow()
    from keras_l2e.networks import models

    parts = [
        page.describe(name, folder, settings[name], models.load(configs.network_in(folder)))
        for name, folder in runs.items()
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    page.write(parts, output)


if __name__ == "__main__":
    command_line.run(main, Arguments)
