"""A session of training: from a config and a folder to an evaluated and exported network."""

import dataclasses
import platform
from importlib import metadata
from pathlib import Path

from keras_l2e import __version__, command_line, devices, files, pretrained, tables
from keras_l2e import config as configs
from keras_l2e.config import Config
from keras_l2e.errors import UsageError
from keras_l2e.training import workers

# What says that a run is over, written last; the last one first.
RESULTS = ("evaluation.json", "model.keras")


def train(config: Config, workdir: str | Path) -> Path:
    """Runs a training, or what is left of it, and gives its folder; see `keras_l2e.train`."""
    named = configs.Run(**vars(config) | {"workdir": workdir})  # As flags.cfg is to hold it.
    workdir = command_line.check_folder("workdir", named.workdir)
    config = settle(config, workdir)
    if is_finished(config, workdir):
        print(f"{workdir} holds a finished run; nothing to do")
        return workdir
    devices.load_tensorflow(config.onednn)
    config = share_among_replicas(config)
    start = workers.start if workers.num_workers() > 1 else devices.start
    strategy = start(config.num_replicas, config.threads_per_replica)
    if not workers.is_chief():
        run(config, workdir, strategy)
        return workdir
    workdir.mkdir(parents=True, exist_ok=True)
    with files.lock(workdir):
        run(config, workdir, strategy)
    return workdir


def run(config: Config, workdir: Path, strategy) -> None:
    """Trains under a strategy as far as is left to do; the chief leaves the results."""
    from keras_l2e.training.run import Run

    describe(config, workdir)
    with devices.own_keras_settings():
        training = Run(config, workdir, strategy)
        # Not before: settings that do not fit the network leave nothing, and of a run that cannot
        # go on nothing is lost.
        if workers.is_chief():
            for name in RESULTS:  # Those of fewer epochs.
                (workdir / name).unlink(missing_ok=True)
            configs.write(workdir, config)
        training.train()
        if workers.is_chief():
            finish(training)
        workers.share(strategy, None)  # To go while the chief still works would look like a loss.


def is_finished(config: Config, workdir: Path) -> bool:
    """Whether nothing is left to do: all is evaluated, and no more epochs are wanted.

    A run that ended before its last epoch, by --stop_at_exact_match say, would end there again.
    """
    if not (workdir / "evaluation.json").exists():
        return False
    earlier = configs.read(workdir).num_epochs
    if config.num_epochs == earlier:
        return True
    return len(tables.read_history(workdir / "history.jsonl")) < earlier


def settle(config: Config, workdir: Path) -> Config:
    """The config in force, as far as TensorFlow is not needed to know it.

    What is left open (`auto`, 0 replicas) is taken over from the run to be resumed.

    Raises:
        UsageError: the run in `workdir` was started with another value, or other files are there.
    """
    if (workdir / configs.NAME).exists():
        earlier = configs.read(workdir)
        config = dataclasses.replace(
            config,
            num_replicas=config.num_replicas or earlier.num_replicas,
            threads_per_replica=config.threads_per_replica or earlier.threads_per_replica,
            onednn=earlier.onednn if config.onednn == "auto" else config.onednn,
        )
        configs.check_same(workdir, config, earlier)
        return config
    ours = (files.UNFINISHED, files.LOCK)
    if workdir.exists() and any(not path.name.startswith(ours) for path in workdir.iterdir()):
        raise UsageError(f"--workdir={workdir} holds other files; name a new or empty folder")
    if config.initial_model:
        pretrained.find_run(config.initial_model)
    onednn = devices.default_onednn() if config.onednn == "auto" else config.onednn
    return dataclasses.replace(config, onednn=onednn)


def share_among_replicas(config: Config) -> Config:
    """Decides num_replicas and threads_per_replica where they were left open.

    Raises:
        UsageError: there are not so many devices, or the batch cannot be shared evenly.
    """
    num_workers, num_replicas = workers.num_workers(), config.num_replicas
    if num_workers > 1:
        num_devices = num_workers * (devices.num_gpus() or 1)
        if num_replicas not in (0, num_devices):
            raise UsageError(
                f"--num_replicas={num_replicas}; TF_CONFIG names {num_workers} workers, which hold "
                f"{num_devices}"
            )
        num_replicas = num_devices
    num_replicas = num_replicas or devices.default_num_replicas()
    if num_workers == 1 and num_replicas > devices.num_devices():
        raise UsageError(f"--num_replicas={num_replicas}; allowed 0 to {devices.num_devices()}")
    if config.global_batch_size % num_replicas:
        raise UsageError(
            f"--global_batch_size={config.global_batch_size}; allowed multiples of the "
            f"{num_replicas} replicas"
        )
    threads = max(1, devices.num_cores() * num_workers // num_replicas)
    return dataclasses.replace(
        config,
        num_replicas=num_replicas,
        threads_per_replica=config.threads_per_replica or threads,
    )


def describe(config: Config, workdir: Path) -> None:
    """Shows what the run's numbers depend on."""
    print(f"workdir: {workdir}")
    packages = (f"{name} {metadata.version(name)}" for name in ("tensorflow", "keras", "numpy"))
    print(f"keras_l2e {__version__}, {', '.join(packages)}, Python {platform.python_version()}")
    print(
        f"replicas: {config.num_replicas}, threads in each: {config.threads_per_replica}, "
        f"cores: {devices.num_cores()}, oneDNN: {config.onednn}"
    )


def finish(run) -> None:
    """Saves, evaluates and exports the network of a `Run` that is over; evaluation.json is last."""
    from keras_l2e import plots
    from keras_l2e.networks import saved_model
    from keras_l2e.training import evaluation

    saved_model.save(run.averaged, run.config.interface, run.workdir / "saved_model")
    plots.plot_learning_curve(run.history, run.workdir / "learning_curve.png")
    # After them: from here on the evaluation may also be made by `evaluate`.
    files.write_atomically(run.workdir / "model.keras", lambda path: run.averaged.save(path))
    print("evaluating on the test split")
    result = evaluation.evaluate(run.config, run.averaged)
    evaluation.write(run.workdir, result)
    print(tables.format_table(result))
    print(tables.format_samples(result))
    print(f"results, plots and SavedModel: {run.workdir}")
