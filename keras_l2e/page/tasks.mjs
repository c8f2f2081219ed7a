/**
 * What each task and each target form are: the true answer and the work of a program, how difficult
 * it is, and where answer and work stand in a written text; `language.tasks` and `language.forms`.
 */

import { run, steps } from "./interpreter.mjs";
import { ProgramError } from "./syntax.mjs";

/**
 * @typedef {[number, number]} Difficulty length and nesting
 *
 * @typedef {object} Task
 * @property {(program: string) => string} answer the true output; throws a ProgramError
 * @property {(program: string) => Step[]} steps the true work; throws a ProgramError
 * @property {(program: string) => ?Difficulty} difficultyOf null for what is none of the task
 */

const PROGRAM = { answer: run, steps, difficultyOf: difficultyOfProgram };

/** @type {Object<string, Task>} */
export const TASKS = {
  program: PROGRAM,
  control: { ...PROGRAM, difficultyOf: difficultyOfControl },
  addition: { answer: run, steps, difficultyOf: difficultyOfAddition },
  copy: memory((text) => text),
  reverse: memory(reversed),
  double: memory((text) => text + text),
};

/** A task that reads digits and writes digits that a function makes of them. */
function memory(write) {
  const difficultyOf = (text) => (/^[0-9]+$/.test(text) ? [text.length, 1] : null);
  const answer = (text) => {
    if (!difficultyOf(text)) throw new ProgramError("line 1: only digits can be read");
    return write(text);
  };
  return { answer, difficultyOf };
}

/**
 * Of each target form how its work is written; null where there is none. Values stand between
 * semicolons, the answer behind the last one; in a trace it is the last value itself.
 *
 * @type {Object<string, ?{valueOf: (written: string) => string, endsWithAnswer?: boolean,
 *   noValues?: RegExp}>}
 */
export const FORMS = {
  answer: null,
  trace: { valueOf: (written) => written, endsWithAnswer: true },
  reversed_trace: { valueOf: reversed },
  register_trace: { valueOf: signed, noValues: /[0-9]*-?[*:<=>]|[a-z]/g },
};

/** The answer in a text that is written in some target form, and its end, or not. */
export function answerIn(written, targetForm, ended) {
  if (!FORMS[targetForm]) return written;
  return ended ? written.slice(written.lastIndexOf(";") + 1) : "";
}

/** The values of the work in a text, without one that is still being written. */
export function workIn(written, targetForm, isDone = true) {
  const { valueOf, endsWithAnswer, noValues = "" } = FORMS[targetForm];
  const values = written.replace(noValues, "").split(";");
  if (!(endsWithAnswer && isDone)) values.pop();
  return values.map(valueOf);
}

/** What a program really prints, or why that is unknown: {text} or {error}. */
export function truth(program, task) {
  return attempt(() => ({ text: TASKS[task].answer(program) }));
}

/** What Python computes for a program, or why that is unknown: {steps} or {error}. */
export function trueWork(program, task) {
  return attempt(() => ({ steps: TASKS[task].steps(program) }));
}

function attempt(compute) {
  try {
    return compute();
  } catch (error) {
    if (error instanceof ProgramError) return { error: error.message };
    throw error;
  }
}

/** What is known of how a network fares on programs like this one; "" if nothing. */
export function remark(program, facts) {
  if (truth(program, facts.task).error) return "";
  const difficulty = TASKS[facts.task].difficultyOf(program);
  if (difficulty) {
    const [length, nesting] = difficulty;
    const isTrained = length <= facts.target_length && nesting <= facts.target_nesting;
    const rate = facts.measured[difficulty.join()] ?? "";
    return isTrained ? rate : `it was not trained on ${label(difficulty)}`;
  }
  const numbers = /^print\(([0-9]+)\+([0-9]+)\)$/.exec(program)?.slice(1);
  if (!numbers || facts.task !== "addition") return "it was not trained on programs written so";
  const [a, b] = numbers.map((number) => number.length);
  return `its sums were of two numbers of as many digits, these have ${a} and ${b}`;
}

/** A difficulty for the eye. */
export function label([length, nesting]) {
  return `length ${length}${nesting > 1 ? `, nesting ${nesting}` : ""}`;
}

/**
 * The values that a network wrote beside those that Python computes.
 *
 * @param {string[]} values as they were written, newest last
 * @param {?Step[]} steps what is computed; null if that is unknown
 * @param {boolean} isDone whether no more values will come
 * @returns {{value: ?string, computed: ?string, kind: string, turn: number, isFirstWrong: boolean}[]}
 */
export function compareWork(values, steps, isDone) {
  const count = steps && isDone ? Math.max(values.length, steps.length) : values.length;
  let allRight = true;
  return Array.from({ length: count }, (_, i) => {
    const [value, step] = [values[i] ?? null, steps?.[i]];
    const computed = step ? String(step.value) : null;
    const isFirstWrong = Boolean(steps) && allRight && value !== computed;
    allRight &&= !isFirstWrong;
    return { value, computed, kind: step?.kind ?? "", turn: step?.turn ?? 0, isFirstWrong };
  });
}

function reversed(text) {
  return Array.from(text).reverse().join("");
}

/** The value that was written as a complement, least significant digit first; `traces._signed`. */
function signed(written) {
  const found = /^([0-9]+)(-?)$/.exec(written);
  if (!found) return written;
  const digits = reversed(found[1]);
  return String(BigInt(digits) - (found[2] ? 10n ** BigInt(digits.length) : 0n));
}

function difficultyOfAddition(text) {
  const found = /^print\((0|[1-9][0-9]*)\+(0|[1-9][0-9]*)\)$/.exec(text);
  return found && found[1].length === found[2].length ? [found[1].length, 1] : null;
}

function difficultyOfControl(text) {
  const [pairs, products, variables, loops, conditionals] = operationsOf(text);
  const only = pairs + products + variables === 0 && loops + conditionals > 0;
  return only ? difficultyOfProgram(text) : null;
}

/**
 * How many pairs, products, variables, loops and conditionals a program has;
 * `programs._visible_operations`.
 */
function operationsOf(text) {
  const [products, variables, loops] = [count(text, /\*/g), count(text, /;/g), count(text, /for /g)];
  const conditionals = count(text, / if /g);
  const pairs = count(text, /\(/g) - 1 - loops - products - variables - conditionals;
  return [pairs, products, variables, loops, conditionals];
}

function count(text, pattern) {
  return text.match(pattern)?.length ?? 0;
}

function difficultyOfProgram(text) {
  if (truth(text, "program").error) return null;
  const [pairs, products, variables, loops, conditionals] = operationsOf(text);
  if (pairs < 0 || count(text, /[-+](?!=)|\*/g) !== pairs + products + variables) return null;
  const small = [...text.matchAll(/range\(([0-9]+)\)/g)].map(([, rounds]) => BigInt(rounds));
  for (const [, ...factors] of text.matchAll(/([0-9]*)\*([0-9]*)/g)) {
    const literals = factors.filter((factor) => factor).map(BigInt);
    if (!literals.length) return null;
    small.push(literals.reduce((a, b) => (a < b ? a : b)));
  }
  // Literals of length n go from 1 to 10^n, small factors and numbers of rounds from 1 to 4n.
  const literals = (text.match(/[0-9]+/g) ?? []).map(BigInt);
  const digits = literals.map((number) => String(number > 1n ? number - 1n : 0n).length);
  const quarters = small.map((number) => Number((number + 3n) / 4n));
  const operations = pairs + products + variables + loops + conditionals;
  return [Math.max(1, ...digits, ...quarters), Math.max(1, operations)];
}
