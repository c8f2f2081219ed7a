import hashlib
import itertools
import json
import os
import pathlib
import random
import re
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds
from keras_l2e_datasets.learning_to_execute import learning_to_execute_dataset_builder as l2e

from keras_l2e.data import stored as prepared_data
from keras_l2e.language import programs, tasks
from keras_l2e.language.tasks import TASKS, Difficulty

# Small classes have fewer distinct programs than are asked for, and repeat those they have.
SMALL_CLASSES = ["program_length_1_nesting_1_examples_3000", "addition_length_1_examples_600"]
LARGE_CLASSES = ["program_length_2_nesting_3_examples_300", "addition_length_9_examples_300"]


class LearningToExecuteTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = l2e.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [  # noqa: RUF012
        l2e.config_from_name("program_length_4_nesting_2_examples_20"),
        l2e.config_from_name("addition_length_3_examples_20"),
        l2e.config_from_name("copy_length_20_examples_20"),
    ]
    SPLITS = {"train": 20, "validation": 20, "test": 20}  # noqa: RUF012
    EXAMPLE_DIR = os.path.dirname(__file__)  # Nothing is read from it, but it must exist.


def build(name, data_dir):
    builder = l2e.Builder(config=name, data_dir=data_dir)
    builder.download_and_prepare()
    return builder


def examples(config, split):
    """The examples that the config chooses for a split."""
    return [config.candidate(i) for i in config.choose()[split]]


def stored_examples(builder, split):
    return list(tfds.as_numpy(builder.as_dataset(split=split)))


def file_hashes(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in pathlib.Path(folder).iterdir()
    }


@pytest.mark.parametrize(
    ("name", "program", "target"),
    [
        (
            "program_length_4_nesting_2",
            "h=2296;\nprint((1700 if 906>5519 else (h+2734)))",
            "5030",
        ),
        ("addition_length_9", "print(735221849+208143007)", "943364856"),
        ("copy_length_20", "93469331831134137266", "93469331831134137266"),
    ],
)
def test_golden_examples(name, program, target):
    """If this fails, the data have changed: raise VERSION and write a release note."""
    assert prepared_data.VERSION == "1.0.0"
    config = l2e.config_from_name(f"{name}_examples_1")
    assert examples(config, "train") == [(program, target)]
    readme = pathlib.Path(l2e.__file__).with_name("README.md").read_text()
    shown = program.replace("\n", "` newline `")
    assert f" `{shown}` | `{target}` |" in readme


def test_golden_bytes(tmp_path):
    """If this fails, the data have changed: raise VERSION and write a release note."""
    assert prepared_data.VERSION == "1.0.0"
    hashes = file_hashes(build("program_length_4_nesting_2_examples_20", tmp_path).data_dir)
    assert hashes["learning_to_execute-train.tfrecord-00000-of-00001"] == (
        "aa9037d02fb36ecc8839b01190561b23b8b0fb4ec0f2af44905393b1624dea60"
    )


def test_version_has_a_release_note():
    assert str(l2e.Builder.VERSION) in l2e.Builder.RELEASE_NOTES


def test_a_config_for_each_task_and_difficulty():
    assert len(l2e.Builder.builder_configs) == 12 * 10 + 64 + 65
    for config in l2e.Builder.BUILDER_CONFIGS:
        assert config.difficulty in TASKS[config.task].difficulties()
        assert config.examples_per_difficulty == 50_000


def test_config_names():
    config = l2e.config_from_name("program_length_12_nesting_10_examples_7")
    assert config.name == "program_length_12_nesting_10_examples_7"
    assert config.difficulty == Difficulty(12, 10)
    assert config.split_sizes == {"train": 7, "validation": 7, "test": 7}
    default = l2e.config_from_name("copy_length_20")
    assert default.split_sizes == {"train": 50_000, "validation": 2_000, "test": 10_000}


@pytest.mark.parametrize("name", SMALL_CLASSES + LARGE_CLASSES)
def test_splits_are_disjoint_and_held_out_programs_distinct(name):
    config = l2e.config_from_name(name)
    digests = {}
    for split in programs.SPLITS:
        found = [programs.rename_variables(program) for program, _ in examples(config, split)]
        assert all(programs.split_of(program) == split for program in found)
        assert split == "train" or len(set(found)) == len(found)
        digests[split] = set(found)
    for one, other in itertools.combinations(digests.values(), 2):
        assert not one & other


@pytest.mark.parametrize("name", SMALL_CLASSES)
def test_small_classes_repeat_in_training_and_run_out_elsewhere(name):
    config = l2e.config_from_name(name)
    train = examples(config, "train")
    assert len(train) == config.examples_per_difficulty > len(set(train))
    assert 0 < len(examples(config, "test")) < config.examples_per_difficulty


def test_held_out_splits_take_the_first_of_equal_candidates():
    config = l2e.config_from_name("addition_length_1_examples_600")
    first = {}
    for i in range(config.num_candidates):
        first.setdefault(config.candidate(i).program, i)
    assert all(first[config.candidate(i).program] == i for i in config.choose()["test"])


def test_a_small_split_begins_a_larger_one():
    small = l2e.config_from_name("program_length_3_nesting_2_examples_50")
    large = l2e.config_from_name("program_length_3_nesting_2_examples_80")
    for split in programs.SPLITS:
        assert examples(small, split) == examples(large, split)[:50]


def test_stored_examples_are_those_of_the_config_in_order(tmp_path):
    builder = build("program_length_2_nesting_3_examples_30", tmp_path)
    for split in programs.SPLITS:
        stored = stored_examples(builder, split)
        assert [(e["program"].decode(), e["target"].decode()) for e in stored] == [
            *examples(builder.builder_config, split)
        ]
        assert {(e["length"], e["nesting"]) for e in stored} == {(2, 3)}


def test_two_processes_write_the_same_bytes(tmp_path):
    """The other process matters: in one process protobuf orders its maps the same way each time."""
    difficulty = Difficulty(3, 2)
    here = build("program_length_3_nesting_2_examples_100", tmp_path / "here")
    prepared_data.prepare("program", [difficulty], tmp_path / "there", 100)
    there = here.data_dir.replace(str(tmp_path / "here"), str(tmp_path / "there"))
    assert len(file_hashes(here.data_dir)) == 5
    assert file_hashes(here.data_dir) == file_hashes(there)


def build_by_command(here, data_dir, *arguments, cwd):
    """Runs `tfds build` of what is built `here` already; gives the folder that it leaves."""
    command = [sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build"]
    process = subprocess.run(
        [*command, *arguments, f"--data_dir={data_dir}"],
        cwd=cwd,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    there = pathlib.Path(data_dir, here.info.full_name)
    assert len(file_hashes(there)) == 5
    return there


def test_beam_in_two_processes_writes_the_same_bytes(tmp_path):
    name = "program_length_2_nesting_1_examples_6000"
    here = build(name, tmp_path / "here")
    # Of several blocks, with more programs than validation takes and fewer than test asks for.
    assert here.builder_config.num_blocks > 1
    train, validation, test = (here.info.splits[split].num_examples for split in programs.SPLITS)
    assert (train, validation) == (6_000, 2_000) and test < 6_000
    there = build_by_command(
        here,
        tmp_path / "there",
        f"learning_to_execute/{name}",
        "--imports=keras_l2e_datasets.learning_to_execute",
        "--beam_pipeline_options=runner=DirectRunner,direct_num_workers=2,"
        "direct_running_mode=multi_processing",
        cwd=tmp_path,
    )
    assert file_hashes(here.data_dir) == file_hashes(there)


def test_a_build_in_the_builder_s_folder_writes_the_same_bytes(tmp_path):
    name = "program_length_4_nesting_2_examples_20"
    here = build(name, tmp_path / "here")
    folder = pathlib.Path(__file__).parent.parent / "datasets/learning_to_execute"
    there = build_by_command(here, tmp_path / "there", f"--config={name}", cwd=folder)
    # A builder found in its folder has another name, which TFDS notes; all else is the same.
    info = there / "dataset_info.json"
    module = '"learning_to_execute.learning_to_execute_dataset_builder"'
    assert module in info.read_text()
    info.write_text(info.read_text().replace(module, f'"{l2e.__name__}"'))
    assert file_hashes(here.data_dir) == file_hashes(there)


def test_beam_and_a_plain_build_are_capped_alike(tmp_path):
    import apache_beam

    hashes = {}
    for runner in (None, apache_beam.runners.DirectRunner()):
        data_dir = tmp_path / str(runner is None)
        builder = l2e.Builder(config="program_length_1_nesting_1_examples_90", data_dir=data_dir)
        download_config = tfds.download.DownloadConfig(max_examples_per_split=20)
        download_config.beam_runner = runner
        builder.download_and_prepare(download_config=download_config)
        assert "train is smaller than 90: this build was capped." in description(builder)
        hashes[runner is None] = file_hashes(builder.data_dir)
    assert hashes[True] == hashes[False]


def description(builder):
    return json.loads(pathlib.Path(builder.data_dir, "dataset_info.json").read_text())[
        "description"
    ]


def test_description_tells_the_shares_of_the_operations(tmp_path):
    builder = build("program_length_1_nesting_1_examples_3000", tmp_path)
    text = description(builder)
    readme = pathlib.Path(l2e.__file__).with_name("README.md").read_text()
    assert text.startswith(readme.strip())
    num_test = builder.info.splits["test"].num_examples
    assert f"test {num_test:,}." in text
    assert "test is smaller than 3,000: 13,000 draws yield no more distinct programs" in text
    assert "train is smaller" not in text
    for split in programs.SPLITS:
        shares = re.search(f"Operations in {split}: (.*)", text)[1]
        counts = [
            programs.count_operations(e["program"].decode(), 1)
            for e in stored_examples(builder, split)
        ]
        share = sum(count["ifstat"] for count in counts) / len(counts)
        assert f"ifstat {share:.1%}" in shares
    assert l2e.Builder(config=builder.builder_config, data_dir=tmp_path).info.description == text


# Of the classes with few texts: the splits' numbers of texts, all of which are found.
@pytest.mark.parametrize(
    ("name", "train", "validation", "test"),
    [
        ("copy_length_1_examples_2000", 5, 3, 2),
        ("copy_length_2_examples_2000", 29, 35, 36),
        ("addition_length_1_examples_2000", 37, 34, 29),
    ],
)
def test_no_split_is_empty_and_training_is_full(name, train, validation, test):
    config = l2e.config_from_name(name)
    assert len(set(examples(config, "train"))) == train
    sizes = {split: len(numbers) for split, numbers in config.choose().items()}
    assert sizes == {"train": 2_000, "validation": validation, "test": test}


@pytest.mark.parametrize(
    "name", ["copy_length_1", "copy_length_2", "addition_length_1", "program_length_1_nesting_1"]
)
def test_the_candidates_suffice_for_every_training_split(name):
    """Also in small classes, of whose few texts less than a third may be training's."""
    config, rng = l2e.config_from_name(name), random.Random(1)
    draws = [TASKS[config.task].generate(rng, config.difficulty) for _ in range(10_000)]
    share = sum(programs.split_of(draw.program) == "train" for draw in draws) / len(draws)
    share -= 4 * 0.005  # It is known to half a per cent.
    sigma = (config.num_candidates * share * (1 - share)) ** 0.5
    assert config.num_candidates * share - 4 * sigma > tasks.EXAMPLES_PER_DIFFICULTY


def test_unknown_config_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"unknown config 'addition_length_65'; allowed are prog"):
        l2e.Builder(config="addition_length_65", data_dir=tmp_path)
    command = [
        pathlib.Path(sys.executable).with_name("tfds"),
        "build",
        "--config=addition_length_65",
    ]
    process = subprocess.run(
        [*command, f"--data_dir={tmp_path}"],
        cwd=pathlib.Path(__file__).parent.parent / "datasets/learning_to_execute",
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    (line,) = [line for line in process.stderr.splitlines() if line.startswith("error")]
    assert "'addition_length_65'" in line
    assert "addition_length_1..64" in line
    assert list(tmp_path.iterdir()) == []
