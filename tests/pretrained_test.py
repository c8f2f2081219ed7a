import json
import math
import random
from types import SimpleNamespace

import pytest
from absl import flags

from keras_l2e import command_line, pretrained
from keras_l2e import config as run_flags
from keras_l2e import tables as report
from keras_l2e.errors import UsageError
from keras_l2e.language import programs
from keras_l2e.language.tasks import TASKS, Difficulty
from keras_l2e.networks import models
from keras_l2e.training.scoring import Scorer

NETWORKS = {
    "addition_9": ("addition", 9, 1),
    "addition_32": ("addition", 32, 1),
    "copy_3": ("copy", 3, 1),
    "programs_5_2": ("program", 5, 2),
}


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """Folders of networks, as far as they are seen without TensorFlow."""
    for name, (task, length, nesting) in NETWORKS.items():
        values = flags.FlagValues()
        run_flags.define(values)
        values(["", f"--workdir={name}", f"--task={task}"])
        changes = {"target_length": length, "target_nesting": nesting}
        (tmp_path / name).mkdir()
        config = SimpleNamespace(**values.flag_values_dict() | changes)
        run_flags.write(tmp_path / name, config)
        (tmp_path / name / "model.keras").write_bytes(b"")
    (tmp_path / "no_network").mkdir()
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    return tmp_path


def test_names(networks):
    assert pretrained.names() == sorted(NETWORKS)
    assert pretrained.find("addition_9") == networks / "addition_9"
    with pytest.raises(UsageError, match=r"no network 'no_network'; .* addition_32, addition_9"):
        pretrained.find("no_network")


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("print(1+2)", "addition_9"),
        ("print(123456789+100000000)", "addition_9"),
        ("print(1234567890+1000000000)", "addition_32"),
        (f"print({'1' * 32}+{'9' * 32})", "addition_32"),
        ("print((12+34))", "programs_5_2"),
        ("print((100000-7))", "programs_5_2"),
        ("print(3)", "programs_5_2"),
        ("i=38;\nprint((i-12))", "programs_5_2"),
        ("012", "copy_3"),
    ],
)
def test_the_network_that_was_trained_on_such_a_program(networks, program, name):
    assert pretrained.suited(program) == name


@pytest.mark.parametrize(
    "program",
    [
        "",
        "hello",
        "print(1/2)",
        "print(1+2+3)",
        "print(01+2)",
        f"print({'1' * 33}+{'9' * 33})",
        "print(1+23)",
        "print((100001-7))",
        "print((((1+2)+3)+4))",
        "1234",
    ],
)
def test_no_network_was_trained_on_such_a_text(networks, program):
    with pytest.raises(UsageError) as error:
        pretrained.suited(program)
    assert "programs_5_2 (task program, length 5, nesting 2)" in str(error.value)


def test_what_was_measured_on_such_programs(networks):
    rows = [{"length": 5, "nesting": 1, "exact_match": 0.99996}]
    for name in ("programs_5_2", "addition_9"):
        (networks / name / "evaluation.json").write_text(json.dumps({"rows": rows}))
    assert (
        pretrained.measured("addition_9", "print(12345+67890)") == "exact_match >0.9999 at length 5"
    )
    assert pretrained.measured("addition_9", "print(1+2)") == ""
    measured = pretrained.measured("programs_5_2", "print((12345+67890))")
    assert measured == "exact_match >0.9999 at length 5, nesting 1"


def test_a_run_is_a_folder_or_a_name(networks, tmp_path, monkeypatch):
    monkeypatch.chdir(networks / "no_network")
    assert pretrained.find_run("addition_9") == networks / "addition_9"
    assert pretrained.find_run(str(networks / "copy_3")) == networks / "copy_3"
    with pytest.raises(UsageError, match="no network 'nothing'"):
        pretrained.find_run("nothing")
    with pytest.raises(UsageError, match="no training run in"):
        pretrained.find_run(str(networks / "no_network"))


def test_a_folder_or_a_name_is_chosen(networks):
    assert pretrained.chosen(None, "addition_9") == networks / "addition_9"
    assert pretrained.chosen(str(networks / "copy_3"), None) == networks / "copy_3"
    for both_or_none in (("a", "addition_9"), (None, None)):
        with pytest.raises(UsageError, match="exactly one of --workdir and --pretrained"):
            pretrained.chosen(*both_or_none)


# The networks themselves


@pytest.mark.parametrize("name", pretrained.names())
def test_a_network_is_small_and_has_its_card(name):
    folder = pretrained.find(name)
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["README.md", "evaluation.json", "flags.cfg", "model.keras"]
    assert (folder / "model.keras").stat().st_size < 12e6
    card = (folder / "README.md").read_text()
    assert report.format_markdown_table(report.read_evaluation(folder / "evaluation.json")) in card
    # Its training is not repeated by this release, as its card says.
    assert (command_line.FLAGFILES / f"{name}.cfg").is_file() == (name != "programs_5_2")


@pytest.mark.parametrize("name", pretrained.names())
def test_a_network_is_as_good_as_published(name):
    folder = pretrained.find(name)
    config = run_flags.read(folder)
    published = report.read_evaluation(folder / "evaluation.json")["rows"][-1]
    target = Difficulty(config.target_length, config.target_nesting)
    assert (published["length"], published["nesting"]) == target
    # Not those it was published with.
    rng, examples = random.Random(1), []
    while len(examples) < 500:
        example = TASKS[config.task].generate(rng, target)
        if programs.split_of(example.program) == "test":
            examples.append([text.encode() for text in example])
    max_steps = TASKS[config.task].longest(target)[1] + 1
    scorer = Scorer(models.load(folder / "model.keras"), config.input_form, max_steps)
    scores = scorer.score(*zip(*examples, strict=True))
    for metric in ("token_accuracy", "exact_match"):
        rate = published[metric]
        assert abs(getattr(scores, metric)() - rate) <= 4 * math.sqrt(rate * (1 - rate) / 500)
