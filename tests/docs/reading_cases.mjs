// Reads many requests in one process: a JSON list of requests with an endpoint or null; prints the readings of each.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [built, cases] = process.argv.slice(2);
const { readingsOf } = createRequire(import.meta.url)(built);
const read = ([request, endpoint]) => readingsOf(request, endpoint ?? undefined).map(({ forwarded, limit = null }) => [forwarded, limit]);

console.log(JSON.stringify(JSON.parse(readFileSync(cases, "utf8")).map(read)));
