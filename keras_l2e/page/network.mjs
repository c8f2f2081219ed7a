/**
 * The networks: a program's ids are read, and what is written comes one id at a time.
 *
 *     const network = load(description, base64);
 *     for (const step of network.write(read("print(12+34)", "reverse"), 11)) ...
 *
 * The numbers are those of `keras_l2e.networks` up to the order in which float32 are summed.
 */

import { BOS, EOS, PAD } from "./text.mjs";

/**
 * @typedef {object} Step one step of writing
 * @property {number} id the one written, the most probable
 * @property {Float32Array} probabilities of every id
 *
 * @typedef {object} Model what decoding needs
 * @property {(ids: number[]) => object} encode gives the state after reading
 * @property {(id: number, state: object) => Float32Array} decode gives logits, changes the state
 */

/** Of each model that the page knows, what makes a `Model` of its weights and arguments. */
export const MODELS = { lstm, attention };

/**
 * A network of the page.
 *
 * @param {{model: string, arguments: object, weights: {name: string, shape: number[]}[]}}
 *   description weights in the order in which they lie
 * @param {string} base64 their values, float32, little-endian
 * @returns {{write: (ids: number[], most: number) => Generator<Step>}}
 */
export function load(description, base64) {
  const text = atob(base64);
  const view = new DataView(new ArrayBuffer(text.length));
  for (let i = 0; i < text.length; i++) view.setUint8(i, text.charCodeAt(i));
  const weights = {};
  let place = 0;
  for (const { name, shape } of description.weights) {
    const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
    for (let i = 0; i < values.length; i++, place += 4) values[i] = view.getFloat32(place, true);
    weights[name] = shape.length === 2 ? { rows: shape[0], columns: shape[1], values } : values;
  }
  const model = MODELS[description.model](weights, description.arguments);
  return { write: (ids, most) => write(model, ids, most) };
}

/** Greedy decoding: at most so many steps, EOS included; `networks.decoding`. */
function* write(model, ids, most) {
  const state = model.encode(ids);
  let id = BOS;
  for (let step = 0; step < most && id !== EOS; step++) {
    const logits = model.decode(id, state);
    id = logits.indexOf(Math.max(...logits));
    yield { id, probabilities: softmax(logits) };
  }
}

/** Whether the end was written. */
export function hasEnded(steps) {
  return steps.at(-1)?.id === EOS;
}

/** The probability of all that was written; 0 if it never ended. As the SavedModel has it. */
export function probabilityOf(steps) {
  if (!hasEnded(steps)) return 0;
  const values = steps.map(({ id, probabilities }) => (id === PAD ? 1 : probabilities[id]));
  return values.reduce((product, value) => product * value, 1);
}

/** The most probable ids of a step, best first. */
export function candidates({ probabilities }, count = 5) {
  const ids = Array.from(probabilities.keys());
  return ids.sort((a, b) => probabilities[b] - probabilities[a] || a - b).slice(0, count);
}

// Models

/** Stacked LSTMs that read, and others or the same that write from their last states. */
function lstm(weights, { num_layers: numLayers, tie_encoder_decoder: isTied }) {
  const embeddings = weights["embedding/embeddings"];
  const stack = (name) =>
    Array.from({ length: numLayers }, (_, i) =>
      lstmLayer(weights, `${name}_lstm_${i}`, i ? null : embeddings),
    );
  const reader = stack(isTied ? "shared" : "encoder");
  const writer = isTied ? reader : stack("decoder");
  const logits = dense(weights, "logits");
  const advance = (layers, id, states) =>
    layers.reduce((x, layer, i) => layer.step(x, states[i]), id);
  return {
    encode(ids) {
      const states = reader.map((layer) => layer.start());
      for (const id of ids) advance(reader, id, states);
      return states;
    },
    decode: (id, states) => logits(advance(writer, id, states)),
  };
}

/** Looks, by several heads each, at what it read and at what it wrote; `networks.attention`. */
function attention(weights, options) {
  const embeddings = weights["embedding/embeddings"];
  const [width, numHeads] = [options.hidden_dim, options.num_heads];
  const [forward, backward] = ["forward", "backward"].map((name) =>
    lstmLayer(weights, `encoder_${name}`, embeddings),
  );
  const [tell, ask, mix, logits] = ["tell", "ask", "mix", "logits"].map((name) =>
    dense(weights, name),
  );
  const first = lstmLayer(weights, "decoder_lstm", embeddings);
  const second = options.second_lstm ? lstmLayer(weights, "decoder_second_lstm") : null;
  const part = (x, i) => x.subarray(i * width, (i + 1) * width);

  function encode(ids) {
    const [onward, back] = [forward.start(), backward.start()];
    const onwards = ids.map((id) => forward.step(id, onward).slice());
    const backs = ids.map((_, i) => backward.step(ids[ids.length - 1 - i], back).slice());
    const told = ids.map((_, i) => tell(join(onwards[i], backs[ids.length - 1 - i])));
    return {
      lstm: { h: join(onward.h, back.h), c: join(onward.c, back.c) },
      second: second?.start(),
      read: { keys: told.map((x) => part(x, 0)), values: told.map((x) => part(x, 1)) },
      past: { keys: [], values: [] },
    };
  }

  function decode(id, state) {
    const h = first.step(id, state.lstm);
    const asked = ask(h);
    const found = [attend(part(asked, 0), state.read, numHeads)];
    if (options.own_past) {
      state.past.keys.push(part(asked, 2));
      state.past.values.push(part(asked, 3));
      found.push(attend(part(asked, 1), state.past, numHeads));
    }
    const u = mix(join(...found)).map((value, i) => value + h[i]);
    return logits(second ? join(second.step(u, state.second), u) : u);
  }

  return { encode, decode };
}

// Layers

/**
 * An LSTM, a step at a time. With embeddings its inputs are ids: their products with the kernel are
 * worked out once. A step changes its state, and gives the state's h itself.
 */
function lstmLayer(weights, name, embeddings = null) {
  const kernel = transpose(weights[`${name}/lstm_cell/kernel`]);
  const recurrent = transpose(weights[`${name}/lstm_cell/recurrent_kernel`]);
  const bias = weights[`${name}/lstm_cell/bias`];
  const units = recurrent.columns;
  const table = embeddings && rowsOf(embeddings).map((row) => product(kernel, row, bias));
  return {
    start: () => ({ h: new Float32Array(units), c: new Float32Array(units) }),
    step(x, { h, c }) {
      const gates = product(recurrent, h, table ? table[x] : product(kernel, x, bias));
      for (let i = 0; i < units; i++) {
        const candidate = Math.tanh(gates[2 * units + i]);
        c[i] = sigmoid(gates[units + i]) * c[i] + sigmoid(gates[i]) * candidate;
        h[i] = sigmoid(gates[3 * units + i]) * Math.tanh(c[i]);
      }
      return h;
    },
  };
}

function dense(weights, name) {
  const kernel = transpose(weights[`${name}/kernel`]);
  const bias = weights[`${name}/bias`] ?? new Float32Array(kernel.rows);
  return (x) => product(kernel, x, bias);
}

/** What one query finds: each head, a part of the width, weighs the values by their keys. */
function attend(query, { keys, values }, numHeads) {
  const width = query.length / numHeads;
  const found = new Float32Array(query.length);
  for (let head = 0; head < query.length; head += width) {
    const scores = keys.map((key) => {
      let sum = 0;
      for (let i = head; i < head + width; i++) sum += query[i] * key[i];
      return sum / Math.sqrt(width);
    });
    softmax(scores).forEach((weight, place) => {
      const value = values[place];
      for (let i = head; i < head + width; i++) found[i] += weight * value[i];
    });
  }
  return found;
}

// Numbers

/** The rows of a matrix times x, plus a start; four rows at once keep the processor busy. */
function product({ rows, columns, values }, x, start) {
  const result = new Float32Array(rows);
  let row = 0;
  for (; row + 4 <= rows; row += 4) {
    const [a, b] = [row * columns, (row + 1) * columns];
    const [c, d] = [(row + 2) * columns, (row + 3) * columns];
    let [p, q, r, s] = [start[row], start[row + 1], start[row + 2], start[row + 3]];
    for (let i = 0; i < columns; i++) {
      const factor = x[i];
      p += values[a + i] * factor;
      q += values[b + i] * factor;
      r += values[c + i] * factor;
      s += values[d + i] * factor;
    }
    result[row] = p;
    result[row + 1] = q;
    result[row + 2] = r;
    result[row + 3] = s;
  }
  for (; row < rows; row++) {
    let sum = start[row];
    for (let i = 0; i < columns; i++) sum += values[row * columns + i] * x[i];
    result[row] = sum;
  }
  return result;
}

/** So that a product reads memory in order. */
function transpose({ rows, columns, values }) {
  const turned = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) turned[j * rows + i] = values[i * columns + j];
  }
  return { rows: columns, columns: rows, values: turned };
}

function rowsOf({ rows, columns, values }) {
  return Array.from({ length: rows }, (_, i) => values.subarray(i * columns, (i + 1) * columns));
}

function join(...parts) {
  const joined = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    joined.set(part, place);
    place += part.length;
  }
  return joined;
}

function sigmoid(x) {
  return 1 / (1 + Math.exp(-x));
}

function softmax(scores) {
  const most = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const powers = Float32Array.from(scores, (score) => Math.exp(score - most));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
