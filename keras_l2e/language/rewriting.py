"""A valid program written as the tasks write theirs, for those who wrote it in another way.

>>> rewrite("print(535 + 61)")
['print(535+61)', 'print((535+61))']
>>> rewrite("i = 7\\nprint(i*2 - 1)")[-1]
'i=7;\\nprint(((i*2)-1))'
"""

import ast

from keras_l2e.language import interpreter

_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Lt: "<", ast.Gt: ">"}


def rewrite(program: str) -> list[str]:
    """A program with no white space but the necessary, first without, then with the outermost
    parentheses of what it prints; an expression is printed. No text for what is no program.
    """
    for text in (program, f"print({program})"):
        try:
            interpreter.run(text)
        except interpreter.ProgramError:
            continue
        match ast.parse(text).body:
            case [*others, ast.Expr(ast.Call(_, [printed])) as last]:
                value = _expression(printed)
                shown = [value[1:-1], value] if value.startswith("(") else [value]
                start = "".join(map(_statement, others, [*others[1:], last]))
                return [f"{start}print({value})" for value in shown]
    return []


def _statement(node: ast.stmt, following: ast.stmt) -> str:
    """A statement with its line's end, which depends on the one after it."""
    match node:
        case ast.Assign([ast.Name(name)], value):
            end = "\n" if isinstance(following, ast.For) else ";\n"
            return f"{name}={_expression(value)}{end}"
        case ast.For(ast.Name(name), ast.Call(_, [rounds]), body):
            steps = ";".join(_statement(step, following).rstrip(";\n") for step in body)
            return f"for {name} in range({_expression(rounds)}):{steps}\n"
        case ast.AugAssign(ast.Name(name), operator, value):
            return f"{name}{_OPERATORS[type(operator)]}={_expression(value)};\n"
        case _:
            raise TypeError(f"no statement of the class: {ast.dump(node)}")


def _expression(node: ast.expr) -> str:
    match node:
        case ast.BinOp(left, operator, right):
            return f"({_expression(left)}{_OPERATORS[type(operator)]}{_expression(right)})"
        case ast.Compare(left, [operator], [right]):
            return f"{_expression(left)}{_OPERATORS[type(operator)]}{_expression(right)}"
        case ast.IfExp(test, body, orelse):
            return f"({_expression(body)} if {_expression(test)} else {_expression(orelse)})"
        case ast.UnaryOp(_, operand):
            return f"-{_expression(operand)}"
        case _:  # A name or a number.
            return ast.unparse(node)
