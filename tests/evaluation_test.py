import math
import shutil

import pytest
from conftest import small_network, snapshot

from keras_l2e import evaluate, pretrained
from keras_l2e.errors import WorkError
from keras_l2e.language import programs
from keras_l2e.language.programs import Example
from keras_l2e.language.tasks import TASKS
from keras_l2e.training import evaluation

ROW = [
    "length",
    "nesting",
    "num_examples",
    "token_accuracy",
    "exact_match",
    "free_token_accuracy",
    "answer_in_program",
]


@pytest.mark.parametrize(
    ("program", "target", "found"),
    [
        ("print(12+3)", "12", True),
        ("print(12+3)", "3", True),
        ("print(12+3)", "1", False),
        ("print(12+3)", "15", False),
        ("print((3-12))", "-9", False),
        ("print((0-5))", "-5", False),
        ("f=40\nfor x in range(2):f+=5\nprint(f)", "5", True),
        ("f=40\nfor x in range(2):f+=5\nprint(f)", "50", False),
    ],
)
def test_an_answer_in_the_program_is_a_whole_number_of_it(program, target, found):
    assert evaluation.answer_in_program(program, target) is found


def test_nothing_lies_beyond_the_hardest():
    for task in TASKS.values():
        assert evaluation._beyond(task, task.difficulties()[-1]) == []


def test_sums(small_run):
    found = small_run.evaluation
    assert sorted(found) == [
        "beyond_training",
        "by_carry_chain",
        "chance_token_accuracy",
        "input_form",
        "num_parameters",
        "rows",
        "samples",
        "seed",
        "split",
        "task",
        "unequal_digits",
    ]
    names = ("task", "split", "input_form", "seed")
    assert [found[name] for name in names] == ["addition", "test", "reverse", 1]
    assert found["chance_token_accuracy"] == 1 / 11
    assert [list(row) for row in found["rows"]] == [ROW, ROW]
    assert [(row["length"], row["nesting"]) for row in found["rows"]] == [(1, 1), (2, 1)]
    assert found["rows"][1]["num_examples"] == 60
    for row in found["rows"]:
        kinds = [kind for kind in found["by_carry_chain"] if kind["length"] == row["length"]]
        assert [kind["carry_chain"] for kind in kinds] == list(range(row["length"] + 1))
        assert sum(kind["num_examples"] for kind in kinds) == row["num_examples"]
        right = sum(kind["exact_match"] * kind["num_examples"] for kind in kinds)
        assert right == pytest.approx(row["exact_match"] * row["num_examples"])
    beyond = [(row["length"], row["num_examples"]) for row in found["beyond_training"]]
    assert beyond == [(3, 1000), (4, 1000)]
    (unequal,) = found["unequal_digits"]
    assert (unequal["length"], unequal["shorter"]) == (2, 1)
    assert 500 < unequal["num_examples"] < 700  # A third of 2 * 90 * 10.
    assert [sample["length"] for sample in found["samples"]] == [1] * 5 + [2] * 5
    for sample in found["samples"]:
        assert TASKS["addition"].answer(sample["program"]) == sample["target"]
        assert sample["correct"] == (sample["output"] == sample["target"])


def test_programs_are_told_apart_by_their_operations(make_config):
    config = make_config(task="program", target_length=1, target_nesting=2, num_replicas=1)
    lines = []
    found = evaluation.evaluate(config, small_network(), lines.append)
    assert [list(row) for row in found["rows"]] == [ROW, ROW]
    kinds = {kind["operation"] for kind in found["by_operation"] if kind["nesting"] == 2}
    assert kinds == {*programs.OPERATIONS, "without product or loop"}
    beyond = [(row["length"], row["nesting"]) for row in found["beyond_training"]]
    assert beyond == [(2, 2), (1, 3)]
    assert "unequal_digits" not in found and "by_carry_chain" not in found
    assert len(lines) == 4 and all("(teacher-forced), exact_match" in line for line in lines)


def test_a_difficulty_without_test_examples_is_left_out(make_config, monkeypatch):
    config = make_config(task="copy", target_length=1)
    rate = dict.fromkeys(ROW, 0.0)
    monkeypatch.setattr(evaluation, "_read", lambda *_: Example([], [], []))
    monkeypatch.setattr(evaluation, "score_drawn", lambda *_: rate)
    lines = []
    found = evaluation.evaluate(config, small_network(), lines.append)
    assert (found["rows"], found["samples"]) == ([], [])
    assert lines[0] == "length 1: no test examples"


def test_evaluation_repeats_itself(small_run, tmp_path, monkeypatch, capsys):
    """Of a run, and of a network of the package, whose folder it leaves as it is."""
    text = (small_run.folder / "evaluation.json").read_text()
    copy = tmp_path / "copy"
    shutil.copytree(small_run.folder, copy)
    (copy / "evaluation.json").write_text("{}")
    (copy / "exact_match.png").unlink()
    evaluate.main(evaluate.Arguments(workdir=str(copy)))
    assert (copy / "evaluation.json").read_text() == text
    assert (copy / "exact_match.png").stat().st_size > 0
    said = capsys.readouterr().out
    assert "(not trained): token_accuracy" in said

    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    before, output = snapshot(copy), tmp_path / "new/tiny.json"
    evaluate.main(evaluate.Arguments(pretrained="copy", output=str(output)))
    assert output.read_text() == text
    assert snapshot(copy) == before
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("0.0 standard errors from the published figures at most (")


def test_other_figures_than_the_published_ones_are_an_error(small_run, capsys):
    published = small_run.evaluation
    evaluate.check_published(published, published)
    assert capsys.readouterr().out.startswith("0.0 standard errors")
    row = published["rows"][1]
    other = published | {"rows": [published["rows"][0], row | {"exact_match": 1.0}]}
    name = "exact_match at length 2"
    distance, worst = evaluation.compare(other, published)
    # The sampling error of a rate on 60 examples, four more of which are taken for half right.
    rate = (60 * row["exact_match"] + 2) / 64
    assert worst == name
    expected = (1 - row["exact_match"]) / math.sqrt(rate * (1 - rate) / 60)
    assert distance == pytest.approx(expected) and distance > 4
    with pytest.raises(WorkError, match=f"{distance:.1f} standard errors .*{name}.*; allowed 4"):
        evaluate.check_published(other, published)
