/**
 * Asks the page's modules what a test wants to know; JSON comes in and goes out.
 *
 *     node tests/page_in_node.mjs FOLDER_OF_MODULES < {"function": "run", "arguments": [["print(3)"]]}
 *
 * Of each list of arguments comes {"value"} or {"error"}; BigInt are texts. `answer` is a function
 * of this file: what a network of a page writes.
 */

import { readFileSync } from "node:fs";

const request = JSON.parse(readFileSync(0, "utf-8"));
const modules = {};
for (const name of ["text", "syntax", "interpreter", "tasks", "network"]) {
  Object.assign(modules, await import(`${process.argv[2]}/${name}.mjs`));
}
const { ProgramError, candidates, encode, load, nameOf, probabilityOf, read } = modules;

const networks = [];
if (request.page) {
  const html = readFileSync(request.page, "utf-8");
  const block = (id) => new RegExp(`<script id="${id}"[^>]*>(.*?)</script>`, "s").exec(html)[1];
  for (const [i, facts] of JSON.parse(block("networks")).entries()) {
    networks.push({ facts, network: load(facts, block(`weights-${i}`)) });
  }
}

modules.answer = (index, program, most) => {
  const { facts, network } = networks[index];
  const start = performance.now();
  const ids = read(program, facts.input_form);
  const steps = [...network.write(ids, most ?? facts.longest_written + 1)];
  const milliseconds = performance.now() - start;
  return {
    written: steps.map(({ id }) => nameOf(id)),
    probabilities: steps.map(({ id, probabilities }) => probabilities[id]),
    candidates: steps.map((step) => candidates(step).map(nameOf)),
    best: steps.map((step) => candidates(step).map((id) => step.probabilities[id])),
    probability: probabilityOf(steps),
    milliseconds,
  };
};
modules.difficultyOf = (task, text) => modules.TASKS[task].difficultyOf(text);
modules.trueOutput = (task, text) => modules.TASKS[task].answer(text);
modules.names = (table) => Object.keys(modules[table]);
modules.ids = (text) => [modules.BOS, ...encode(text), modules.EOS];

function attempt(compute) {
  try {
    return { value: compute() };
  } catch (error) {
    if (error instanceof ProgramError) return { error: error.message };
    throw error;
  }
}

const found = request.arguments.map((list) =>
  attempt(() => modules[request.function](...list)),
);
console.log(JSON.stringify(found, (_, value) => (typeof value === "bigint" ? String(value) : value)));
