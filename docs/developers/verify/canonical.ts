// Bytes that are signed and hashed: RFC 8785 JSON, SHA-256 digests, canonical base64, and reading JSON strictly.

import { createHash } from "node:crypto";
import { ensure } from "./shapes.ts";

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** RFC 8785: names sorted by UTF-16 code units; JSON.stringify writes numbers and strings as it wants them. */
export function canonical(value: Json | object, check = "commitment"): string {
  if (Array.isArray(value)) return `[${value.map((item: Json) => canonical(item, check)).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const sorted = Object.entries(value as { [name: string]: Json }).sort(([one], [other]) => (one < other ? -1 : 1));
    return `{${sorted.map(([name, inner]) => `${canonical(name, check)}:${canonical(inner, check)}`).join(",")}}`;
  }
  const expressible = typeof value === "number" ? Number.isFinite(value) : typeof value !== "string" || value.isWellFormed();
  ensure(expressible, check, "no canonical form");
  return JSON.stringify(value);
}

export const bytesOf = (value: Json | object, check?: string): Buffer => Buffer.from(canonical(value, check));

export const hash = (algorithm: "sha256" | "sha384", ...parts: (Uint8Array | string)[]): Buffer =>
  parts.reduce((found, part) => found.update(part), createHash(algorithm)).digest();

export const digestOf = (content: Uint8Array): string => `sha256:${hash("sha256", content).toString("hex")}`;

/** Bytes of base64 with padding; `strict` also wants the unused bits to be zero. */
export function fromBase64(written: string, check: string, strict = true): Buffer {
  const raw = Buffer.from(written, "base64");
  const wellFormed = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(written);
  ensure(wellFormed && (!strict || raw.toString("base64") === written), check, "not canonical base64");
  return raw;
}

/** Evidence has integers only, so that nobody's floats round them. */
export function parseEvidence(written: string, check: string): Json {
  return parseUnambiguous(written, check, (token) => /^-?\d+$/.test(token));
}

/** JSON.parse keeps the last of two equal names, so readers could see different things: such a text is refused. */
export function parseUnambiguous(written: string, check: string, isNumber = isInRange): Json {
  const value = JSON.parse(written) as Json;
  const names: Set<string>[] = [];
  for (const [token, quoted, colon] of written.matchAll(/("[^"\\]*(?:\\.[^"\\]*)*")(\s*:)?|[{}]|-?\d[\d.eE+-]*/g)) {
    if (token === "{") names.push(new Set());
    else if (token === "}") names.pop();
    else if (quoted === undefined) ensure(isNumber(token), check, `${token.slice(0, 32)} is no number that may stand here`);
    else {
      const text = JSON.parse(quoted) as string;
      ensure(text.isWellFormed(), check, `${quoted.slice(0, 64)} has half a surrogate pair`);
      if (colon === undefined) continue;
      ensure(!names.at(-1)!.has(text), check, `the name ${quoted.slice(0, 64)} stands twice`);
      names.at(-1)!.add(text);
    }
  }
  return value;
}

/** Integers have no range in JSON; what else there is must fit a double. */
const isInRange = (token: string): boolean => /^-?\d+$/.test(token) || Number.isFinite(Number(token));

/** What an answer may leave out, or say without meaning anything by it. */
export const isEmpty = (value: Json | undefined): boolean =>
  !value || (typeof value === "object" && Object.keys(value).length === 0);
