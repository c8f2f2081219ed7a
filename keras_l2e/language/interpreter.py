"""Runs a program of the program class safely: the true answer beside a predicted one.

    >>> run("i=8827\\nc=(i-5347)\\nprint((c+8704) if 2641<8500 else 5308)")
    '12184'
    >>> trace("i=8827\\nc=(i-5347)\\nprint((c+8704) if 2641<8500 else 5308)")
    '3480;12184;12184'

The text is parsed by `ast.parse` and executed by a small evaluator of our own, never by `exec`. The
class is a whitelist: assignments to one-letter names, one level of `for x in range(n)`, the
operations `+ - *`, if-expressions on `<` or `>`, and one closing `print`. What is not listed is
refused. Whatever the text, `run` ends soon and needs little memory.
"""

import ast
import keyword
import operator
import re
import reprlib
from collections.abc import Callable
from dataclasses import dataclass

from keras_l2e.language import traces
from keras_l2e.language.traces import Step

# The longest program at length 12 and nesting 10 has about 560 characters.
MAX_CHARACTERS = 4096
# Operators and opening brackets of one statement. An expression cannot nest deeper than it has of
# them, so neither Python's parser nor the evaluator can run out of stack.
MAX_OPERATORS = 100
# Of every literal and every result. Python's own limit cannot be set below 640 digits.
MAX_DIGITS = 500
# Syntax nodes visited in all loops of a program: 100,000 turns of `a+=1`, a fraction of a second.
# They are counted before a loop starts; a loop inside a loop is refused, as the class has none.
MAX_STEPS = 500_000
# Of all that is kept of the work, whose values may all be long.
MAX_TRACE = 1_000_000

_OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Gt: operator.gt,
    ast.Lt: operator.lt,
}

_BOUND = 10**MAX_DIGITS
_TOKEN = re.compile(r"[a-z0-9]+|[^ ]")
_NUMBER = re.compile(r"0|[1-9][0-9]*")
_CHARACTERS = frozenset("\n()*+-:;<=>")
_NESTING = frozenset(["(", "+", "-", "*", "<", ">", "if"])
_KEYWORDS = frozenset(["for", "in", "if", "else"])


class ProgramError(ValueError):
    """A text that is no program of the class; the message names the line and the construct.

    >>> run("a=1\\nprint(k)")
    Traceback (most recent call last):
    keras_l2e.language.interpreter.ProgramError: line 2: unknown name 'k'
    """


def run(program: str) -> str:
    """Returns what `program` prints, without the closing newline.

        >>> run("j=8584\\nfor x in range(8):\\n  j+=920\\nb=(1500+j)\\nprint((b+7567))")
        '25011'

    Names are looked up when they are reached, as in Python: the branch of an if-expression that is
    not taken may read a name that has no value.

    Raises:
        ProgramError: `program` is not of the program class, reads a name before its assignment, or
            passes one of the limits above.
        TypeError: `program` is not a string.
    """
    return str(_run(program, _State({})))


def trace(program: str) -> str:
    """Returns the trace of `program`: the value of every operation, as Python computes them.

        >>> trace("print((17*22753))"), trace("e=58308\\nfor x in range(2):e+=65807\\nprint(e)")
        ('159271;227530;386801', '124115;189922')

    See `traces`. What Python does not compute, as a branch not taken, is not there.

    Raises:
        ProgramError, TypeError: as `run`, or the trace passes the limit above.
    """
    return traces.write(step.value for step in steps(program))


def steps(program: str, registers: bool = False) -> list[Step]:
    """Returns the values of the trace, and what each of them is.

        >>> steps("print((12+34))")
        [Step(value=46, kind='sum', turn=0, operands=(12, 34), name='')]
        >>> [step.kind for step in steps("print((8 if 5>9 else 3))", registers=True)]
        ['comparison', 'choice']

    Args:
        program: a text.
        registers: whether comparisons and counters are there too, which are no values of the trace.

    Raises:
        ProgramError, TypeError: as `trace`.
    """
    work: list[Step] = []
    state = _State({}, work)
    printed = _run(program, state)
    values = (step.value for step in reversed(work) if step.kind not in traces.NO_VALUES)
    if next(values, None) != printed:
        state.compute(printed, "printed")
    return [step for step in work if registers or step.kind not in traces.NO_VALUES]


@dataclass
class _State:
    """What a program has done so far: its variables, its steps, the round of a loop it is in.

    Steps are kept if they are wanted, and the characters of their values are counted.
    """

    variables: dict[str, int]
    work: list[Step] | None = None
    turn: int = 0
    num_characters: int = 0

    def compute(
        self, value: int, kind: str, operands: tuple[int, ...] = (), name: str = ""
    ) -> None:
        """Keeps a step."""
        if self.work is None:
            return
        self.num_characters += len(str(value)) + 1
        if self.num_characters > MAX_TRACE:
            raise ProgramError(f"work of more than {MAX_TRACE} characters")
        self.work.append(Step(value, kind, self.turn, operands, name))


def _run(program: str, state: _State) -> int:
    """Returns the value that `program` prints."""
    if not isinstance(program, str):
        raise TypeError(f"program must be a str, not {type(program).__name__}")
    _check_text(program)
    statements = _parse(program)
    for statement in statements[:-1]:
        _check_statement(statement, program)
    printed = _check_print(statements, program)
    _execute(statements[:-1], state)
    return _evaluate(printed, state)


def _outside(line: int, construct: str) -> ProgramError:
    return ProgramError(f"line {line}: {construct} is not part of the program class")


def _source(node: ast.AST, program: str) -> str:
    return reprlib.repr(ast.get_source_segment(program, node))


def _check_text(program: str) -> None:
    """Refuses, token by token, what might make `ast.parse` warn, recurse deeply or take long."""
    if len(program) > MAX_CHARACTERS:
        line = program.count("\n", 0, MAX_CHARACTERS) + 1
        raise ProgramError(f"line {line}: program of more than {MAX_CHARACTERS} characters")
    line, depth, num_operators = 1, 0, 0
    for token in _TOKEN.findall(program):
        if "a" <= token[0] <= "z":
            if keyword.iskeyword(token) and token not in _KEYWORDS:
                raise _outside(line, f"keyword {token!r}")
        elif "0" <= token[0] <= "9":
            if not _NUMBER.fullmatch(token):
                raise _outside(line, f"number {reprlib.repr(token)}")
            if len(token) > MAX_DIGITS:
                raise ProgramError(f"line {line}: number of more than {MAX_DIGITS} digits")
        elif token not in _CHARACTERS:
            raise _outside(line, f"character {token!r}")

        depth += (token == "(") - (token == ")")
        # Inside brackets a newline does not end the statement.
        if token in "\n;" and depth <= 0:
            num_operators = 0
        num_operators += token in _NESTING
        if num_operators > MAX_OPERATORS:
            raise ProgramError(
                f"line {line}: statement of more than {MAX_OPERATORS} operators and brackets"
            )
        line += token == "\n"


def _parse(program: str) -> list[ast.stmt]:
    try:
        return ast.parse(program).body
    except SyntaxError as error:
        line = error.lineno or 1
        text = "".join(program.split("\n")[line - 1 : line])
        raise ProgramError(f"line {line}: {error.msg}: {reprlib.repr(text)}") from None


def _check_print(statements: list[ast.stmt], program: str) -> ast.expr:
    """Returns the expression that the last statement prints."""
    match statements:
        case []:
            raise ProgramError("line 1: no 'print'")
        case [*_, ast.Expr(ast.Call(ast.Name("print"), args=[value], keywords=[]))]:
            _check_expression(value, program)
            return value
        case _:
            last = statements[-1]
            raise ProgramError(
                f"line {last.lineno}: the last statement must print one value, "
                f"not {_source(last, program)}"
            )


def _check_statement(node: ast.stmt, program: str, in_loop: bool = False) -> None:
    match node:
        case (
            ast.Assign(targets=[ast.Name() as target], value=value)
            | ast.AugAssign(target=ast.Name() as target, op=ast.Add() | ast.Sub(), value=value)
        ):
            _check_expression(target, program)
            _check_expression(value, program)
        case ast.For(
            target=ast.Name() as target,
            iter=ast.Call(ast.Name("range"), args=[num_turns], keywords=[]),
            body=body,
            orelse=[],
        ) if not in_loop:
            _check_expression(target, program)
            _check_expression(num_turns, program)
            for statement in body:
                _check_statement(statement, program, in_loop=True)
        case ast.For() if in_loop:
            raise _outside(node.lineno, "'for' inside a loop")
        case ast.Expr(ast.Call(ast.Name("print"))):
            raise ProgramError(f"line {node.lineno}: 'print' before the last statement")
        # Always refused there, by the name of what is called.
        case ast.Expr(ast.Call() as call):
            _check_expression(call, program)
        case _:
            raise _outside(node.lineno, f"{_source(node, program)} in this place")


def _check_expression(node: ast.expr, program: str) -> None:
    match node:
        case ast.Constant(value=int()):
            pass
        case ast.Name(name) if len(name) == 1:
            pass
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            _check_expression(operand, program)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
            _check_expression(left, program)
            _check_expression(right, program)
        case ast.IfExp(
            test=ast.Compare(left=left, ops=[op], comparators=[right]), body=body, orelse=orelse
        ) if type(op) in _COMPARISONS:
            for operand in (left, right, body, orelse):
                _check_expression(operand, program)
        case ast.Name(name):
            raise _outside(node.lineno, f"name {reprlib.repr(name)}")
        case ast.Call(ast.Name(name)):
            raise _outside(node.lineno, f"call of {reprlib.repr(name)}")
        case _:
            raise _outside(node.lineno, f"{_source(node, program)} in this place")


def _execute(statements: list[ast.stmt], state: _State) -> None:
    """Executes statements that `_check_statement` has passed."""
    num_steps = 0
    for statement in statements:
        match statement:
            case ast.For(ast.Name(name), ast.Call(_, [rounds]), body):
                num_turns = max(0, _evaluate(rounds, state))
                num_steps += num_turns * sum(1 for line in body for _ in ast.walk(line))
                if num_steps > MAX_STEPS:
                    raise ProgramError(
                        f"line {statement.lineno}: 'for' loop past {MAX_STEPS} steps"
                    )
                for turn in range(num_turns):
                    state.variables[name] = turn
                    state.turn = turn + 1
                    state.compute(num_turns - turn, traces.COUNTER)
                    for assignment in body:
                        _assign(assignment, state)
                state.turn = 0
            case _:
                _assign(statement, state)


def _assign(node: ast.stmt, state: _State) -> None:
    if isinstance(node, ast.Assign) and isinstance(name := node.targets[0], ast.Name):
        state.variables[name.id] = _evaluate(node.value, state)
    elif isinstance(node, ast.AugAssign) and isinstance(name := node.target, ast.Name):
        # As in Python, the variable is read before the value is computed.
        before = _evaluate(name, state)
        value = _evaluate(node.value, state)
        state.variables[name.id] = _apply(node, before, value, state, name.id)
    else:
        raise TypeError(f"not checked: {ast.dump(node)}")


def _evaluate(node: ast.expr, state: _State) -> int:
    """Returns the value of an expression that `_check_expression` has passed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in state.variables:
            raise ProgramError(f"line {node.lineno}: unknown name {node.id!r}")
        return state.variables[node.id]
    if isinstance(node, ast.UnaryOp):
        return -_evaluate(node.operand, state)
    if isinstance(node, ast.BinOp):
        return _apply(node, _evaluate(node.left, state), _evaluate(node.right, state), state)
    if isinstance(node, ast.IfExp) and isinstance(test := node.test, ast.Compare):
        left, right = _evaluate(test.left, state), _evaluate(test.comparators[0], state)
        state.compute(left - right, traces.COMPARISON, (left, right))
        truth = _COMPARISONS[type(test.ops[0])](left, right)
        value = _evaluate(node.body if truth else node.orelse, state)
        state.compute(value, "choice")
        return value
    raise TypeError(f"not checked: {ast.dump(node)}")


def _apply(
    node: ast.BinOp | ast.AugAssign, left: int, right: int, state: _State, name: str = ""
) -> int:
    value = _OPERATIONS[type(node.op)](left, right)
    if abs(value) >= _BOUND:
        raise ProgramError(f"line {node.lineno}: value of more than {MAX_DIGITS} digits")
    if state.work is None:
        return value
    if isinstance(node.op, ast.Mult):
        *parts, _ = traces.products(left, right)
        for part, kind in zip(parts, ("units", "tens"), strict=False):
            state.compute(part, kind)
        if not parts and (multiple := traces.multiple(left, right)) is not None:
            state.compute(multiple, traces.MULTIPLE)
        kind = "product"
    elif name and state.turn:
        kind = "round"
    else:
        kind = "sum" if isinstance(node.op, ast.Add) else "difference"
    state.compute(value, kind, (left, right), name)
    return value
