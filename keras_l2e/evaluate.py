"""Evaluates a trained network on held-out programs and writes evaluation.json and its plots.

    python -m keras_l2e.evaluate --workdir=W
    python -m keras_l2e.evaluate --pretrained=addition_9 [--output=FILE]

The test split of every trained difficulty, then the next difficulties, which were not trained. Of a
network that comes with the package, the figures found are compared with those published.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from keras_l2e import command_line, devices, files, pretrained, tables
from keras_l2e import config as configs
from keras_l2e.errors import UsageError, WorkError
from keras_l2e.settings import Settings, path, text

# Published figures are repeated only within so many standard errors.
MAX_SIGMA = 4


@dataclass(frozen=True)
class Arguments(Settings):
    """See `settings`."""

    workdir: str = path("", "Folder of the training run.")
    pretrained: str = text(
        "", "Instead of --workdir: name of a network that comes with the package."
    )
    output: str = path(
        "",
        "File for the result, as JSON; by default evaluation.json in the workdir, with its plots, "
        "or nowhere with --pretrained.",
    )
    data_dir: str = path("", "Folder of prepared data; the run's own by default.")


def main(arguments: Arguments) -> None:
    workdir = pretrained.chosen(arguments.workdir, arguments.pretrained)
    config = configs.read_finished(workdir)
    if arguments.data_dir:
        config = dataclasses.replace(config, data_dir=arguments.data_dir)
    output = Path(arguments.output).expanduser() if arguments.output else None
    if output and output.is_dir():
        raise UsageError(f"--output={output} is a folder; name a file")
    if output and not output.is_file():
        command_line.check_folder("output", arguments.output)
    result = measure(config, workdir)
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(output, result)
    elif not arguments.pretrained:
        from keras_l2e.training import evaluation

        evaluation.write(workdir, result)
    print(tables.format_table(result))
    if arguments.pretrained:
        check_published(result, tables.read_evaluation(workdir / "evaluation.json"))


def measure(config: configs.Config, workdir: Path) -> dict:
    """The evaluation of the network of a finished run."""
    devices.load_tensorflow(config.onednn)
    # As in training, so that the sums come out the same; the model itself stays on one device.
    # (Early runs did not write down their threads.)
    num_replicas = min(config.num_replicas, devices.num_devices())
    devices.start(num_replicas, config.threads_per_replica or 1)
    from keras_l2e.data import stored
    from keras_l2e.networks import models
    from keras_l2e.training import evaluation

    stored.prepare(config.task, config.levels, config.data_dir, config.examples_per_difficulty)
    with devices.own_keras_settings():
        return evaluation.evaluate(config, models.load(configs.network_in(workdir)))


def check_published(result: dict, published: dict) -> None:
    """Says how far the figures found are from the published ones.

    Raises:
        WorkError: farther than chance explains.
    """
    from keras_l2e.training import evaluation

    distance, name = evaluation.compare(result, published)
    said = f"{distance:.1f} standard errors from the published figures at most ({name})"
    if distance > MAX_SIGMA:
        raise WorkError(f"{said}; allowed {MAX_SIGMA}")
    print(said)


if __name__ == "__main__":
    command_line.run(main, Arguments)
