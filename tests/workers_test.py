import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess

import pytest

from keras_l2e import devices
from keras_l2e.config import Config
from keras_l2e.errors import UsageError
from keras_l2e.training import session, workers

FLAGS = [
    "--task=addition",
    "--target_length=2",
    "--examples_per_difficulty=300",
    "--num_epochs=6",
    "--batches_per_epoch=20",
    "--hidden_dim=16",
    "--embedding_dim=8",
    "--global_batch_size=32",
    "--validation_examples=50",
    "--test_examples=60",
    "--data_dir=data",
]


def tf_config(index, ports):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def test_without_a_cluster_there_is_one_worker(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert workers.read_config() == (0, 1)
    assert workers.is_chief()
    assert workers.share(None, {"a": [0.1]}) == {"a": [0.1]}


def test_a_worker_knows_its_number(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config(1, [1, 2, 3]))
    assert workers.read_config() == (1, 3)
    assert not workers.is_chief()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        tf_config(2, [1, 2]),
        tf_config(-1, [1, 2]),
        tf_config(0, [1, 2]).replace('"type": "worker"', '"type": "ps"'),
        tf_config(0, [1, 2]).replace('"type": "worker"', '"kind": "worker"'),
        tf_config(0, [1, 2]).replace('"worker": [', '"ps": ["127.0.0.1:9"], "worker": ['),
    ],
)
def test_other_clusters_are_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError, match="allowed is a cluster of workers"):
        workers.read_config()


def share_among_replicas(**changes):
    """The settings as a session decides them, of two workers."""
    found = session.share_among_replicas(Config(**{"global_batch_size": 24, **changes}))
    return found.num_replicas, found.threads_per_replica


@pytest.mark.parametrize(("num_gpus", "num_replicas"), [(0, 2), (4, 8)])
def test_workers_hold_as_many_replicas_as_they_have_devices(monkeypatch, num_gpus, num_replicas):
    monkeypatch.setenv("TF_CONFIG", tf_config(0, [1, 2]))
    monkeypatch.setattr(devices, "num_gpus", lambda: num_gpus)
    monkeypatch.setattr(devices, "num_cores", lambda: 16)
    expected = (num_replicas, 16 * 2 // num_replicas)
    assert share_among_replicas() == expected
    assert share_among_replicas(num_replicas=num_replicas) == expected
    with pytest.raises(UsageError) as error:
        share_among_replicas(num_replicas=6)
    assert str(error.value) == (
        f"--num_replicas=6; TF_CONFIG names 2 workers, which hold {num_replicas}"
    )
    with pytest.raises(UsageError, match=f"allowed multiples of the {num_replicas} replicas"):
        share_among_replicas(global_batch_size=25)


def free_ports(count):
    """Below 32768: from there on the system itself may take them before a worker does."""
    ports = []
    for port in random.sample(range(20_000, 32_768), 100):
        with socket.socket() as each, contextlib.suppress(OSError):
            each.bind(("127.0.0.1", port))
            ports.append(port)
    return ports[:count]


@pytest.fixture
def start_workers(tmp_path, start_command):
    """Starts the workers of a run in `tmp_path / "two"`."""

    def start(indices=(0, 1)):
        ports = free_ports(2)
        return [
            start_command(
                "train",
                *FLAGS,
                "--workdir=two",
                cwd=tmp_path,
                env=os.environ | {"TF_CONFIG": tf_config(index, ports)},
            )
            for index in indices
        ]

    return start


@pytest.mark.slow
def test_two_workers_train_as_two_replicas_do_and_survive_the_loss_of_one(
    tmp_path, start_workers, start_command
):
    chief, other = start_workers()
    assert any(line.startswith("epoch 2/") for line in chief.stdout), chief.stderr.read()
    other.send_signal(signal.SIGKILL)
    _, stderr = chief.communicate()
    assert chief.returncode == 1
    assert re.fullmatch(
        r"error: another worker was lost; the same command on all of them goes on .*\n", stderr
    ), stderr
    assert not (tmp_path / "two/evaluation.json").exists()

    chief, other = start_workers()
    outputs = [process.communicate() for process in (chief, other)]
    assert (chief.returncode, outputs[0][1]) == (0, ""), outputs
    assert (other.returncode, outputs[1][1]) == (0, ""), outputs
    for stdout, _ in outputs:
        assert re.search(r"^going on after epoch [2-5]$", stdout, re.MULTILINE)
    assert "epoch 6/6" in outputs[0][0]
    assert "epoch 6/6" not in outputs[1][0]

    one = start_command("train", *FLAGS, "--num_replicas=2", "--workdir=one", cwd=tmp_path)
    assert any(line.startswith("epoch 6/6") for line in one.stdout), one.stderr.read()
    one.kill()  # Only its history is wanted.
    histories = [
        [json.loads(line) for line in (tmp_path / name / "history.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(histories[0]) == 6
    for one, two in zip(*histories, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["token_accuracy"] == pytest.approx(one["token_accuracy"], rel=1e-5)
    assert (tmp_path / "two/evaluation.json").exists()


@pytest.mark.slow
def test_a_worker_that_waits_for_another_is_ended_by_ctrl_c(tmp_path, start_workers):
    (worker,) = start_workers([0])
    assert worker.stdout.readline() == "worker 0 of 2: waiting for the others\n"
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(1)  # In TensorFlow's own code.
    worker.send_signal(signal.SIGINT)
    assert worker.wait(60) == -signal.SIGINT  # Which a shell gives as 130.
    assert worker.stderr.read() == ""
    assert not (tmp_path / "two/checkpoints").exists()
