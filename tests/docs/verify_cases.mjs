// Judges many bundles in one process: reads a JSON list of cases, prints the list of their verdicts.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [built, cases] = process.argv.slice(2);
const { parseTrust, verifyBundle } = createRequire(import.meta.url)(built);

function verdict({ bundle, trust, ...opened }) {
  try {
    verifyBundle(bundle, parseTrust(trust), opened);
    return "valid";
  } catch (error) {
    return error.check ?? `${error.name}: ${error.message}`;
  }
}

console.log(JSON.stringify(JSON.parse(readFileSync(cases, "utf8")).map(verdict)));
