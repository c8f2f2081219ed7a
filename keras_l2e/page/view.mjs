/** What is seen of the page and what happens when it is used. Nothing that is typed becomes HTML. */

import { candidates, hasEnded, load, probabilityOf } from "./network.mjs";
import {
  FORMS,
  answerIn,
  compareWork,
  label,
  remark,
  trueWork,
  truth,
  workIn,
} from "./tasks.mjs";
import { EOS, clean, nameOf, read, whyUnreadable } from "./text.mjs";

// Milliseconds. The first characters come one by one for the eye, the others as soon as they are
// computed, with a pause whenever the screen is due.
const PACE = 30;
const NUM_PACED = 40;
const SCREEN = 16;

/** Brings the page to life. */
export function start() {
  const page = new Page(JSON.parse(find("networks").textContent));
  find("network").addEventListener("change", () => page.choose());
  find("length").addEventListener("change", () => page.showExamples());
  find("nesting").addEventListener("change", () => page.showExamples());
  find("program").addEventListener("input", fit);
  find("form").addEventListener("submit", (event) => {
    event.preventDefault();
    page.press();
  });
  find("program").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    page.press();
  });
  for (const name of ["written", "predicted"]) walkWithArrows(find(name));
  page.choose();
}

class Page {
  /** @param {object[]} networks what is known of each; see `page.describe` */
  constructor(networks) {
    this.networks = networks;
    this.loaded = new Map();
    this.run = null;
    find("network").append(...networks.map(({ name }) => make("option", { textContent: name })));
    find("choice").hidden = networks.length < 2;
  }

  /** What is known of the network that is chosen. */
  get facts() {
    return this.networks[find("network").selectedIndex];
  }

  /** The network itself, which takes a moment to make. */
  get network() {
    const index = find("network").selectedIndex;
    if (!this.loaded.has(index)) {
      this.loaded.set(index, load(this.facts, find(`weights-${index}`).textContent));
    }
    return this.loaded.get(index);
  }

  /** Shows what is known of the network, and programs for it. */
  choose() {
    const { facts } = this;
    this.stop();
    find("answer").hidden = true;
    find("refusal").textContent = "";
    find("facts").replaceChildren(...describe(facts).map((text) => make("div", {}, text)));
    find("kind").textContent = facts.kind;
    fill(find("length"), facts.target_length);
    fill(find("nesting"), facts.target_nesting);
    find("nesting-choice").hidden = facts.target_nesting === 1;
    this.showExamples();
    put(find("kinds").firstChild?.dataset.program ?? "");
  }

  /** Shows a button for each kind of program at the difficulty that is chosen. */
  showExamples() {
    const difficulty = [find("length").value, find("nesting").value].join();
    const examples = this.facts.examples.filter((x) => x.difficulty.join() === difficulty);
    const buttons = examples.map(({ kind, programs }) => {
      const button = make("button", { type: "button", textContent: kind || "an example" });
      let next = 0;
      button.dataset.program = programs[0];
      button.addEventListener("click", () => {
        put(programs[next++ % programs.length]);
        this.execute();
      });
      return button;
    });
    find("kinds").replaceChildren(...buttons);
  }

  /** What the one button does: it begins or, while something is written, ends. */
  press() {
    if (this.run) this.stop();
    else this.execute();
  }

  stop() {
    this.run = null;
    find("execute").textContent = "Execute";
  }

  /** Has the network execute what is typed, and shows it as it comes. */
  async execute() {
    const program = clean(find("program").value);
    const reason = whyUnreadable(program, this.facts);
    find("refusal").textContent = reason ? `This network cannot read it: ${reason}.` : "";
    find("answer").hidden = Boolean(reason);
    this.stop();
    if (reason) return;
    const answer = new Answer(program, this.facts);
    find("lines").scrollIntoView({ block: "nearest" });
    const run = (this.run = {});
    find("execute").textContent = "Stop";
    const most = this.facts.longest_written + 1;
    const steps = this.network.write(read(program, this.facts.input_form), most);
    let shown = performance.now();
    for (;;) {
      const begun = performance.now();
      const { value: step, done } = steps.next();
      answer.time += performance.now() - begun;
      if (done) break;
      answer.add(step);
      const pace = answer.steps.length > NUM_PACED || isStill() ? 0 : PACE;
      if (pace || performance.now() - shown > SCREEN) {
        await new Promise((resolve) => setTimeout(resolve, pace));
        shown = performance.now();
      }
      if (this.run !== run) return;
    }
    this.stop();
    answer.finish();
  }
}

/** An answer as it is shown: what was written so far, beside the truth. */
class Answer {
  constructor(program, facts) {
    this.facts = facts;
    this.steps = [];
    this.written = "";
    this.time = 0;
    this.truth = truth(program, facts.task);
    this.showsWork = Boolean(FORMS[facts.target_form]);
    this.work = this.showsWork ? (trueWork(program, facts.task).steps ?? null) : null;
    this.place = find(this.showsWork ? "written" : "predicted");
    find("written").hidden = find("work-part").hidden = !this.showsWork;
    for (const name of ["written", "predicted", "work"]) find(name).replaceChildren();
    find("true").textContent = this.truth.text ?? `unknown: ${this.truth.error}`;
    find("true").classList.toggle("unknown", Boolean(this.truth.error));
    find("verdict").textContent = find("said").textContent = "";
    find("verdict").className = "";
    find("remark").textContent = remark(program, facts);
    this.leastSure = null;
    find("candidates").hidden = true;
  }

  /** Shows one more character. */
  add(step) {
    this.steps.push(step);
    const character = nameOf(step.id);
    if (!character) return; // Ids that stand for none leave no trace in a text.
    const isEnd = step.id === EOS;
    if (!isEnd) this.written += character;
    const button = showCharacter(step, this.steps.length);
    if (!this.showsWork && !isEnd) this.compare(button, character, this.written.length - 1);
    if (!(this.leastSure?.probability <= step.probabilities[step.id])) {
      this.leastSure = { button, probability: step.probabilities[step.id] };
    }
    this.place.append(button);
    this.place.firstChild.tabIndex = 0;
    this.place.scrollTop = this.place.scrollHeight;
    if (this.showsWork && (isEnd || character === ";")) this.showWork(isEnd);
  }

  /** Marks an element if its character is not that of the true answer at this place. */
  compare(element, character, place) {
    const { text } = this.truth;
    element.classList.toggle("differs", text !== undefined && text[place] !== character);
  }

  showWork(isDone) {
    const values = workIn(this.written, this.facts.target_form, isDone);
    const lines = compareWork(values.map(visible), this.work, isDone);
    find("work").replaceChildren(...lines.map(lineOfWork));
  }

  /** Shows what it comes to. */
  finish() {
    const answer = answerIn(this.written, this.facts.target_form, hasEnded(this.steps));
    if (this.showsWork) {
      this.showWork(true);
      const characters = Array.from(answer, (character, place) => {
        const shown = make("span", { textContent: visible(character) });
        this.compare(shown, character, place);
        return shown;
      });
      find("predicted").append(...characters);
    }
    this.leastSure?.button.click();
    const verdict = this.truth.error ? "" : answer === this.truth.text ? "right" : "wrong";
    const probability = `probability ${probabilityOf(this.steps).toFixed(4)}`;
    const effort = `${this.steps.length} characters in ${Math.max(1, Math.round(this.time))} ms`;
    find("verdict").className = verdict;
    find("verdict").textContent = [verdict, probability, effort].filter(Boolean).join(" \u00b7 ");
    const truth = find("true").textContent;
    const said = [`predicted ${visible(answer)}`, `true ${truth}`, verdict, probability];
    find("said").textContent = said.filter(Boolean).join(", ");
  }
}

// Parts of the page

/** What is known of a network, as lines. */
function describe(facts) {
  const target = [facts.target_length, facts.target_nesting];
  const numWeights = facts.weights.reduce(
    (sum, { shape }) => sum + shape.reduce((product, size) => product * size),
    0,
  );
  const trained = `task ${facts.task} up to ${label(target)}`;
  return [
    [trained, facts.measured[target.join()]].filter(Boolean).join(": "),
    `model ${facts.model}, ${numWeights.toLocaleString("en")} weights; ` +
      `input form ${facts.input_form}, target form ${facts.target_form}`,
  ];
}

/** Puts a program in the place of what is typed. */
function put(program) {
  find("program").value = program;
  fit();
}

/** As many lines as are typed, up to four; more are scrolled. */
function fit() {
  const program = find("program");
  program.rows = Math.min(4, program.value.split("\n").length);
}

/** A character that was written, the more shaded the less sure; it tells what else it might be. */
function showCharacter(step, number) {
  const name = nameOf(step.id);
  const probability = step.probabilities[step.id];
  const button = make("button", {
    type: "button",
    className: name === "EOS" ? "character end" : "character",
    textContent: name === " " ? "\u2423" : visible(name),
    tabIndex: -1,
  });
  button.setAttribute("aria-label", `${named(name)}, probability ${probability.toFixed(4)}`);
  button.style.setProperty("--doubt", (1 - probability).toFixed(3));
  for (const event of ["pointerenter", "focus", "click"]) {
    button.addEventListener(event, () => showCandidates(step, number, button));
  }
  return button;
}

/** What the network held for possible at a step. */
function showCandidates(step, number, button) {
  document.querySelector(".shown")?.classList.remove("shown");
  button.classList.add("shown");
  find("candidates").hidden = false;
  find("candidates-of").textContent = `Character ${number}`;
  const lines = candidates(step).map((id) => {
    const value = step.probabilities[id];
    const bar = make("span", { className: "bar" });
    bar.style.setProperty("--share", value.toFixed(4));
    const cells = [named(nameOf(id)), bar, value.toFixed(4)];
    return make("tr", {}, ...cells.map((cell) => make("td", {}, cell)));
  });
  find("candidate-lines").replaceChildren(...lines);
}

function lineOfWork({ value, computed, kind, turn, isFirstWrong }) {
  const what = [kind, turn || ""].filter(Boolean).join(" ");
  const mark = isFirstWrong ? "\u2190 the first wrong value" : "";
  const cells = [value || "nothing", computed ?? "nothing", what, mark];
  const line = make("tr", {}, ...cells.map((textContent) => make("td", { textContent })));
  line.classList.toggle("first-wrong", isFirstWrong);
  return line;
}

/** Of the characters one is reached by Tab, the others from it by the arrow keys. */
function walkWithArrows(place) {
  place.addEventListener("keydown", (event) => {
    const all = [...place.children];
    const here = all.indexOf(document.activeElement);
    const to = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: all.length - 1 };
    const next = all[to[event.key]];
    if (here < 0 || !next) return;
    event.preventDefault();
    all[here].tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}

function fill(select, most) {
  const numbers = Array.from({ length: most }, (_, i) => i + 1);
  select.replaceChildren(...numbers.map((n) => make("option", { value: n, textContent: n })));
  select.value = most;
}

function named(character) {
  return { " ": "space", "": "none" }[character] ?? visible(character);
}

function visible(text) {
  return text.replaceAll("\n", "\\n");
}

function isStill() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

function find(id) {
  return document.getElementById(id);
}

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
