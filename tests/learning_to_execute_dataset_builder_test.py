import hashlib
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

from keras_l2e.data import stored
from keras_l2e.data.candidates import Candidates
from keras_l2e.language import programs
from keras_l2e.language.programs import Example
from keras_l2e.language.tasks import EXAMPLES_PER_DIFFICULTY, TASKS, Difficulty

FOLDER = pathlib.Path(l2e.__file__).parent
TFDS = pathlib.Path(sys.executable).with_name("tfds")
README = (FOLDER / "README.md").read_text()
# Small classes have fewer distinct programs than are asked for, and repeat those they have.
SMALL_CLASSES = ["program_length_1_nesting_1_examples_1500", "addition_length_1_examples_300"]
LARGE_CLASSES = ["program_length_2_nesting_3_examples_300", "addition_length_9_examples_300"]


class LearningToExecuteTest(tfds.testing.DatasetBuilderTestCase):
    DATASET_CLASS = l2e.Builder
    BUILDER_CONFIG_NAMES_TO_TEST = [  # noqa: RUF012
        l2e.config_from_name("program_length_4_nesting_2_examples_20")
    ]
    SPLITS = {"train": 20, "validation": 20, "test": 20}  # noqa: RUF012
    EXAMPLE_DIR = os.path.dirname(__file__)  # Nothing is read from it, but it must exist.

    def test_session(self, **options):
        return super().test_session(**options)

    test_session.__test__ = False  # It is none, and TensorFlow's own skips itself.


def build(name, data_dir, **options):
    builder = l2e.Builder(config=name, data_dir=data_dir)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**options))
    return builder


def examples(name, split):
    """The examples that a config chooses for a split."""
    candidates = l2e.config_from_name(name).candidates
    return [candidates.candidate(i) for i in candidates.choose()[split]]


def file_hashes(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in pathlib.Path(folder).iterdir()
    }


@pytest.mark.parametrize(
    ("name", "program", "target", "trace"),
    [
        (
            "program_length_4_nesting_2",
            "h=2296;\nprint((1700 if 906>5519 else (h+2734)))",
            "5030",
            "5030;5030",
        ),
        ("addition_length_9", "print(735221849+208143007)", "943364856", "943364856"),
        ("copy_length_20", "93469331831134137266", "93469331831134137266", ""),
        (
            "control_length_4_nesting_1",
            "b=6731\nfor x in range(4):b-=6802\nprint(b)",
            "-20477",
            "-71;-6873;-13675;-20477",
        ),
        ("reverse_length_10", "0410023268", "8623200140", ""),
        ("double_length_10", "6287268854", "62872688546287268854", ""),
    ],
)
def test_golden_examples(name, program, target, trace):
    """If this fails, the data have changed: raise VERSION and write a release note."""
    assert stored.VERSION == "1.1.0"
    assert examples(f"{name}_examples_1", "train") == [(program, target, trace)]
    shown = program.replace("\n", "` newline `")
    assert f"| `{name}`" in README and f" `{shown}` | `{target}` |" in README


def test_golden_bytes(tmp_path):
    """If this fails, the data have changed: raise VERSION and write a release note."""
    assert stored.VERSION == "1.1.0" and stored.VERSION in l2e.Builder.RELEASE_NOTES
    builder = build("program_length_4_nesting_2_examples_20", tmp_path)
    assert file_hashes(builder.data_dir)["learning_to_execute-train.tfrecord-00000-of-00001"] == (
        "86561da8e09e5d0f11619b03411e147f4d072a870ba6397ad0e6f774a5dc9c93"
    )
    for split in programs.SPLITS:
        found = list(tfds.as_numpy(builder.as_dataset(split=split)))
        texts = [tuple(row[name].decode() for name in Example._fields) for row in found]
        assert texts == examples(builder.builder_config.name, split)
        assert {(row["length"], row["nesting"]) for row in found} == {(4, 2)}


def test_a_config_for_each_task_and_difficulty():
    assert len(l2e.Builder.builder_configs) == sum(
        len(task.difficulties()) for task in TASKS.values()
    )
    sizes = {"train": 50_000, "validation": 2_000, "test": 10_000}
    for config in l2e.Builder.BUILDER_CONFIGS:
        assert config.candidates.difficulty in TASKS[config.candidates.task].difficulties()
        assert config.candidates.split_sizes == sizes
    config = l2e.config_from_name("program_length_12_nesting_10_examples_7")
    assert config.name == "program_length_12_nesting_10_examples_7"
    assert config.candidates == Candidates("program", Difficulty(12, 10), 7)
    assert config.candidates.split_sizes == dict.fromkeys(programs.SPLITS, 7)


@pytest.mark.parametrize("name", SMALL_CLASSES + LARGE_CLASSES)
def test_splits_are_disjoint_and_held_out_programs_distinct(name):
    for split in programs.SPLITS:
        found = examples(name, split)
        renamed = {programs.rename_variables(example.program) for example in found}
        assert {programs.split_of(program) for program in renamed} == {split}
        assert split == "train" or len(renamed) == len(found)
        if name in SMALL_CLASSES:
            full = len(found) == l2e.config_from_name(name).candidates.examples_per_difficulty
            assert full == (split == "train") and (split != "train" or len(renamed) < len(found))


def test_a_small_split_begins_a_larger_one():
    small, large = (f"program_length_3_nesting_2_examples_{size}" for size in (50, 80))
    for split in programs.SPLITS:
        assert examples(small, split) == examples(large, split)[:50]


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
    assert len(set(examples(name, "train"))) == train
    sizes = {split: len(examples(name, split)) for split in programs.SPLITS}
    assert sizes == {"train": 2_000, "validation": validation, "test": test}


@pytest.mark.parametrize(
    "name", ["copy_length_1", "copy_length_2", "addition_length_1", "program_length_1_nesting_1"]
)
def test_the_candidates_suffice_for_every_training_split(name):
    """Also in small classes, of whose few texts less than a third may be training's."""
    candidates, rng = l2e.config_from_name(name).candidates, random.Random(1)
    task, difficulty = TASKS[candidates.task], candidates.difficulty
    draws = [task.generate(rng, difficulty) for _ in range(10_000)]
    share = sum(programs.split_of(draw.program) == "train" for draw in draws) / len(draws)
    share -= 4 * 0.005  # It is known to half a per cent.
    sigma = (candidates.num_candidates * share * (1 - share)) ** 0.5
    assert candidates.num_candidates * share - 4 * sigma > EXAMPLES_PER_DIFFICULTY


def test_beam_and_a_plain_build_write_the_same_bytes(tmp_path):
    """Of a class that runs out of distinct programs."""
    import apache_beam

    hashes = []
    for runner in (None, apache_beam.runners.DirectRunner()):
        builder = build(
            "program_length_1_nesting_1_examples_900",
            tmp_path / str(runner is None),
            beam_runner=runner,
        )
        hashes.append(file_hashes(builder.data_dir))
        info = json.loads(pathlib.Path(builder.data_dir, "dataset_info.json").read_text())
        assert info["description"] == README.strip()
        assert builder.info.splits["train"].num_examples == 900
        assert builder.info.splits["test"].num_examples < 900
    assert hashes[0] == hashes[1] and len(hashes[0]) == 5


def test_the_readme_s_lines_load_the_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "addition_length_9_examples_20"
    build(name, "D")
    (code,) = re.findall("```python\n(.*?)```", README, re.DOTALL)
    found = {}
    exec(code.replace("addition_length_9", name), found)
    texts = [
        (program.numpy().decode(), target.numpy().decode()) for program, target in found["train"]
    ]
    assert sorted(texts) == sorted(example[:2] for example in examples(name, "train"))
    with pytest.raises(ValueError, match="ordered dataset"):
        exec(re.sub(" *read_config.*\n", "", code).replace("addition_length_9", name), {})


def test_an_unknown_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown config 'addition_length_65'; one like 'program_"):
        l2e.Builder(config="addition_length_65", data_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def build_by_command(here, data_dir, *arguments, cwd):
    """Runs `tfds build` of what is built `here` already; gives the folder that it leaves."""
    process = subprocess.run(
        [TFDS, "build", *arguments, f"--data_dir={data_dir}"],
        cwd=cwd,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    there = pathlib.Path(data_dir, here.info.full_name)
    assert len(file_hashes(there)) == 5
    return there


@pytest.mark.slow
def test_beam_in_two_processes_writes_the_same_bytes(tmp_path):
    name = "program_length_2_nesting_1_examples_6000"
    here = build(name, tmp_path / "here")
    # Of several blocks, with more programs than validation takes and fewer than test asks for.
    assert here.builder_config.candidates.num_blocks > 1
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


@pytest.mark.slow
def test_a_build_in_the_builder_s_folder_writes_the_same_bytes(tmp_path):
    """Another process: in one process protobuf orders its maps the same way each time."""
    name = "program_length_4_nesting_2_examples_20"
    here = build(name, tmp_path / "here")
    there = build_by_command(here, tmp_path / "there", f"--config={name}", cwd=FOLDER)
    # A builder found in its folder has another name, which TFDS notes; all else is the same.
    info = there / "dataset_info.json"
    module = '"learning_to_execute.learning_to_execute_dataset_builder"'
    assert module in info.read_text()
    info.write_text(info.read_text().replace(module, f'"{l2e.__name__}"'))
    assert file_hashes(here.data_dir) == file_hashes(there)
