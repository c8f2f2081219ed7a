"""Trains a network to execute programs, evaluates it and exports it.

    python -m keras_l2e.train --flagfile=keras_l2e/flagfiles/quickstart.cfg --workdir=W

Prepares missing data by itself. The same command goes on where a stopped run left off, bit for bit:
an epoch is a pure function of the flags, its number and the curriculum's state.
"""

import platform
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

from keras_l2e import __version__, command_line, files, pretrained
from keras_l2e import config as run_flags
from keras_l2e import devices as runtime
from keras_l2e.errors import UsageError
from keras_l2e.language.programs import OPERATIONS
from keras_l2e.language.tasks import TASKS, Difficulty, grid
from keras_l2e.teaching.teachers import CLIMBING
from keras_l2e.training import workers

# Digits from which on long carries, which are sought among the sums drawn, are too rare: one sum in
# a hundred has them at 20 digits, one in two thousand at 32.
LONGEST_CARRIES = 20
# The same for --first_operations: they are sought among all programs.
RAREST_FIRST = 100

if __name__ == "__main__":
    run_flags.define()


def train(config: SimpleNamespace) -> None:
    """Runs a whole training, or what is left of it, and leaves its results in `config.workdir`.

    Args:
        config: a value for every flag of `run_flags.define`.

    Raises:
        UsageError: a flag's value is wrong.
        WorkError: data or checkpoints are not what they should be, or the loss is not finite.
    """
    workdir = command_line.check_folder("workdir", config.workdir)
    config = settle(config, workdir)
    if (workdir / "evaluation.json").exists():
        print(f"{workdir} holds a finished run; nothing to do")
        return
    runtime.load_tensorflow(config.onednn)
    share_among_replicas(config)
    start = workers.start if workers.num_workers() > 1 else runtime.start
    strategy = start(config.num_replicas, config.threads_per_replica)
    from keras_l2e.data import stored as prepared_data
    from keras_l2e.training import run as training

    if workers.is_chief():
        workdir.mkdir(parents=True, exist_ok=True)
        for folder in (workdir, workdir / "checkpoints"):
            files.remove_unfinished(folder)
        run_flags.write(workdir, config)
    print(f"workdir: {workdir}")
    packages = (f"{name} {metadata.version(name)}" for name in ("tensorflow", "keras", "numpy"))
    print(f"keras_l2e {__version__}, {', '.join(packages)}, Python {platform.python_version()}")
    print(
        f"replicas: {config.num_replicas}, threads in each: {config.threads_per_replica}, "
        f"cores: {runtime.num_cores()}, oneDNN: {config.onednn}"
    )
    levels = grid(Difficulty(config.target_length, config.target_nesting))
    prepared_data.prepare(config.task, levels, config.data_dir, config.examples_per_difficulty)

    run = training.Run(config, workdir, strategy)
    run.train()
    if workers.is_chief():
        finish(run)
    workers.share(strategy, None)  # To go while the chief still works would look like a loss.


def settle(config: SimpleNamespace, workdir: Path) -> SimpleNamespace:
    """The flags in force, as far as TensorFlow is not needed to know them.

    Those left open (`auto`, 0 replicas) are taken over from the run to be resumed.

    Raises:
        UsageError: a value is wrong, or the run in `workdir` was started with another one.
    """
    command_line.check_folder("data_dir", config.data_dir)
    try:
        TASKS[config.task].check(Difficulty(config.target_length, config.target_nesting))
    except ValueError as error:
        raise UsageError(f"--task={config.task}: target {error}") from None
    if config.carry_share and (config.task != "addition" or config.target_length > LONGEST_CARRIES):
        raise UsageError(
            f"--carry_share={config.carry_share} with --task={config.task} of "
            f"{config.target_length} digits; allowed with addition of up to {LONGEST_CARRIES}"
        )
    if config.first_operations and (config.task != "program" or config.strategy not in CLIMBING):
        raise UsageError(
            f"--first_operations={config.first_operations} with --task={config.task} and "
            f"--strategy={config.strategy}; allowed with --task=program and one of "
            f"{', '.join(sorted(CLIMBING))}"
        )
    first = set(run_flags.names(config.first_operations))
    if first and (len(OPERATIONS) / len(first)) ** config.target_nesting > RAREST_FIRST:
        raise UsageError(
            f"--first_operations={config.first_operations} with --target_nesting="
            f"{config.target_nesting}; allowed are so many that one program in {RAREST_FIRST} has "
            "no others"
        )
    if config.first_batch_size > config.global_batch_size:
        raise UsageError(
            f"--first_batch_size={config.first_batch_size}; allowed 0 to --global_batch_size="
            f"{config.global_batch_size}"
        )
    if (
        config.learning_rate_schedule == "plateau"
        and config.learning_rate < config.min_learning_rate
    ):
        raise UsageError(
            f"--learning_rate={config.learning_rate}; allowed is --min_learning_rate="
            f"{config.min_learning_rate} or more, where plateau ends the run"
        )
    if config.initial_model and not (workdir / run_flags.NAME).exists():
        initial = run_flags.read(pretrained.find_run(config.initial_model))
        for name in run_flags.SHAPE:
            if getattr(config, name) != getattr(initial, name):
                raise UsageError(
                    f"--{name}={getattr(config, name)}; --initial_model={config.initial_model} has "
                    f"{getattr(initial, name)}"
                )
    settled = SimpleNamespace(**vars(config))
    if (workdir / run_flags.NAME).exists():
        earlier = run_flags.read(workdir)
        for name in ("num_replicas", "threads_per_replica"):
            setattr(settled, name, getattr(config, name) or getattr(earlier, name))
        if config.onednn == "auto":
            settled.onednn = earlier.onednn
        run_flags.check_same(settled, earlier)
    elif workdir.exists() and any(
        not path.name.startswith(files.UNFINISHED) for path in workdir.iterdir()
    ):
        raise UsageError(
            f"--workdir={config.workdir} holds other files; name a new or empty folder"
        )
    elif config.onednn == "auto":
        settled.onednn = runtime.default_onednn()
    return settled


def share_among_replicas(config: SimpleNamespace) -> None:
    """Decides --num_replicas and --threads_per_replica where they were left open.

    Raises:
        UsageError: there are not so many devices, or the batch cannot be shared evenly.
    """
    num_workers = workers.num_workers()
    if num_workers > 1:
        num_devices = num_workers * (runtime.num_gpus() or 1)
        if config.num_replicas not in (0, num_devices):
            raise UsageError(
                f"--num_replicas={config.num_replicas}; TF_CONFIG names {num_workers} workers, "
                f"which hold {num_devices}"
            )
        config.num_replicas = num_devices
    config.num_replicas = config.num_replicas or runtime.default_num_replicas()
    if num_workers == 1 and config.num_replicas > runtime.num_devices():
        raise UsageError(
            f"--num_replicas={config.num_replicas}; allowed 0 to {runtime.num_devices()}"
        )
    if config.global_batch_size % config.num_replicas:
        raise UsageError(
            f"--global_batch_size={config.global_batch_size}; allowed multiples of the "
            f"{config.num_replicas} replicas"
        )
    config.threads_per_replica = config.threads_per_replica or max(
        1, runtime.num_cores() * num_workers // config.num_replicas
    )


def finish(run) -> None:
    """Saves, evaluates and exports the averaged network; evaluation.json comes last.

    Args:
        run: a `training.Run` that is over.
    """
    from keras_l2e import evaluate, export, plots, tables

    export.export(run.config, run.averaged, run.workdir / "saved_model")
    plots.plot_learning_curve(run.history, run.workdir / "learning_curve.png")
    # After them: from here on the evaluation may also be made by `evaluate`.
    files.write_atomically(run.workdir / "model.keras", lambda path: run.averaged.save(path))
    print("evaluating on the test split")
    result = evaluate.evaluate(run.config, run.averaged)
    evaluate.write(run.workdir, result)
    print(tables.format_table(result))
    print(tables.format_samples(result))
    print(f"results, plots and SavedModel: {run.workdir}")


if __name__ == "__main__":
    command_line.run(train)
