"""The networks that come with the package: which one answers, what is said where none does."""

import dataclasses
import json
import math
import pathlib
import random

import pytest
from conftest import drawn

from keras_l2e import command_line, pretrained, tables
from keras_l2e import config as configs
from keras_l2e.config import Config
from keras_l2e.errors import UsageError
from keras_l2e.language import interpreter, rewriting
from keras_l2e.language.programs import Example
from keras_l2e.language.tasks import TASKS
from keras_l2e.networks import models
from keras_l2e.training.scoring import Scorer

NETWORKS = {
    "addition_9": ("addition", 9, 1),
    "addition_32": ("addition", 32, 1),
    "copy_3": ("copy", 3, 1),
    "programs_5_2": ("program", 5, 2),
    "programs_with_work": ("program", 5, 2),
}
# The flagfile that trains it, if its name is another. Later releases cannot repeat programs_5_2.
FLAGFILES = {
    "programs": "programs_trace",
    "programs_9_3": "programs_trace_9_3",
    "programs_5_2": None,
}


@pytest.fixture
def networks(tmp_path, monkeypatch):
    """Folders of networks, as far as they are seen without TensorFlow."""
    for name, (task, length, nesting) in NETWORKS.items():
        (tmp_path / name).mkdir()
        config = Config(task=task, target_length=length, target_nesting=nesting)
        if name.endswith("with_work"):
            config = dataclasses.replace(config, target_form="trace")
        configs.write(tmp_path / name, config)
        (tmp_path / name / "model.keras").write_bytes(b"")
    (tmp_path / "no_network").mkdir()
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    return tmp_path


def test_names(networks, monkeypatch, tmp_path_factory):
    assert pretrained.names() == sorted(NETWORKS)
    assert pretrained.find("addition_9") == networks / "addition_9"
    assert pretrained.find_run("addition_9") == networks / "addition_9"
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    pathlib.Path("addition_9").mkdir()  # Another folder of this name is none of a run.
    assert pretrained.find_run("addition_9") == networks / "addition_9"
    with pytest.raises(UsageError, match=r"no network 'no_network'; .* addition_32, addition_9"):
        pretrained.find("no_network")


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("print(1+2)", "addition_9"),
        ("print(123456789+100000000)", "addition_9"),
        ("\ufeffprint(12+34) \r\n", "addition_9"),
        ("print(1234567890+1000000000)", "addition_32"),
        (f"print({'1' * 32}+{'9' * 32})", "addition_32"),
        ("print((12+34))", "programs_with_work"),
        ("print((100000-7))", "programs_with_work"),
        ("print(3)", "programs_with_work"),
        ("i=38;\nprint((i-12))", "programs_with_work"),
        ("012", "copy_3"),
    ],
)
def test_the_network_that_was_trained_on_such_a_program(networks, program, name):
    assert pretrained.suited(program) == name


SUM = "sums are of two numbers of as many digits, these have {} and {}"
NO_PRINT = "there is no print in it"
WHITE_SPACE = "no network was trained on white space at such a place"
WRITTEN_SO = "no network was trained on programs written so"


@pytest.mark.parametrize(
    ("program", "reason", "nearest"),
    [
        ("", "it is empty", None),
        ("hello", NO_PRINT, None),
        ("535+61", NO_PRINT, "programs_with_work knows 'print((535+61))'"),
        ("12 + 34", NO_PRINT, "addition_9 knows 'print(12+34)'"),
        ("print(535+61)", SUM.format(3, 2), "programs_with_work knows 'print((535+61))'"),
        ("print(123456789+1)", SUM.format(9, 1), None),
        ("print(12 + 34)", WHITE_SPACE, "addition_9 knows 'print(12+34)'"),
        ("print( (1+2) )", WHITE_SPACE, "addition_9 knows 'print(1+2)'"),
        ("i = 3\nprint(i+4)", WHITE_SPACE, "programs_with_work knows 'i=3;\\nprint((i+4))'"),
        ("print(1+2+3)", WRITTEN_SO, "programs_with_work knows 'print(((1+2)+3))'"),
        (
            "print(1 if 2<3 else 4)",
            WRITTEN_SO,
            "programs_with_work knows 'print((1 if 2<3 else 4))'",
        ),
        ("print(1/2)", "unknown character '/' at position 7", None),
        ("print(01+2)", "line 1: number '01' is not part of the program class", None),
        ("print(3", "line 1: '(' was never closed: 'print(3'", None),
        ("print((100001-7))", "no network was trained on length 6", None),
        ("print((((1+2)+3)+4))", "no network was trained on length 1, nesting 3", None),
        (f"print({'1' * 33}+{'9' * 33})", "no network was trained on length 33", None),
        ("1234", "no network was trained on length 4", "programs_with_work knows 'print(1234)'"),
    ],
)
def test_what_does_not_fit_is_said_and_how_to_write_it(networks, program, reason, nearest):
    with pytest.raises(UsageError) as error:
        pretrained.suited(program)
    message = str(error.value)
    assert f": {reason}; " in message
    assert "programs_5_2 (task program, length 5, nesting 2)" in message
    assert message.endswith("; --model names another network")
    if nearest:
        assert f"; {nearest}; " in message
    else:
        assert " knows " not in message


def test_rewritten_programs_print_the_same_and_the_tasks_own_stay_as_they_are():
    rng = random.Random(1)
    for difficulty in TASKS["program"].difficulties()[:60]:
        program, target, _ = TASKS["program"].generate(rng, difficulty)
        # As somebody else may write it.
        spaced = program.replace("+", " + ").replace("(", "( ").replace(" + =", " += ")
        for text in (program, spaced):
            rewritten = rewriting.rewrite(text)
            assert program in rewritten
            assert [interpreter.run(other) for other in rewritten] == [target] * len(rewritten)
    assert rewriting.rewrite("print(-(1 + 2)*3)")[0] == "print(-(1+2)*3)"
    assert rewriting.rewrite("hello") == rewriting.rewrite("") == []


def test_what_was_measured_on_such_programs(networks):
    rows = [{"length": 5, "nesting": 1, "exact_match": 0.99996}]
    for name in ("programs_5_2", "addition_9"):
        (networks / name / "evaluation.json").write_text(json.dumps({"rows": rows}))
    measured = "exact_match >0.9999 at length 5"
    assert pretrained.measured("addition_9", "print(12345+67890)") == measured
    assert pretrained.measured("programs_5_2", "print((12345+67890))") == measured
    assert pretrained.measured("addition_9", "print(1+2)") == ""


# The networks themselves


@pytest.mark.parametrize("name", pretrained.names())
def test_a_network_is_small_and_has_its_card(name):
    folder = pretrained.find(name)
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["README.md", "evaluation.json", "flags.cfg", "model.keras"]
    assert (folder / "model.keras").stat().st_size < 12e6
    card = (folder / "README.md").read_text()
    evaluation = tables.read_evaluation(folder / "evaluation.json")
    assert tables.format_markdown_table(evaluation) in card
    if flagfile := FLAGFILES.get(name, name):
        assert (command_line.FLAGFILES / f"{flagfile}.cfg").is_file()


@pytest.mark.parametrize("name", pretrained.names())
def test_a_network_is_as_good_as_published(name):
    folder, num_examples = pretrained.find(name), 400
    config = configs.read(folder)
    published = tables.read_evaluation(folder / "evaluation.json")["rows"][-1]
    assert (published["length"], published["nesting"]) == config.target
    # Not those it was published with.
    examples = drawn(config.task, [config.target], num_examples)
    columns = ([text.encode() for text in column] for column in zip(*examples, strict=True))
    max_steps = config.interface.longest_written + 1
    network = models.load(folder / "model.keras")
    scorer = Scorer(network, config.input_form, config.target_form, max_steps, batch_size=64)
    scores = scorer.score(Example(*columns))
    for metric in ("token_accuracy", "exact_match"):
        rate = published[metric]
        error = math.sqrt(rate * (1 - rate) / num_examples)
        assert abs(getattr(scores, metric)() - rate) <= 4 * error
