// Verifies a receipt's bundle, offline, with nothing but Node 20.12 or later: node:crypto and the files in verify/.
//
//   node verify.js BUNDLE TRUST [REQUEST [RESPONSE]]
//
// prints one JSON object and exits 0 (valid), 1 (not valid, `check` says why) or 2 (there is nothing to judge).

import { readFileSync } from "node:fs";
import { choicesOf, endpointOf } from "./verify/answer.ts";
import { parseTrust, verifyBundle, type Opened } from "./verify/bundle.ts";
import { parseUnambiguous, type Json } from "./verify/canonical.ts";
import { Refused } from "./verify/shapes.ts";

const UNSIGNED = "what the node was given: it signed nothing of its work, and is paid nothing";
const SEVERAL = "what the node was given: several endpoints take such a request; RESPONSE tells which was asked";

class Unreadable extends Error {}

function readable<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new Unreadable(error instanceof Error ? error.message : String(error));
  }
}

function readText(file: string): string {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(readFileSync(file));
}

function readBundle(file: string): string {
  const written = readText(file);
  const parsed = JSON.parse(written) as { receipt?: unknown } | null;
  if (typeof parsed?.receipt !== "object" || parsed.receipt === null) throw new Error("no JSON object with a receipt");
  return written;
}

function readRequest(file: string): Json {
  const request = parseUnambiguous(readText(file), "request");
  if (typeof request !== "object" || request === null || Array.isArray(request)) throw new Error("no request body");
  return request;
}

const readAnswer = (text: string): Opened => ({ choices: choicesOf(text), endpoint: endpointOf(text) });

function main([bundleFile, trustFile, requestFile, responseFile]: string[]): number {
  try {
    if (bundleFile === undefined || trustFile === undefined) throw new Unreadable("usage: BUNDLE TRUST [REQUEST [RESPONSE]]");
    const trust = readable(() => parseTrust(readText(trustFile)));
    const written = readable(() => readBundle(bundleFile));
    const opened: Opened = {
      ...(requestFile !== undefined && { request: readable(() => readRequest(requestFile)) }),
      ...(responseFile !== undefined && readable(() => readAnswer(readText(responseFile)))),
    };
    const { receipt, inclusion, opened: commitments } = verifyBundle(written, trust, opened);
    const compared = opened.request === undefined || commitments.includes("forwarded");
    console.log(JSON.stringify({
      valid: true, request_id: receipt.request_id, node_id: receipt.node_id, model: receipt.model,
      charge_amount: receipt.charge_amount, log_index: Number(inclusion.index), opened_commitments: commitments,
      ...(!compared && { not_compared: receipt.node_proof === "" ? UNSIGNED : SEVERAL }),
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
