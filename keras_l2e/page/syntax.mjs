/**
 * Parses what the characters of the program class can be in Python, as a syntax tree.
 *
 * These characters leave little of Python's grammar: no text, comma, dot or comment. All of it that
 * is left is here, so that a text is refused for the reason for which Python refuses it.
 */

import { repr, shortRepr } from "./text.mjs";

const MAX_CHARACTERS = 4096;
const MAX_OPERATORS = 100;
export const MAX_DIGITS = 500;
const KEYWORDS = new Set(["for", "in", "if", "else"]);
// Those of Python that can be written in small letters alone.
const OTHER_KEYWORDS = new Set(
  `and as assert async await break class continue def del elif except finally from global import
  is lambda nonlocal not or pass raise return try while with yield`.split(/\s+/),
);
const NESTING = new Set(["(", "+", "-", "*", "<", ">", "if"]);
const SPACES = / */y;
const TOKEN = /[a-z0-9]+|\*\*=|<<=|>>=|\*\*|<<|>>|[-+*=<>:]=|<>|->|[-+*=<>:;()]/y;
const ASSIGNING = { "+=": "+", "-=": "-", "*=": "*", "**=": "**", "<<=": "<<", ">>=": ">>" };

/** A text that is no program of the class; the message names the line and the construct. */
export class ProgramError extends Error {}

/**
 * @typedef {object} Node a statement or an expression
 * @property {string} type
 * @property {number} line of its first character, from 1 on
 * @property {number} start of its text in the program
 * @property {number} end of its text
 */

/**
 * The statements of a program. Throws a ProgramError.
 *
 * @returns {Node[]}
 */
export function parse(program) {
  checkText(program);
  const parser = new Parser(program);
  const statements = parser.statements("END");
  if (parser.error) throw parser.error;
  return statements;
}

/** Refuses, token by token, what the class has not, and what is too long; `_check_text`. */
function checkText(program) {
  const characters = Array.from(program);
  if (characters.length > MAX_CHARACTERS) {
    const line = characters.slice(0, MAX_CHARACTERS).filter((c) => c === "\n").length + 1;
    throw new ProgramError(`line ${line}: program of more than ${MAX_CHARACTERS} characters`);
  }
  let [line, depth, numOperators] = [1, 0, 0];
  const outside = (construct) =>
    new ProgramError(`line ${line}: ${construct} is not part of the program class`);
  for (const [token] of program.matchAll(/[a-z0-9]+|[^ ]/gu)) {
    if (/^[a-z]/.test(token)) {
      if (OTHER_KEYWORDS.has(token)) throw outside(`keyword ${repr(token)}`);
    } else if (/^[0-9]/.test(token)) {
      if (!/^(0|[1-9][0-9]*)$/.test(token)) throw outside(`number ${shortRepr(token)}`);
      if (token.length > MAX_DIGITS) {
        throw new ProgramError(`line ${line}: number of more than ${MAX_DIGITS} digits`);
      }
    } else if (!"\n()*+-:;<=>".includes(token)) {
      throw outside(`character ${repr(token)}`);
    }
    depth += (token === "(") - (token === ")");
    if ((token === "\n" || token === ";") && depth <= 0) numOperators = 0;
    numOperators += NESTING.has(token);
    if (numOperators > MAX_OPERATORS) {
      const most = `more than ${MAX_OPERATORS} operators and brackets`;
      throw new ProgramError(`line ${line}: statement of ${most}`);
    }
    line += token === "\n";
  }
}

function syntaxError(program, line, message) {
  const text = program.split("\n")[line - 1] ?? "";
  return new ProgramError(`line ${line}: ${message}: ${shortRepr(text)}`);
}

/**
 * The tokens of a text that `checkText` has passed. A line's end, a deeper and a lesser indentation
 * and the end are NEWLINE, INDENT, DEDENT and END.
 *
 * @returns {{tokens: {text: string, line: number, start: number, end: number}[], openLine: number,
 *   error: ?ProgramError}} also the line of a bracket that is never closed, else 0; and what is
 *   wrong behind the last token
 */
function tokenize(program) {
  const tokens = [];
  const indents = [0];
  const open = [];
  let line = 1;
  let error = null;
  const add = (text, start, end = start) => tokens.push({ text, line, start, end });
  for (let place = 0; place < program.length && !error; ) {
    const isLineStart = !open.length && (place === 0 || program[place - 1] === "\n");
    const width = match(SPACES, program, place).length;
    place += width;
    if (place >= program.length) break;
    const character = program[place];
    if (isLineStart && character !== "\n") {
      if (width > indents.at(-1)) {
        indents.push(width);
        add("INDENT", place);
      }
      while (width < indents.at(-1)) {
        indents.pop();
        add("DEDENT", place);
      }
      if (width !== indents.at(-1)) {
        error = syntaxError(program, line, "unindent does not match any outer indentation level");
      }
    }
    if (character === "\n") {
      if (!open.length && !isLineStart) add("NEWLINE", place);
      line += 1;
      place += 1;
      continue;
    }
    const text = match(TOKEN, program, place);
    add(text, place, place + text.length);
    place += text.length;
    if (text === "(") open.push(line);
    if (text === ")" && !open.length) error = syntaxError(program, line, "unmatched ')'");
    if (text === ")") open.pop();
  }
  if (!open.length && tokens.length && tokens.at(-1).text !== "NEWLINE") {
    add("NEWLINE", program.length);
  }
  line -= program.endsWith("\n");
  indents.slice(1).forEach(() => add("DEDENT", program.length));
  add("END", program.length);
  return { tokens, openLine: open.at(-1) ?? 0, error };
}

function match(sticky, program, place) {
  sticky.lastIndex = place;
  return sticky.exec(program)[0];
}

/** Of each thing that can be written a method that reads it and gives its `Node`. */
class Parser {
  constructor(program) {
    this.program = program;
    Object.assign(this, tokenize(program));
    this.place = 0;
  }

  get next() {
    return this.tokens[this.place];
  }

  at(...texts) {
    return texts.includes(this.next.text);
  }

  take() {
    const token = this.tokens[this.place++];
    if (!/^[A-Z]/.test(token.text)) this.last = token;
    return token;
  }

  accept(text) {
    return this.at(text) && this.take();
  }

  expect(text, message) {
    return this.accept(text) || this.fail(message);
  }

  fail(message = "invalid syntax", line = this.next.line) {
    if (this.at("INDENT")) throw syntaxError(this.program, line, "unexpected indent");
    if (this.error) throw this.error;
    const isOpen = this.openLine && (this.at("END") || this.next.line > this.openLine);
    if (isOpen) throw syntaxError(this.program, this.openLine, "'(' was never closed");
    throw syntaxError(this.program, line, message);
  }

  node(type, first, parts) {
    return { type, line: first.line, start: first.start, end: this.last.end, ...parts };
  }

  statements(end) {
    const found = [];
    while (!this.at(end)) found.push(...this.statement());
    return found;
  }

  statement() {
    if (this.at("for")) return [this.loop()];
    if (this.at("if")) return [this.branch()];
    return this.simpleStatements();
  }

  simpleStatements() {
    const found = [this.simpleStatement()];
    while (this.accept(";")) {
      if (!this.at("NEWLINE")) found.push(this.simpleStatement());
    }
    this.expect("NEWLINE");
    return found;
  }

  simpleStatement() {
    const first = this.next;
    let value = this.starred();
    const place = first.line;
    if (this.accept(":")) {
      this.expression();
      if (!isName(value)) this.fail("illegal target for annotation", place);
      if (this.accept("=")) this.starred();
      return this.node("Annotated", first);
    }
    if (this.next.text in ASSIGNING) {
      if (!isName(value)) {
        this.fail(`'${kindOf(value)}' is an illegal expression for augmented assignment`, place);
      }
      const operator = ASSIGNING[this.take().text];
      const parts = { operator, targets: [value], value: this.starred() };
      return this.node("Augmented", first, parts);
    }
    const targets = [];
    while (this.at("=")) {
      this.checkTarget(value, MEANT);
      this.take();
      targets.push(value);
      value = this.starred();
    }
    return targets.length
      ? this.node("Assign", first, { targets, value })
      : this.node("Expression", first, { value });
  }

  checkTarget(node, meant = "") {
    const inner = node.type === "Starred" ? node.value : node;
    if (isName(inner) || inner.type === "Empty") return;
    const isComparison = node.type === "Comparison" || node.type === "Conditional";
    this.fail(`cannot assign to ${kindOf(inner)}${isComparison ? "" : meant}`, node.line);
  }

  loop() {
    const first = this.take();
    const target = this.target();
    this.expect("in");
    const iterable = this.starred();
    const body = this.block("'for' statement", first);
    const orelse = this.otherwise();
    return this.node("For", first, { target, iterable, body, orelse });
  }

  target() {
    const target = this.at("*") ? this.starred() : this.primary();
    this.checkTarget(target);
    return target;
  }

  branch() {
    const first = this.take();
    this.named();
    this.block("'if' statement", first);
    this.otherwise();
    return this.node("If", first);
  }

  otherwise() {
    const first = this.accept("else");
    return first ? this.block("'else' statement", first) : null;
  }

  block(name, first) {
    this.expect(":", this.at("NEWLINE") ? "expected ':'" : undefined);
    if (!this.accept("NEWLINE")) return this.simpleStatements();
    this.expect("INDENT", `expected an indented block after ${name} on line ${first.line}`);
    const found = this.statements("DEDENT");
    this.take();
    return found;
  }

  starred() {
    const first = this.next;
    if (!this.accept("*")) return this.expression();
    return this.node("Starred", first, { value: this.shift() });
  }

  /** An expression or, as brackets and conditions may hold it, name := expression. */
  named() {
    const first = this.next;
    const value = this.expression();
    if (value.type !== "Name" || !this.accept(":=")) return value;
    this.expression();
    return this.node("Named", first);
  }

  expression() {
    const first = this.next;
    const body = this.comparison();
    if (!this.accept("if")) return body;
    const test = this.comparison();
    if (this.at(":")) this.fail();
    this.expect("else", "expected 'else' after 'if' expression");
    const orelse = this.expression();
    return this.node("Conditional", first, { test, body, orelse });
  }

  comparison() {
    const first = this.next;
    const left = this.shift();
    const [operators, operands] = [[], []];
    while (this.at("<", ">", "==", "<=", ">=", "in")) {
      operators.push(this.take().text);
      operands.push(this.shift());
    }
    if (!operators.length) return left;
    return this.node("Comparison", first, { left, operators, operands });
  }

  shift() {
    return this.binary(["<<", ">>"], () => this.sum());
  }

  sum() {
    return this.binary(["+", "-"], () => this.product());
  }

  product() {
    return this.binary(["*"], () => this.factor());
  }

  binary(operators, operand) {
    const first = this.next;
    let left = operand();
    while (this.at(...operators)) {
      const operator = this.take().text;
      const right = operand();
      left = this.node("Binary", first, { left, operator, right });
    }
    return left;
  }

  factor() {
    const first = this.next;
    if (!this.at("+", "-")) return this.power();
    const operator = this.take().text;
    return this.node("Unary", first, { operator, operand: this.factor() });
  }

  power() {
    const first = this.next;
    const left = this.primary();
    if (!this.accept("**")) return left;
    return this.node("Binary", first, { left, operator: "**", right: this.factor() });
  }

  primary() {
    const first = this.next;
    let found = this.atom();
    while (this.at("(")) {
      const opened = this.take();
      const value = this.at(")") ? null : this.argument();
      const argument = this.closed(opened, value);
      found = this.node("Call", first, { called: found, argument });
    }
    return found;
  }

  /** What stands in brackets: a value, or the generator that it begins. */
  closed(opened, value) {
    const isGenerator = value && this.comprehension();
    if (value && startsAtom(this.next.text)) {
      this.expression();
      this.fail("invalid syntax. Perhaps you forgot a comma?", value.line);
    }
    this.expect(")");
    return isGenerator ? this.node("Generator", opened) : value;
  }

  argument() {
    const first = this.next;
    if (this.accept("**")) {
      this.expression();
      return this.node("Keyword", first);
    }
    if (this.accept("*")) {
      this.expression();
      return this.node("Starred", first);
    }
    const value = this.named();
    if (!this.at("=")) return value;
    if (!isName(value)) {
      const meant = 'perhaps you meant "=="?';
      this.fail(`expression cannot contain assignment, ${meant}`, value.line);
    }
    this.take();
    this.expression();
    return this.node("Keyword", first);
  }

  /** Whether there is what follows the value in (value for x in values if condition). */
  comprehension() {
    if (!this.at("for")) return false;
    while (this.accept("for")) {
      this.target();
      this.expect("in");
      this.comparison();
      while (this.accept("if")) this.comparison();
    }
    return true;
  }

  atom() {
    const first = this.next;
    if (/^[0-9]/.test(first.text)) {
      return this.node("Constant", first, { value: BigInt(this.take().text) });
    }
    if (/^[a-z]/.test(first.text) && !KEYWORDS.has(first.text)) {
      const name = this.take().text;
      if (name === "print" && startsAtom(this.next.text) && !this.at("(")) {
        const meant = "Missing parentheses in call to 'print'. Did you mean print(...)?";
        this.fail(meant, first.line);
      }
      return this.node("Name", first, { name });
    }
    this.expect("(");
    if (this.accept(")")) return this.node("Empty", first);
    const value = this.named();
    if (this.at("=")) {
      this.checkTarget(value, MEANT);
      this.fail("invalid syntax. Maybe you meant '==' or ':=' instead of '='?", value.line);
    }
    return this.closed(first, value);
  }
}

const MEANT = " here. Maybe you meant '==' instead of '='?";
const KINDS = {
  Constant: "literal",
  Call: "function call",
  Comparison: "comparison",
  Conditional: "conditional expression",
  Generator: "generator expression",
  Empty: "tuple",
  Starred: "starred",
  Named: "named expression",
};

/** How Python calls an expression in its messages. */
function kindOf(node) {
  return KINDS[node.type] ?? "expression";
}

function isName(node) {
  return node.type === "Name";
}

function startsAtom(text) {
  return /^[a-z0-9(]/.test(text) && !KEYWORDS.has(text);
}
