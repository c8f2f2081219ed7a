import contextlib
import io
import keyword
import sys
import time
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_l2e.language.interpreter import (
    MAX_CHARACTERS,
    MAX_DIGITS,
    MAX_OPERATORS,
    MAX_STEPS,
    ProgramError,
    run,
)

CLASS_CHARACTERS = "\n ()*+-0123456789:;<=>abcdefghijlnoprstx"

# Program and what it prints, worked out by hand where the sum is short.
PROGRAMS = [
    ("j=8584\nfor x in range(8):\n  j+=920\nb=(1500+j)\nprint((b+7567))", "25011"),
    ("i=8827\nc=(i-5347)\nprint((c+8704) if 2641<8500 else 5308)", "12184"),
    ("print((5-7))", "-2"),
    ("a=4\nfor x in range(3):a-=10\nprint(a)", "-26"),
    ("print((7 if 3>3 else 8))", "8"),
    # Spaces, blank lines, separators, brackets.
    ("  \n\nprint ( 1  +  2 )\n\n", "3"),
    ("a = 1 ; b = 2\nprint(a+b) ;", "3"),
    ("print(1\n+\n2)", "3"),
    ("print(7 if (2)>(1)else(8))", "7"),
    ("print(1 if 1<0 else 2 if 1<0 else 3)", "3"),
    ("print((1 if 1>0 else 2)if(1 if 0>1 else 2)>1 else 3)", "1"),
    # Precedence and signs.
    ("print(2+3*4-5)", "9"),
    ("print(10-3-2)", "5"),
    ("print(-0)", "0"),
    ("a=-3\nprint(-a- -2*--4)", "11"),
    # Names: any one lower-case letter, also the loop's own.
    ("k=1\nz=k\nprint(z)", "1"),
    ("a=1\na+=a\nprint(a)", "2"),
    ("a=0\nfor x in range(4):\n a+=x\nprint(a+x)", "9"),
    ("x=5\nfor x in range(x):x+=1\nprint(x)", "5"),
    ("a=1\nfor a in range(a+2):a+=a\nprint(a)", "4"),
    # Loops: several statements, any indentation, no turns at all.
    ("a=0\nb=1\nfor x in range(5):\n\n      c=a+b\n      a=b;b=c\nprint(a)", "5"),
    ("a=0\nfor x in range(2):a+=1;a+=2\nfor y in range(2):a-=5\nprint(a)", "-4"),
    ("a=9\nfor x in range(0):a+=b\nprint(a)", "9"),
    ("x=3\nfor x in range(0):a=1\nprint(x)", "3"),
    # The branch not taken is not evaluated.
    ("print(1 if 2>1 else k)", "1"),
    # 64-digit sums.
    (f"print(-{'9' * 64}-{'9' * 64})", "-1" + "9" * 63 + "8"),
]

# Program and how its message begins.
REFUSED = [
    # Names.
    ("a=1\nprint(k)", "line 2: unknown name 'k'"),
    ("a+=1\nprint(a)", "line 1: unknown name 'a'"),
    ("for x in range(n):n=1\nprint(n)", "line 1: unknown name 'n'"),
    ("for x in range(0):a=1\nprint(x)", "line 2: unknown name 'x'"),
    ("print(1\n+k)", "line 2: unknown name 'k'"),
    ("ab=1\nprint(ab)", "line 1: name 'ab'"),
    ("print=1\nprint(1)", "line 1: name 'print'"),
    ("for print in range(2):a=1\nprint(1)", "line 1: name 'print'"),
    ("a=range\nprint(1)", "line 1: name 'range'"),
    # Calls.
    ("print(open(1))", "line 1: call of 'open' is not part of the program class"),
    ("a=1\nopen(1)\nprint(a)", "line 2: call of 'open' is not part of the program class"),
    ("print(1 if 2>1 else open(1))", "line 1: call of 'open'"),
    ("for x in range(0):\n a=1\n a=open(1)\nprint(1)", "line 3: call of 'open'"),
    # The print.
    ("", "line 1: no 'print'"),
    ("a=1\nprint(a)\na=2", "line 2: 'print' before the last statement"),
    ("print(1);print(2)", "line 1: 'print' before the last statement"),
    ("for x in range(2):print(x)\nprint(1)", "line 1: 'print' before the last statement"),
    *(
        (last, f"line 1: the last statement must print one value, not {last!r}")
        for last in ("a=1", "print()", "print(a=1)", "print(**3)")
    ),
    # Expressions, statements and loops that are not listed.
    *(
        (f"a=1\nprint({expression})", f"line 2: {expression!r} in this place")
        for expression in (
            *("2**3", "+1", "1<2", "(1)(2)", "*3", "1 if 2 else 3", "1 if 1<2<3 else 3"),
            *("1 if 1==2 else 3", "()"),
        )
    ),
    ("print(1 if(1<2)<3 else 3)", "line 1: '1<2' in this place"),
    ("print((a:=1))", "line 1: 'a:=1' in this place"),
    ("print(x for x in range(2))", "line 1: '(x for x in range(2))' in this place"),
    *(
        (f"a=1\n{statement}\nprint(a)", f"line 2: {statement!r} in this place")
        for statement in (
            *("5", "a=b=1", "a*=2", "a:x=1", "if 1<2:\n a=1", "for x in range():a=1"),
            *("for x in range(n=3):a=1", "for x in open(3):a=1"),
        )
    ),
    ("for x in range(*3):a=1\nprint(1)", "line 1: '*3' in this place"),
    ("for x in range(1<2):a=1\nprint(1)", "line 1: '1<2' in this place"),
    ("for(x)in(range)(2):\n for y in range(2):\n  a=1\nprint(1)", "line 2: 'for' inside a loop"),
    ("for x in range(2):\n a=1\nelse:\n a=2\nprint(1)", "line 1: 'for x in ran...\\nelse:"),
    ("match a:\n case 1:\n  a=1\nprint(1)", "line 1: 'match a:"),
    # Words, numbers and characters, some of which Python reads in a way of its own, or not at all.
    *(
        (f"a=1\nprint(1 {word} 2)", f"line 2: keyword {word!r}")
        for word in keyword.kwlist
        if word not in ("for", "in", "if", "else", "None", "True", "False")
    ),
    *(
        (f"print({number})", f"line 1: number {number!r}")
        for number in ("012", "0x1f", "1j", "1if")
    ),
    *(
        (f"a=1\nprint(1{character})", f"line 2: character {character!r}")
        for character in "_.,/%'\"[@#T\\\t\r\x0c\x00\ufeff\ud800\xa0\u2028٣ª"
    ),
    # Python's own syntax errors.
    ("print(1", "line 1: "),
    ("1+=2\nprint(1)", "line 1: "),
    ("a=1\n b=2\nprint(1)", "line 2: "),
    ("for x in range(2):\na=1\nprint(1)", "line 2: "),
    ("print(1);;", "line 1: invalid syntax: 'print(1);;'"),
    ("print(1 if 1<2)", "line 1: "),
]

NINES = "9" * MAX_DIGITS
# `v+=1` is five syntax nodes: statement, target, its context, operator, literal.
MOST_TURNS = MAX_STEPS // 5


def ones(num_terms):
    return "+".join(["1"] * num_terms)


# A program of a size, the largest size, what it then prints, how the message at one more begins.
# The print itself takes one of the operators and brackets.
TOO_MANY = f"statement of more than {MAX_OPERATORS} operators and brackets"
TOO_LARGE = f"value of more than {MAX_DIGITS} digits"
BOUNDS = {
    "characters": (
        lambda n: "print(1)\n".ljust(n),
        MAX_CHARACTERS,
        "1",
        f"line 2: program of more than {MAX_CHARACTERS} characters",
    ),
    "operators": (
        lambda n: f"a=1\nprint(\n{ones(n)})",
        MAX_OPERATORS,
        "100",
        f"line 3: {TOO_MANY}",
    ),
    "operators of each statement": (
        lambda n: ";\n".join([f"a={ones(n)}"] * 3) + ";print(a)",
        MAX_OPERATORS + 1,
        "101",
        f"line 1: {TOO_MANY}",
    ),
    "brackets": (lambda n: f"print{'(' * n}1{')' * n}", MAX_OPERATORS, "1", f"line 1: {TOO_MANY}"),
    "digits of a literal": (
        lambda n: f"\nprint(-{'9' * n})",
        MAX_DIGITS,
        f"-{NINES}",
        f"line 2: number of more than {MAX_DIGITS} digits",
    ),
    "digits of a sum": (
        lambda n: f"print(\n{int(NINES) - MAX_DIGITS}+{n})",
        MAX_DIGITS,
        NINES,
        f"line 2: {TOO_LARGE}",
    ),
    "digits of a product": (
        lambda n: f"a=10\nfor x in range({n}):\n a=a*10\nprint(a)",
        MAX_DIGITS - 2,
        "1" + "0" * (MAX_DIGITS - 1),
        f"line 3: {TOO_LARGE}",
    ),
    "steps of all loops": (
        lambda n: f"a=0\nfor x in range(4):a+=1\nfor x in range({n}):a+=1\nprint(a)",
        MOST_TURNS - 4,
        str(MOST_TURNS),
        f"line 3: 'for' loop past {MAX_STEPS} steps",
    ),
}

# Texts made to hang, blow up or crash a parser or an evaluator.
HOSTILE = {
    "open brackets": "(" * MAX_CHARACTERS,
    "brackets over lines": "print" + "(\n" * 2000,
    "minus signs": "print(" + "-" * 4000 + "1)",
    "sum": f"print({ones(2000)})",
    "powers": "print(" + "9**" * 49 + "9)",
    "conditions": "print(" + "1 if 1<2 else " * 250 + "1)",
    "calls": "a" + "(1)" * 1300,
    "walruses": "print(" + "(a:=" * 99,
    "keyword arguments": "print(a=" * 99 + "1 1",
    "generators": "print(" + "(x for x in " * 99 + "1 1",
    "lambdas": "print(" + "lambda:" * 500 + "1)",
    "deep indentation": "\n".join(" " * i + "if 1:" for i in range(84)),
    "deep loops": "\n".join(" " * i + "for x in range(9):" for i in range(74)),
    "statements": "a=1;" * 1000,
    "long name": "a" * MAX_CHARACTERS,
    "long number": "9" * MAX_CHARACTERS,
    "endless loop": f"a=1\nfor x in range({NINES}):a=a\nprint(a)",
    "growing number": f"a=2\nfor x in range({MOST_TURNS // 2}):a=a*a\nprint(a)",
    "many long products": f"a={NINES[: MAX_DIGITS // 2]}\nfor x in range(8):b="
    + "+".join(["a*a-a*a"] * 33)
    + "\nfor x in range(61000):b=a*a\nprint(b)",
    "many chained loops": "a=0\n" + "for x in range(900):a+=1\n" * 150 + "print(a)",
}


def what_cpython_prints(program):
    """Runs `program`, which must be written by hand or accepted by `run`, by CPython itself."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program, {})
    return printed.getvalue().removesuffix("\n")


def outcome(program):
    """Returns what `run` returns, None where it refuses; anything else fails, or a second.

    A second of this thread's own work, whatever else the machine does.
    """
    start = time.thread_time()
    try:
        printed = run(program)
    except ProgramError as error:
        assert str(error).startswith("line ")
        assert len(str(error)) < 200
        printed = None
    assert time.thread_time() - start < 1
    assert printed is None or isinstance(printed, str)
    return printed


@pytest.mark.parametrize(("program", "printed"), PROGRAMS)
def test_prints_what_cpython_prints(program, printed):
    assert run(program) == printed
    assert what_cpython_prints(program) == printed


@pytest.mark.parametrize(("program", "message"), REFUSED)
def test_refusal_names_line_and_construct(program, message):
    with pytest.raises(ProgramError) as refusal:
        run(program)
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(("make", "size", "printed", "message"), BOUNDS.values(), ids=BOUNDS)
def test_bound_at_both_ends(make, size, printed, message):
    assert outcome(make(size)) == what_cpython_prints(make(size)) == printed
    assert outcome(make(size + 1)) is None
    with pytest.raises(ProgramError) as refusal:
        run(make(size + 1))
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize("program", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_ends_soon(program):
    outcome(program)


def test_the_longest_program_of_the_class_fits():
    # Length 12, nesting 10, every operation a loop of 48 turns over a variable.
    lines = [f"a={10**12}"]
    for name, previous in zip("bcdefghij", "abcdefghi", strict=True):
        lines += [f"for x in range(48):{previous}-={10**12}", f"{name}={previous}"]
    program = "\n".join([*lines, "print(j)"])
    assert run(program) == what_cpython_prints(program) == str(10**12 - 9 * 48 * 10**12)


@pytest.mark.parametrize("program", [None, 3, b"print(1)", ["print(1)"]])
def test_refuses_what_is_no_text(program):
    with pytest.raises(TypeError, match="program must be a str"):
        run(program)


def test_warns_of_nothing_at_python_s_lowest_digit_limit():
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert run(f"print({NINES})") == NINES
            for text in ("print(1if 1<2 else 2)", "print(1 is 2)", "1(2)", 'print("\\d")'):
                assert outcome(text) is None
            assert outcome(f"print({'9' * 700})") is outcome(f"a={NINES};print(a*a)") is None
    finally:
        sys.set_int_max_str_digits(limit)
    assert not caught


# `exec` is reached only by what the interpreter has accepted, which is bounded and calls nothing.
def assert_equals_cpython_if_accepted(program):
    printed = outcome(program)
    if printed is not None:
        assert printed == what_cpython_prints(program)


TOKENS = [
    "for",
    " in ",
    "range",
    " if ",
    " else ",
    "print",
    "+=",
    "-=",
    "\n  ",
    "1",
    "20",
    "a",
    "x",
]


@settings(max_examples=200)
@given(st.lists(st.sampled_from([*CLASS_CHARACTERS, *TOKENS]), max_size=60).map("".join))
def test_random_text(text):
    assert_equals_cpython_if_accepted(text)
    assert_equals_cpython_if_accepted(f"a=7\nx=2\nprint({text})")


@st.composite
def mutated_program(draw):
    program, _ = draw(st.sampled_from(PROGRAMS))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(program)))
        end = start + draw(st.integers(0, 3))
        piece = draw(st.sampled_from(["", *CLASS_CHARACTERS, *TOKENS]))
        program = program[:start] + piece + program[end:]
    return program


@settings(max_examples=400)
@given(mutated_program())
def test_mutated_program(program):
    assert_equals_cpython_if_accepted(program)


def extend(inner):
    """Texts of expressions; without brackets, precedence is tested."""
    return st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map("".join),
        inner.map("-{}".format),
        inner.map("({})".format),
        st.tuples(inner, inner, st.sampled_from("<>"), inner, inner).map(
            lambda x: "({} if {}{}{} else {})".format(*x)
        ),
    )


OPERANDS = st.one_of(st.integers(0, 10**12).map(str), st.sampled_from("abx"))
EXPRESSIONS = st.recursive(OPERANDS, extend, max_leaves=12)


@settings(max_examples=300)
@given(st.lists(EXPRESSIONS, min_size=4, max_size=4))
def test_expressions(expressions):
    first, second, third, fourth = expressions
    program = f"a=3\nb=-4;x=5\na-={first}\nfor x in range(3):b={second};b+={third}\nprint({fourth})"
    try:
        printed = run(program)
    except ProgramError as error:
        assert str(error).endswith((f"{MAX_DIGITS} digits", "operators and brackets"))
    else:
        assert printed == what_cpython_prints(program)
