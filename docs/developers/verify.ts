// Verifies a receipt's bundle, offline, with nothing but Node 20.12 or later: node:crypto and the files in verify/.
//
//   node verify.js BUNDLE TRUST [REQUEST [RESPONSE]]
//
// prints one JSON object and exits 0 (valid), 1 (not valid, `check` says why) or 2 (there is nothing to judge).

import { readFileSync } from "node:fs";
import { parseTrust, verifyBundle, type Choice } from "./verify/bundle.ts";
import type { Json } from "./verify/canonical.ts";
import { Refused } from "./verify/shapes.ts";

class Unreadable extends Error {}

function readable<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new Unreadable(error instanceof Error ? error.message : String(error));
  }
}

function readText(file: string): string {
  return new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(file));
}

function readBundle(file: string): string {
  const written = readText(file);
  const parsed = JSON.parse(written) as { receipt?: unknown } | null;
  if (typeof parsed?.receipt !== "object" || parsed.receipt === null) throw new Error("no JSON object with a receipt");
  return written;
}

/** Of an answer of /v1/chat/completions that was not streamed; `pinaivu verify` reads the other kinds as well. */
function readChoices(file: string): Choice[] {
  const answer = JSON.parse(readText(file)) as { object?: string; choices?: Choice[] };
  const choices = answer.object === undefined || answer.object === "chat.completion" ? answer.choices : undefined;
  const whole = choices?.every((one) => Number.isInteger(one.index) && typeof one.message === "object");
  if (choices === undefined || whole !== true) throw new Error("no answer of chat completions");
  return choices;
}

function main([bundleFile, trustFile, requestFile, responseFile]: string[]): number {
  try {
    if (bundleFile === undefined || trustFile === undefined) throw new Unreadable("usage: BUNDLE TRUST [REQUEST [RESPONSE]]");
    const trust = readable(() => parseTrust(readText(trustFile)));
    const written = readable(() => readBundle(bundleFile));
    const opened = {
      ...(requestFile !== undefined && { request: readable(() => JSON.parse(readText(requestFile)) as Json) }),
      ...(responseFile !== undefined && { choices: readable(() => readChoices(responseFile)) }),
    };
    const { receipt, inclusion, opened: commitments } = verifyBundle(written, trust, opened);
    console.log(JSON.stringify({
      valid: true, request_id: receipt.request_id, node_id: receipt.node_id, model: receipt.model,
      charge_amount: receipt.charge_amount, log_index: Number(inclusion.index), opened_commitments: commitments,
    }));
    return 0;
  } catch (error) {
    if (error instanceof Refused) {
      console.log(JSON.stringify({ valid: false, check: error.check, detail: error.detail }));
      return 1;
    }
    if (!(error instanceof Unreadable)) throw error;
    console.log(JSON.stringify({ error: "unreadable", detail: error.message }));
    return 2;
  }
}

process.exitCode = main(process.argv.slice(2));
