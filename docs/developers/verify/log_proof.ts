// That a leaf stands in a signed log: C2SP tlog-proof, tlog-checkpoint, signed-note and tlog-cosignature; RFC 9162 trees.

import { createPublicKey, verify, type KeyObject } from "node:crypto";
import { fromBase64, hash } from "./canonical.ts";
import { ensure } from "./shapes.ts";

export interface Vkey { name: string; id: string; type: number; raw: Buffer; key: KeyObject }
export interface LogTrust { origin: string; logKeys: Vkey[]; witnesses: Vkey[]; quorum: number }
export interface Inclusion { index: bigint; size: bigint; cosignedBy: string[] }

const PROOF = "log proof";
const POLICY = "witness policy";
const MAX_SIZE = 2n ** 63n - 1n;

/** The leaf's place, once the checkpoint is signed by the log and a quorum, and the hashes lead to its root. */
export function verifyInclusion(proof: string, leaf: Buffer, trust: LogTrust): Inclusion {
  requireText(proof, PROOF, 65_536 + 2 * 16_384);
  const gap = proof.indexOf("\n\n");
  const [head, ...lines] = proof.slice(0, Math.max(gap, 0)).split("\n");
  ensure(gap >= 0 && gap + 2 < proof.length && head === "c2sp.org/tlog-proof@v1", PROOF, "is not a tlog-proof");
  if (lines[0]?.startsWith("extra ")) {
    const extra = fromBase64(lines.shift()!.slice(6), PROOF);
    ensure(0 < extra.length && extra.length <= 16_384, PROOF, "extra of 1 to 16384 bytes is accepted");
  }
  const first = lines.shift();
  ensure(first?.startsWith("index ") === true && lines.length <= 63, PROOF, "has no index line, or too many hashes");
  const index = decimal(first.slice(6), PROOF);
  const hashes = lines.map((line) => hashOf(line, PROOF));
  const { size, root, cosignedBy } = openCheckpoint(proof.slice(gap + 2), trust);
  checkInclusion(hashes, hash("sha256", "\x00", leaf), index, size, root);
  return { index, size, cosignedBy };
}

function openCheckpoint(note: string, trust: LogTrust): { size: bigint; root: Buffer; cosignedBy: string[] } {
  const { text, signers } = openNote(note, [...trust.logKeys, ...trust.witnesses]);
  const signed = trust.logKeys.some((key) => signers.has(key));
  ensure(signed, "checkpoint signature", `no key of the log ${trust.origin} signed`);
  const lines = text.split("\n");
  ensure(lines.length === 4 && lines[0] !== "" && lines[3] === "", "checkpoint", "is not origin, size and root");
  const [origin, size, root] = [lines[0]!, decimal(lines[1]!, "checkpoint"), hashOf(lines[2]!, "checkpoint")];
  ensure(origin === trust.origin, "checkpoint origin", `is of ${origin}, expected ${trust.origin}`);
  const cosignedBy = trust.witnesses.filter((witness) => signers.has(witness)).map((witness) => witness.name);
  ensure(cosignedBy.length >= trust.quorum, "witness quorum", `${cosignedBy.length} of ${trust.quorum} cosigned`);
  return { size, root, cosignedBy };
}

/** Text and signers of a note: every line of a known key must hold, lines of others are passed over. */
function openNote(note: string, known: Vkey[]): { text: string; signers: Set<Vkey> } {
  requireText(note, "checkpoint", 65_536);
  const end = note.lastIndexOf("\n\n");
  ensure(end >= 0 && note.endsWith("\n"), "checkpoint", "has no text, empty line and signature lines");
  const text = note.slice(0, end + 1);
  const lines = note.slice(end + 2, -1).split("\n");
  ensure(lines.length <= 100, "checkpoint", "has more than 100 signature lines");
  const read = lines.map((line) => {
    const [, name, encoded] = /^\u2014 ([^ ]+) (.*)$/.exec(line) ?? [];
    ensure(name !== undefined && isKeyName(name), "checkpoint", "has a line that is no signature line");
    const blob = fromBase64(encoded!, "checkpoint", false);
    ensure(blob.length > 4, "checkpoint", "has a signature line that is too short");
    return { name, encoded, blob };
  });
  const signers = new Set<Vkey>();
  for (const { name, encoded, blob } of read) {
    const key = known.find((one) => one.name === name && one.id === blob.toString("hex", 0, 4));
    if (key === undefined) continue;
    requireSignature(key, text, blob.subarray(4), blob.toString("base64") === encoded);
    signers.add(key);
  }
  ensure(signers.size > 0, "checkpoint signature", "no signature by a known key");
  return { text, signers };
}

/** Type 1 signs the text; type 4, a witness, signs a time before it as well. */
function requireSignature(key: Vkey, text: string, blob: Buffer, canonical: boolean): void {
  const time = key.type === 4 && blob.length >= 8 ? blob.readBigUInt64BE() : 0n;
  const message = key.type === 4 ? `cosignature/v1\ntime ${time}\n${text}` : text;
  const signature = key.type === 4 ? blob.subarray(8) : blob;
  const held = canonical && time <= MAX_SIZE && verify(null, Buffer.from(message), key.key, signature);
  ensure(held, "checkpoint signature", `the signature of ${key.name} does not hold`);
}

/** RFC 9162 2.1.3.2. */
function checkInclusion(path: Buffer[], leafHash: Buffer, index: bigint, size: bigint, root: Buffer): void {
  const check = "inclusion proof";
  ensure(index < size, check, `index ${index} is outside a tree of ${size} leaves`);
  let [fn, sn, found] = [index, size - 1n, leafHash];
  for (const sibling of path) {
    ensure(sn !== 0n, check, "too many hashes");
    if ((fn & 1n) === 1n || fn === sn) {
      found = hash("sha256", "\x01", sibling, found);
      while (fn !== 0n && (fn & 1n) === 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else {
      found = hash("sha256", "\x01", found, sibling);
    }
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  ensure(sn === 0n && found.equals(root), check, "does not lead from the leaf to the root");
}

/** A line of a trust file: `<name>+<id>+<base64 of type and key>`. */
export function parseVkey(line: string): Vkey {
  const check = "verifier key";
  const [, name, id, encoded] = /^([^+]*)\+([0-9a-f]{8})\+(.*)$/.exec(line) ?? [];
  ensure(name !== undefined && isKeyName(name), check, `${line} is not <name>+<id>+<key>`);
  const typed = fromBase64(encoded!, check);
  ensure(typed.length === 33 && (typed[0] === 1 || typed[0] === 4), check, `${name} has a key of another type`);
  const raw = typed.subarray(1);
  ensure(hash("sha256", `${name}\n`, typed).toString("hex", 0, 4) === id, check, `${id} is not the id of ${name}`);
  return { name, id: id!, type: typed[0]!, raw, key: ed25519Key(raw) };
}

/** A policy under which two trees could both find a quorum is none. */
export function checkPolicy({ logKeys, witnesses, quorum }: LogTrust): void {
  const raw = (keys: Vkey[]): Set<string> => new Set(keys.map((key) => key.raw.toString("hex")));
  const types = logKeys.every((key) => key.type === 1) && witnesses.every((key) => key.type === 4);
  ensure(types, POLICY, "a log key is of type 1, a witness key of type 4");
  const distinct = new Set([...raw(logKeys), ...raw(witnesses)]).size === raw(logKeys).size + witnesses.length;
  ensure(distinct, POLICY, "a witness key is listed twice, or is a log key");
  const sane = quorum === 0 || (witnesses.length < 2 * quorum && quorum <= witnesses.length);
  ensure(sane, POLICY, `${quorum} of ${witnesses.length} witnesses is no quorum`);
}

export const ed25519Key = (raw: Buffer): KeyObject =>
  createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: raw.toString("base64url") }, format: "jwk" });

const isKeyName = (name: string): boolean => name.isWellFormed() && /^[^+\p{White_Space}\u0000-\u001f]+$/u.test(name);

function requireText(text: string, check: string, most: number): void {
  const clean = text.isWellFormed() && !/[\u0000-\u0009\u000b-\u001f]/.test(text);
  ensure(clean && Buffer.byteLength(text) <= most, check, "is no such text: characters, or length");
}

function decimal(text: string, check: string): bigint {
  ensure(/^(0|[1-9][0-9]{0,18})$/.test(text) && BigInt(text) <= MAX_SIZE, check, `${text} is no decimal`);
  return BigInt(text);
}

function hashOf(text: string, check: string): Buffer {
  const found = fromBase64(text, check);
  ensure(found.length === 32, check, "a hash is not 32 bytes");
  return found;
}
