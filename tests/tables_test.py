"""Tests of `tables`: what stands in the texts."""

import subprocess
import sys

import pytest

from keras_l2e import tables
from keras_l2e.errors import WorkError


def make_row(length, nesting=1, token_accuracy=0.98, exact_match=0.9, **changes):
    return {
        "length": length,
        "nesting": nesting,
        "num_examples": 1000,
        "token_accuracy": token_accuracy,
        "exact_match": exact_match,
        "free_token_accuracy": 0.97,
        "answer_in_program": 0.125,
        **changes,
    }


def make_evaluation(rows, **changes):
    return {
        "task": "addition",
        "split": "test",
        "input_form": "reverse",
        "seed": 1,
        "chance_token_accuracy": 0.0909,
        "rows": rows,
        "beyond_training": [],
        "samples": [],
        **changes,
    }


SAMPLE = {"length": 1, "nesting": 1, "program": "print(1+2)", "target": "3"}
EVALUATION = make_evaluation(
    [
        make_row(1, token_accuracy=1.0, exact_match=1.0),
        make_row(2, token_accuracy=0.99996, exact_match=0.9),
    ],
    beyond_training=[make_row(3, exact_match=0.00002, num_examples=50)],
    by_carry_chain=[
        make_row(1, exact_match=1.0, carry_chain=1, num_examples=100),
        make_row(2, exact_match=0.5, carry_chain=0, num_examples=300),
    ],
    unequal_digits=[make_row(2, shorter=1, exact_match=0.25)],
)
TABLE = """\
addition, test split, input form reverse, seed 1

                                 token_accuracy     exact_match
length  nesting  num_examples  (teacher-forced)  (free-running)  free_token_accuracy  \
answer_in_program
     1        1          1000            1.0000          1.0000               0.9700  \
           0.1250
     2        1          1000           >0.9999          0.9000               0.9700  \
           0.1250
     3        1            50            0.9800         <0.0001               0.9700  \
           0.1250  beyond training

chance token_accuracy: 0.0909

by_carry_chain, hardest trained difficulty: length 2

                             token_accuracy     exact_match
carry_chain  num_examples  (teacher-forced)  (free-running)  free_token_accuracy  answer_in_program
          0           300            0.9800          0.5000               0.9700             0.1250

unequal_digits (not trained): 2 digits and fewer

                         token_accuracy     exact_match
shorter  num_examples  (teacher-forced)  (free-running)
      1          1000            0.9800          0.2500"""


def test_plain_table():
    assert tables.format_table(EVALUATION) == TABLE


def test_markdown_has_written_work_and_kinds_by_name():
    evaluation = make_evaluation(
        [make_row(1, written_match=0.5)],
        by_sign=[make_row(1, sign="minus", exact_match=0.75, written_match=0.7)],
    )
    text = tables.format_markdown_table(evaluation)
    assert "**by_sign, hardest trained difficulty: length 1**" in text
    rows, kinds = (part.splitlines() for part in text.split("\n\n") if part.startswith("|"))
    for header, sides, row in (rows, kinds):
        assert "| written_match |" in header
        assert len(header.split("|")) == len(sides.split("|")) == len(row.split("|"))
    assert kinds[1].startswith("| --- | ---: |") and kinds[2].startswith("| minus | 1000 |")


def test_kinds_are_those_of_the_hardest_difficulty():
    rows = [make_row(1, 1), make_row(3, 1), make_row(2, 2)]
    kinds = [row | {"operation": name} for row in rows for name in ("ifstat", "pair")]
    assert tables.breakdown(make_evaluation(rows, by_operation=kinds)) == (
        "operation",
        "hardest trained difficulty: length 2, nesting 2",
        kinds[-2:],
    )
    assert tables.breakdown(make_evaluation(rows)) is None


def test_samples():
    program = "j=858\nfor x in range(8):j+=92\nprint((j+756))"
    wrong = {"length": 3, "nesting": 2, "program": program, "target": "2350"}
    samples = [
        wrong | {"output": "235\n", "correct": False},
        SAMPLE | {"output": "3", "correct": True},
    ]
    assert tables.format_samples({"samples": samples}) == (
        "length 3, nesting 2\n"
        "  program  j=858\n"
        "           for x in range(8):j+=92\n"
        "           print((j+756))\n"
        "  target   2350\n"
        "  output   235\\n  WRONG\n"
        "\n"
        "length 1\n"
        "  program  print(1+2)\n"
        "  target   3\n"
        "  output   3  CORRECT"
    )


@pytest.mark.parametrize(
    ("count", "lengths"),
    [(0, []), (1, [1]), (2, [1, 7]), (3, [1, 4, 7]), (7, [1, 2, 3, 4, 5, 6, 7]), (9, range(1, 8))],
)
def test_samples_are_spread_over_the_difficulties(count, lengths):
    samples = [SAMPLE | {"output": "", "correct": True, "length": x} for x in range(1, 8)]
    lines = tables.format_samples({"samples": samples}, count=count).splitlines()
    assert [line for line in lines if line.startswith("length")] == [f"length {x}" for x in lengths]


@pytest.mark.parametrize(
    ("value", "text", "short"),
    [(0, "0.00", "0"), (0.001, "<0.01", "<.01"), (0.999, ">0.99", ">.99"), (1.0, "1.00", "1")],
)
def test_no_rate_is_rounded_to_all_or_nothing(value, text, short):
    assert tables.format_rate(value, 2) == text
    assert tables.format_short_rate(value, 2) == short


def test_broken_files_are_named(tmp_path):
    torn = tmp_path / "history.jsonl"
    torn.write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo')
    with pytest.raises(WorkError, match=r"history\.jsonl, line 3: no JSON"):
        tables.read_history(torn)
    broken = tmp_path / "evaluation.json"
    broken.write_text('{"task": "addition",\n "rows": }\n')
    with pytest.raises(WorkError) as caught:
        tables.read_evaluation(broken)
    assert str(caught.value).startswith(f"{broken}: no JSON (Expecting value: line 2 column 10")


def test_importing_is_quick():
    code = (
        "import sys, keras_l2e.execute, keras_l2e.tables;"
        "print({'matplotlib', 'pandas', 'tensorflow'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"
