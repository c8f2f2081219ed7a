"""The trace against the generator and against Python itself, and its forms."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreter_test import EXPRESSIONS

from keras_l2e.language import interpreter, traces
from keras_l2e.language.tasks import TASKS

CELLS = TASKS["program"].difficulties()


@pytest.fixture(scope="module")
def agreement(benchmark):
    return benchmark("agreement")


@pytest.mark.parametrize("difficulty", CELLS[:2] + CELLS[4:5] + CELLS[16:17] + CELLS[-1:])
def test_generator_interpreter_and_python_agree(difficulty, agreement):
    agreement.check(difficulty, 300)


@pytest.mark.slow
def test_generator_interpreter_and_python_agree_everywhere(agreement):
    for difficulty in CELLS:
        agreement.check(difficulty, 500)


@pytest.mark.parametrize(
    ("program", "trace"),
    [
        ("print((17*22753))", "159271;227530;386801"),
        ("e=58308\nfor x in range(2):e+=65807\nprint(e)", "124115;189922"),
        ("print(12+34)", "46"),
        ("print(773)", "773"),
        ("print((8 if 5>9 else (3*4)))", "12;12"),
        ("print(((1+2) if 9>5 else (3*4)))", "3;3"),
        ("a=(1+2)\nb=7\nprint(b)", "3;7"),
        ("a=5\nprint(-a)", "-5"),
        ("a=4\nfor x in range(0):a+=1\nprint(a)", "4"),
        ("a=1\nfor x in range(2):\n  a+=(x*12)\nprint(a)", "0;1;12;13"),
        ("print((-12*11))", "-12;-120;-132"),
        ("print((12*-11))", "-12;-120;-132"),
        ("print((300*20))", "6000"),
        # A counter is no value, and what is assigned is not computed.
        ("for x in range(2):a=1\nprint(a)", "1"),
        ("a=(2+3)\nfor x in range(1):b=4\nprint(a)", "5"),
        ("a=(2+3)\nfor x in range(2):b=4\nprint(b)", "5;4"),
    ],
)
def test_programs_by_hand(program, trace, agreement):
    assert interpreter.trace(program) == trace == agreement.recorded_by_python(program)[0]


@settings(max_examples=200)
@given(st.lists(EXPRESSIONS, min_size=4, max_size=4))
def test_programs_that_are_never_drawn(agreement, expressions):
    first, second, third, fourth = expressions
    program = f"a=3\nb=-4;x=5\na-={first}\nfor x in range(3):b={second};a={third}\nprint({fourth})"
    try:
        trace = interpreter.trace(program)
    except interpreter.ProgramError:  # interpreter_test says of which.
        return
    assert trace == agreement.recorded_by_python(program)[0]


def test_backwards():
    assert traces.reverse("46") == "64;46"
    assert traces.reverse("159271;227530;386801") == "172951;035722;108683;386801"
    assert traces.reverse("-12;7") == "21-;7;7"


@pytest.mark.parametrize("value", [0, 5, 10, 9999, -1, -5, -9, -10, -95, -100, -101, -12342])
def test_complements(value):
    written = traces.complement(value)
    digits = written.rstrip("-")
    assert len(digits) == len(str(abs(value)))
    assert int(digits[::-1]) == value % 10 ** len(digits)
    assert traces.from_registers(written + ";") == str(value)


@pytest.mark.parametrize(
    ("program", "written"),
    [
        ("print((8 if 5>9 else (3*4)))", "6<21;21;"),
        ("print((8 if 5<9 else (3*4)))", "6<8;"),
        ("print((8 if 9>5 else 3))", "4>8;"),
        ("print((8 if 10010>10007 else 3))", "30000>8;"),
        ("print((8 if 7>7 else 3))", "0=3;"),
        ("print((10010-10007))", "30000;"),
        ("print((54747-55713))", "43099-;"),
        ("print((20*300))", "006*0006;"),
        ("print((10*300))", "0003;"),
        ("print((-300*20))", "004-*0004-;"),
        ("a=3\nfor x in range(1):a-=(5 if 1<2 else 6)\nprint(a)", "1:9<5;a8-;"),
        ("a=3\nfor x in range(2):a-=4\na+=5\nprint(a)", "2:a9-;1:a5-;a0;"),
        ("a=3\nfor x in range(0):a+=x\nprint(a)", "3;"),
        (
            "a=3\nfor x in range(11):a+=x\nprint(a)",
            "11:a3;01:a4;9:a6;8:a9;7:a31;6:a81;5:a42;4:a13;3:a93;2:a84;1:a85;",
        ),
    ],
)
def test_what_registers_hold_besides_values(program, written):
    assert traces.register_trace(interpreter.steps(program, registers=True)) == written
    assert traces.from_registers(written) == interpreter.trace(program)


@pytest.mark.parametrize(
    ("written", "trace"),
    [
        ("", ""),
        ("12", ""),
        (";;3", ";"),
        ("1-2;-;5", "1-2;-"),
        ("3<:1;5", "1"),
        # More digits than Python makes a number of.
        (5000 * "1" + ";5", 5000 * "1"),
    ],
)
def test_what_is_no_complement_stays(written, trace):
    assert traces.from_registers(written) == trace


def test_long_work_is_refused():
    program = "a=1\nfor x in range(99999):a+=9" + "9" * 20 + "\nprint(a)"
    with pytest.raises(interpreter.ProgramError, match="work of more than 1000000 characters"):
        interpreter.trace(program)
    assert interpreter.run(program)
