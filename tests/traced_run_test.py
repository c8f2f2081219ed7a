"""A run whose network writes its work: what the history, the evaluation and each channel say."""

import importlib
from types import SimpleNamespace

import pytest
import tensorflow as tf

import keras_l2e
from keras_l2e import config as configs
from keras_l2e import page, tables
from keras_l2e.language import interpreter, traces
from keras_l2e.language.tasks import TASKS
from keras_l2e.training import session

execute = importlib.import_module("keras_l2e.execute")

# The lines of work of a page, as `execute` shows them.
ROWS = """[...document.getElementById("work").rows].map((row) => {
  const [value, computed, what, mark] = Array.from(row.cells, (cell) => cell.textContent);
  const kind = what ? `(${what})` : "";
  return `${value} Python ${computed} ${kind} ${mark.replace("\u2190", "<-")}`.trim().split(/ +/);
})"""


@pytest.fixture(scope="module")
def traced(make_config, tmp_path_factory):
    """Programs of one operation on digits; it gets some of them right."""
    folder = tmp_path_factory.mktemp("traced") / "run"
    config = make_config(
        task="program",
        target_length=1,
        input_form="none",
        target_form="reversed_trace",
        model="attention",
        hidden_dim=16,
        num_heads=2,
        learning_rate=0.01,
        num_epochs=6,
        batches_per_epoch=40,
        train_source="generated",
        examples_per_difficulty=500,
        test_examples=200,
    )
    session.train(config, folder)
    network = keras_l2e.load(folder)
    return SimpleNamespace(folder=folder, network=network, evaluation=network.evaluation)


def test_levels_are_judged_by_whole_answers(traced):
    for line in traced.network.history:
        assert line["judged_exact_match"] is not None and "judged_token_accuracy" not in line


def test_right_work_ends_in_a_right_answer(traced):
    (row,) = traced.evaluation["rows"]
    assert 0 < row["written_match"] <= row["exact_match"] < 1
    for kind in traced.evaluation["by_operation"]:
        assert kind["written_match"] <= kind["exact_match"]


def test_every_wrong_answer_has_a_first_wrong_step(traced):
    (row,), failures = traced.evaluation["rows"], traced.evaluation["failures"]
    num_wrong = round(row["num_examples"] * (1 - row["exact_match"]))
    assert sum(failure["num_examples"] for failure in failures) == num_wrong > 0
    shown = tables.format_table(traced.evaluation)
    assert "first wrong steps of wrong answers, hardest trained difficulty: length 1" in shown


def test_samples_show_the_work_beside_the_true_one(traced):
    shown = tables.format_samples(traced.evaluation)
    for sample in traced.evaluation["samples"]:
        assert sample["trace"] == interpreter.trace(sample["program"])
        assert f"  work     {sample['work']}\n  trace    {sample['trace']}\n" in shown
        answer = traced.network.execute(sample["program"])
        assert (answer.output, answer.work) == (sample["output"], sample["work"])


def test_a_run_and_its_saved_model_write_alike(traced):
    programs = [sample["program"] for sample in traced.evaluation["samples"]]
    exported = keras_l2e.load(traced.folder / "saved_model")
    for one, other in zip(
        traced.network.execute(programs), exported.execute(programs), strict=True
    ):
        assert one._replace(probability=0) == other._replace(probability=0)
    signature = tf.saved_model.load(str(traced.folder / "saved_model")).signatures
    found = signature["serving_default"](program=tf.constant([*programs, "print(1/2)"]))
    assert set(found) == {"output", "probability", "work"}
    *written, unreadable = (text.decode() for text in found["work"].numpy())
    *outputs, nothing = (text.decode() for text in found["output"].numpy())
    assert unreadable == nothing == ""
    for text, output, answer in zip(written, outputs, exported.execute(programs), strict=True):
        assert text.rpartition(";")[2] == output == answer.output
        assert traces.forward(text) == answer.work


def test_the_work_is_shown_beside_what_python_computes(traced):
    for sample in traced.evaluation["samples"]:
        shown = execute.show(traced.network, sample["program"], show_candidates=False)
        assert f"predicted  {sample['output']}\n" in shown
        assert ("<- the first wrong value" in shown) == (sample["work"] != sample["trace"])
        assert ("\nright\n" in shown) == sample["correct"]
        assert shown.splitlines()[-1].startswith("probability 0.")


LOOP = "e=58308\nfor x in range(2):e+=65807\nprint(e)"
WORK = {
    "124115;189922": [
        "work       124115   Python 124115 (round 1)",
        "work       189922   Python 189922 (round 2)",
    ],
    "124115;199922": [
        "work       124115   Python 124115 (round 1)",
        "work       199922   Python 189922 (round 2)  <- the first wrong value",
    ],
    "7;8;9": [
        "work       7        Python 124115 (round 1)  <- the first wrong value",
        "work       8        Python 189922 (round 2)",
        "work       9        Python nothing",
    ],
    "124115": [
        "work       124115   Python 124115 (round 1)",
        "work       nothing  Python 189922 (round 2)  <- the first wrong value",
    ],
}


@pytest.mark.parametrize(("work", "lines"), WORK.items())
def test_lines_of_work(work, lines):
    assert execute.show_work(work, LOOP, TASKS["program"]) == lines


def test_work_of_what_python_cannot_execute():
    assert execute.show_work("1;2", "print(", TASKS["program"]) == ["work       1", "work       2"]


@pytest.fixture(scope="module")
def html(traced, tmp_path_factory):
    """The page of the network."""
    output = tmp_path_factory.mktemp("traced_page") / "traced.html"
    config = configs.read(traced.folder)
    page.write([page.describe("traced", traced.folder, config, traced.network.model)], output)
    return output


@pytest.mark.slow
def test_its_page_shows_the_work_beside_what_python_computes(traced, html, use_page):
    wrong = [s["program"] for s in traced.evaluation["samples"] if s["work"] != s["trace"]]
    for program in wrong[:3]:
        *_, lines, said = use_page(
            html,
            [
                ["type", program],
                ["press", "Enter", 2],
                ["wait", "document.getElementById('said').textContent"],
                ["evaluate", ROWS],
                ["evaluate", "document.getElementById('said').textContent"],
            ],
        )
        answer = traced.network.execute(program)
        expected = execute.show_work(answer.work, program, TASKS["program"])
        assert lines == [line.replace("work ", "", 1).split() for line in expected]
        assert f"predicted {answer.output}, true {answer.true_output}, " in said
        assert any("wrong" in line for line in lines)
