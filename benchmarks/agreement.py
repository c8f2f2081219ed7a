"""Traces: the generator, the interpreter and Python itself, whose operations are recorded, agree.

    python benchmarks/agreement.py --json=FILE

20,000 programs of every difficulty, a process on each core: the generator's trace and target are
what the interpreter and an instrumented CPython give, every target form is read back, and no text
is longer than its bound. The first disagreement ends it, with its program.
"""

import argparse
import ast
import concurrent.futures
import functools
import operator
import random
import time

import measuring

from keras_l2e import devices
from keras_l2e.language import interpreter, programs, traces
from keras_l2e.language.tasks import TASKS, Difficulty

CELLS = TASKS["program"].difficulties()


class _Recorded(ast.NodeTransformer):
    """Has every operation of a program give its value to `record`, which returns it."""

    def visit_BinOp(self, node):
        self.generic_visit(node)
        name = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}[type(node.op)]
        return ast.Call(ast.Name(name, ast.Load()), [node.left, node.right], [])

    def visit_IfExp(self, node):
        self.generic_visit(node)
        return ast.Call(ast.Name("chosen", ast.Load()), [node], [])

    def visit_Compare(self, node):
        self.generic_visit(node)
        name = {ast.Gt: "greater", ast.Lt: "less"}[type(node.ops[0])]
        return ast.Call(ast.Name(name, ast.Load()), [node.left, *node.comparators], [])

    def visit_AugAssign(self, node):
        read = ast.Name(node.target.id, ast.Load())
        return ast.Assign([node.target], self.visit(ast.BinOp(read, node.op, node.value)))


def recorded_by_python(program):
    """What CPython computes and prints, as a trace, and the differences of what it compares."""
    work, printed, compared = [], [], []

    def record(value):
        work.append(value)
        return value

    def mul(a, b):
        work.extend(schoolbook(a, b))
        return a * b

    def compare(holds):
        return lambda a, b: compared.append(a - b) or holds(a, b)

    tree = ast.fix_missing_locations(_Recorded().visit(ast.parse(program)))
    exec(  # Programs of the package's own class.
        compile(tree, "program", "exec"),
        {
            "add": lambda a, b: record(operator.add(a, b)),
            "sub": lambda a, b: record(operator.sub(a, b)),
            "mul": mul,
            "chosen": record,
            "greater": compare(operator.gt),
            "less": compare(operator.lt),
            "print": printed.append,
        },
    )
    if not work or work[-1] != printed[0]:
        work += printed
    return ";".join(map(str, work)), compared


def schoolbook(a, b):
    """A product with a two-digit factor without zeros, as at school; written anew for the check."""
    if abs(a) < abs(b):
        a, b = b, a
    digits = str(abs(b))
    if len(digits) != 2 or "0" in digits:
        return [a * b]
    tens, units = (int(digit) if b > 0 else -int(digit) for digit in digits)
    return [a * units, a * 10 * tens, a * b]


def check(difficulty: Difficulty, count: int) -> None:
    """Compares so many programs; the same ones every time."""
    rng = random.Random(f"traces/{difficulty}")
    bound = programs.longest(*difficulty)
    for _ in range(count):
        program, target, trace = programs.generate(rng, *difficulty)
        by_python, compared = recorded_by_python(program)
        assert interpreter.trace(program) == trace == by_python, program
        assert trace.rpartition(";")[2] == target
        assert traces.forward(traces.reverse(trace)) == trace
        assert len(trace) <= bound.trace
        steps = interpreter.steps(program, registers=True)
        assert [step.value for step in steps if step.kind == "comparison"] == compared
        written = traces.register_trace(steps)
        assert traces.from_registers(written) == trace
        assert len(written) <= 2 * bound.trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--programs", type=int, default=20_000, help="programs a difficulty")
    arguments = parser.parse_args()
    start = time.perf_counter()
    with concurrent.futures.ProcessPoolExecutor(devices.num_cores()) as pool:
        checked = pool.map(functools.partial(check, count=arguments.programs), reversed(CELLS))
        for number, _ in enumerate(checked, start=1):
            print(f"{number}/{len(CELLS)} difficulties agree", end="\r", flush=True)
    result = {
        "difficulties": len(CELLS),
        "programs": len(CELLS) * arguments.programs,
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(f"\n{result['programs']:,} programs agree")
    measuring.write(arguments.json, result)


if __name__ == "__main__":
    main()
