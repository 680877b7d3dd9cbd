// Reads many answers in one process: a JSON list of texts, whose choices it prints; null where it refuses a text.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [built, cases] = process.argv.slice(2);
const { choicesOf } = createRequire(import.meta.url)(built);

function choices(text) {
  try {
    return choicesOf(text);
  } catch (error) {
    if (error.check === "answer" || error instanceof SyntaxError) return null;
    throw error;
  }
}

console.log(JSON.stringify(JSON.parse(readFileSync(cases, "utf8")).map(choices)));
