/**
 * Texts as `keras_l2e.language` has them: the characters and their ids, what is left out of a typed
 * text, and how Python shows a text in a message.
 */

export const CHARACTERS = "\n ()*+-0123456789:;<=>abcdefghijlnoprstx";
export const PAD = 0;
export const BOS = CHARACTERS.length + 1;
export const EOS = CHARACTERS.length + 2;

/** The ids of a text whose characters are all known. */
export function encode(text) {
  return Array.from(text, (character) => CHARACTERS.indexOf(character) + 1);
}

/** The character of an id, "EOS" for the end; "" for PAD and BOS, which are none. */
export function nameOf(id) {
  return id === EOS ? "EOS" : (CHARACTERS[id - 1] ?? "");
}

/** A typed text without what editors and terminals add to it; `forms.clean`. */
export function clean(text) {
  const lines = text.replace(/^\ufeff/, "").split(/\r\n|\r|\n/);
  return lines
    .map((line) => line.replace(/[ \t\f]+$/, ""))
    .filter((line) => line)
    .join("\n");
}

/** The ids that a network reads of a program; `forms.read` and `networks.text.encode_programs`. */
export function read(program, inputForm) {
  const ids = encode(program);
  if (inputForm.startsWith("reverse")) ids.reverse();
  const once = [...ids, EOS];
  return inputForm.endsWith("double") ? [...once, ...once] : once;
}

/**
 * Why a network cannot read a cleaned text, in the words of `execute`; null if it can.
 *
 * @param {string} program
 * @param {{white_space: string, longest_program: number}} facts of the network
 */
export function whyUnreadable(program, facts) {
  if (!program) return "it is empty";
  const characters = Array.from(program); // As in Python, one beyond 16 bits is one, not two.
  const unknown = characters.findIndex((character) => !CHARACTERS.includes(character));
  if (unknown >= 0) {
    return `unknown character ${repr(characters[unknown])} at position ${unknown}`;
  }
  const own = new RegExp(facts.white_space, "g");
  const stray = program.replace(own, (found) => "_".repeat(found.length)).search(/[ \n]/);
  if (stray >= 0) {
    return `white space at position ${stray}, where no program of the task has any`;
  }
  const most = facts.longest_program;
  if (program.length > most) {
    return `${program.length} characters; this network was trained on at most ${most}`;
  }
  return null;
}

const ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\" };

/** A text as Python's `repr` shows it. */
export function repr(text) {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const shown = Array.from(text, (character) => {
    if (character === quote) return `\\${quote}`;
    if (character in ESCAPES) return ESCAPES[character];
    return character !== " " && /[\p{C}\p{Z}]/u.test(character) ? escape(character) : character;
  });
  return quote + shown.join("") + quote;
}

function escape(character) {
  const code = character.codePointAt(0);
  const [mark, width] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
  return `\\${mark}${code.toString(16).padStart(width, "0")}`;
}

/** As `repr`, at most 30 characters; Python's `reprlib.repr`. Of ASCII alone. */
export function shortRepr(text) {
  if (repr(text.slice(0, 30)).length <= 30) return repr(text.slice(0, 30));
  const shown = repr(text.slice(0, 13) + text.slice(-14));
  return `${shown.slice(0, 13)}...${shown.slice(-14)}`;
}
