/**
 * Runs a program of the program class: the true answer beside a predicted one.
 *
 * It is `keras_l2e.language.interpreter` once more, with the same class, limits and words, and the
 * same steps. The grammar in syntax.mjs is all that Python's own makes of the class's characters;
 * what is listed here is accepted, and what is not is refused.
 */

import { MAX_DIGITS, ProgramError, parse } from "./syntax.mjs";
import { shortRepr } from "./text.mjs";

const MAX_STEPS = 500_000;
const MAX_TRACE = 1_000_000;
const NO_VALUES = ["comparison", "counter", "multiple"];
const BOUND = 10n ** BigInt(MAX_DIGITS);

/**
 * @typedef {object} Step a value that a program computes, and what it is; `traces.Step`
 * @property {bigint} value
 * @property {string} kind
 * @property {number} turn the round of a loop, from 1 on; 0 outside of loops
 */

/** What a program prints. Throws a ProgramError. */
export function run(program) {
  return String(execute(program, new State(false)));
}

/**
 * The values that a program computes; with `registers` also what is no value of a trace.
 *
 * @returns {Step[]}
 */
export function steps(program, registers = false) {
  const state = new State(true);
  const printed = execute(program, state);
  const isValue = ({ kind }) => !NO_VALUES.includes(kind);
  if (state.work.filter(isValue).at(-1)?.value !== printed) {
    state.keep(printed, "printed");
  }
  return registers ? state.work : state.work.filter(isValue);
}

/** What a program has done so far: its variables, the round of a loop it is in, its steps. */
class State {
  constructor(keepsWork) {
    this.variables = new Map();
    this.keepsWork = keepsWork;
    this.work = [];
    this.turn = 0;
    this.numCharacters = 0;
  }

  keep(value, kind) {
    if (!this.keepsWork) return;
    this.numCharacters += String(value).length + 1;
    if (this.numCharacters > MAX_TRACE) {
      throw new ProgramError(`work of more than ${MAX_TRACE} characters`);
    }
    this.work.push({ value, kind, turn: this.turn });
  }
}

function execute(program, state) {
  const statements = parse(program);
  const checker = new Checker(program);
  statements.slice(0, -1).forEach((statement) => checker.statement(statement));
  const printed = checker.print(statements.at(-1));
  executeAll(statements.slice(0, -1), state);
  return evaluate(printed, state);
}

/** Refuses what is not of the class, although Python can parse it. */
class Checker {
  constructor(program) {
    this.program = program;
  }

  source(node) {
    return shortRepr(this.program.slice(node.start, node.end));
  }

  refuse(node, construct = `${this.source(node)} in this place`) {
    throw new ProgramError(`line ${node.line}: ${construct} is not part of the program class`);
  }

  /** The expression that the last statement prints. */
  print(last) {
    if (!last) throw new ProgramError("line 1: no 'print'");
    const prints = last.type === "Expression" && isCallOf("print", last.value);
    if (!prints || !hasOneArgument(last.value)) {
      throw new ProgramError(
        `line ${last.line}: the last statement must print one value, not ${this.source(last)}`,
      );
    }
    this.expression(last.value.argument);
    return last.value.argument;
  }

  statement(node, inLoop = false) {
    if (isAssignment(node)) {
      this.expression(node.targets[0]);
      this.expression(node.value);
    } else if (isLoop(node) && !inLoop) {
      this.expression(node.target);
      this.expression(node.iterable.argument);
      node.body.forEach((statement) => this.statement(statement, true));
    } else if (node.type === "For" && inLoop) {
      this.refuse(node, "'for' inside a loop");
    } else if (node.type === "Expression" && isCallOf("print", node.value)) {
      throw new ProgramError(`line ${node.line}: 'print' before the last statement`);
    } else if (node.type === "Expression" && node.value.type === "Call") {
      this.expression(node.value);
    } else {
      this.refuse(node);
    }
  }

  expression(node) {
    if (node.type === "Constant") return;
    if (node.type === "Name") {
      if (node.name.length > 1) this.refuse(node, `name ${shortRepr(node.name)}`);
    } else if (node.type === "Unary" && node.operator === "-") {
      this.expression(node.operand);
    } else if (node.type === "Binary" && node.operator in OPERATIONS) {
      this.expression(node.left);
      this.expression(node.right);
    } else if (isConditional(node)) {
      const { left, operands } = node.test;
      [left, operands[0], node.body, node.orelse].forEach((part) => this.expression(part));
    } else if (node.type === "Call" && node.called.type === "Name") {
      this.refuse(node, `call of ${shortRepr(node.called.name)}`);
    } else {
      this.refuse(node);
    }
  }
}

const OPERATIONS = {
  "+": (left, right) => left + right,
  "-": (left, right) => left - right,
  "*": (left, right) => left * right,
};

function isCallOf(name, node) {
  return node?.type === "Call" && node.called.name === name;
}

function hasOneArgument(call) {
  return Boolean(call.argument) && call.argument.type !== "Keyword";
}

function isAssignment(node) {
  const isKnown =
    node.type === "Assign" || (node.type === "Augmented" && "+-".includes(node.operator));
  return isKnown && node.targets.length === 1 && node.targets[0].type === "Name";
}

function isLoop(node) {
  return (
    node.type === "For" &&
    node.target.type === "Name" &&
    isCallOf("range", node.iterable) &&
    hasOneArgument(node.iterable) &&
    !node.orelse
  );
}

function isConditional(node) {
  if (node.type !== "Conditional" || node.test.type !== "Comparison") return false;
  const { operators } = node.test;
  return operators.length === 1 && (operators[0] === "<" || operators[0] === ">");
}

function executeAll(statements, state) {
  let numSteps = 0n;
  for (const statement of statements) {
    if (statement.type !== "For") {
      assign(statement, state);
      continue;
    }
    const turns = evaluate(statement.iterable.argument, state);
    const numTurns = turns > 0n ? turns : 0n;
    numSteps += numTurns * BigInt(statement.body.reduce((sum, line) => sum + size(line), 0));
    if (numSteps > MAX_STEPS) {
      throw new ProgramError(`line ${statement.line}: 'for' loop past ${MAX_STEPS} steps`);
    }
    for (let turn = 0; turn < numTurns; turn++) {
      state.variables.set(statement.target.name, BigInt(turn));
      state.turn = turn + 1;
      state.keep(numTurns - BigInt(turn), "counter");
      statement.body.forEach((line) => assign(line, state));
    }
    state.turn = 0;
  }
}

/** How many nodes Python's syntax tree has for a statement or expression: loops are held to it. */
function size(node) {
  switch (node.type) {
    case "Constant":
      return 1;
    case "Name":
      return 2;
    case "Unary":
      return 2 + size(node.operand);
    case "Binary":
      return 2 + size(node.left) + size(node.right);
    case "Conditional":
      return 1 + size(node.test) + size(node.body) + size(node.orelse);
    case "Comparison":
      return 2 + size(node.left) + size(node.operands[0]);
    case "Assign":
      return 1 + size(node.targets[0]) + size(node.value);
    case "Augmented":
      return 2 + size(node.targets[0]) + size(node.value);
  }
}

function assign(node, state) {
  const [target] = node.targets;
  if (node.type === "Assign") {
    state.variables.set(target.name, evaluate(node.value, state));
  } else {
    const before = evaluate(target, state);
    const value = evaluate(node.value, state);
    state.variables.set(target.name, apply(node, before, value, state));
  }
}

function evaluate(node, state) {
  switch (node.type) {
    case "Constant":
      return node.value;
    case "Name":
      if (!state.variables.has(node.name)) {
        throw new ProgramError(`line ${node.line}: unknown name ${shortRepr(node.name)}`);
      }
      return state.variables.get(node.name);
    case "Unary":
      return -evaluate(node.operand, state);
    case "Binary": {
      const left = evaluate(node.left, state);
      return apply(node, left, evaluate(node.right, state), state);
    }
    case "Conditional": {
      const { left, operands, operators } = node.test;
      const difference = evaluate(left, state) - evaluate(operands[0], state);
      state.keep(difference, "comparison");
      const holds = operators[0] === ">" ? difference > 0n : difference < 0n;
      const value = evaluate(holds ? node.body : node.orelse, state);
      state.keep(value, "choice");
      return value;
    }
  }
}

function apply(node, left, right, state) {
  const value = OPERATIONS[node.operator](left, right);
  if (absolute(value) >= BOUND) {
    throw new ProgramError(`line ${node.line}: value of more than ${MAX_DIGITS} digits`);
  }
  if (node.operator === "*") {
    schoolbook(left, right).forEach(({ part, kind }) => state.keep(part, kind));
    state.keep(value, "product");
  } else if (node.type === "Augmented" && state.turn) {
    state.keep(value, "round");
  } else {
    state.keep(value, node.operator === "+" ? "sum" : "difference");
  }
  return value;
}

/** What is computed before a product; `traces.products` and `traces.multiple`. */
function schoolbook(left, right) {
  const [number, factor] = absolute(left) < absolute(right) ? [right, left] : [left, right];
  const size = absolute(factor);
  if (size <= 10n || size >= 100n) return [];
  if (factor % 10n === 0n) return [{ part: (number * factor) / 10n, kind: "multiple" }];
  const units = factor % 10n; // Of the factor's sign, unlike in Python.
  return [
    { part: number * units, kind: "units" },
    { part: number * (factor - units), kind: "tens" },
  ];
}

function absolute(value) {
  return value < 0n ? -value : value;
}
