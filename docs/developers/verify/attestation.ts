// The attestation document: COSE_Sign1 (RFC 9052) around a CBOR map (RFC 8949), signed by a certificate that hangs
// under the pinned root. It is judged at its own timestamp, which its signature covers.

import { verify, X509Certificate } from "node:crypto";
import { hash } from "./canonical.ts";
import { Refused, ensure } from "./shapes.ts";

export interface Document {
  timestamp: number;
  pcrs: Map<number, Buffer>;
  publicKey: Buffer | null;
  userData: Buffer | null;
}

const DOCUMENT = "attestation document";
const CHAIN = "attestation chain";
const PROTECTED_ES384 = Buffer.from("a1013822", "hex"); // {1: -35}, the only header a document may have
const FIELDS = "cabundle,certificate,digest,module_id,nonce,pcrs,public_key,timestamp,user_data";

/** The document's facts, once its form, its certificates at its timestamp and its signature hold. */
export function verifyDocument(raw: Buffer, root: X509Certificate): Document {
  ensure(0 < raw.length && raw.length <= 16_384, DOCUMENT, "1 to 16384 bytes are allowed");
  const cose = decode(raw);
  ensure(Array.isArray(cose) && cose.length === 4, DOCUMENT, "not an untagged COSE_Sign1");
  const [header, unprotected, payload, signature] = cose as [Cbor, Cbor, Cbor, Cbor];
  ensure(isBytes(header) && header.equals(PROTECTED_ES384), DOCUMENT, "protected header is not {alg: ES384}");
  ensure(unprotected instanceof Map && unprotected.size === 0, DOCUMENT, "unprotected header is not empty");
  ensure(isBytes(payload) && isBytes(signature, 96, 96), DOCUMENT, "payload or signature has another form");
  const fields = decode(payload, true);
  ensure(fields instanceof Map && [...fields.keys()].sort().join() === FIELDS, DOCUMENT, "not exactly the nine fields");
  const { timestamp, pcrs, cabundle, certificate } = checkForm(fields as Map<string, Cbor>);
  const leaf = verifyChain([...cabundle, certificate], root, Math.floor(timestamp / 1000) * 1000);
  const signed = Buffer.concat([Buffer.from("\x84\x6aSignature1\x44", "latin1"), PROTECTED_ES384, Buffer.of(0x40),
    byteStringHead(payload.length), payload]);
  const held = verify("sha384", signed, { key: leaf.publicKey, dsaEncoding: "ieee-p1363" }, signature);
  ensure(held, "attestation signature", "not made by the leaf's key over this payload");
  return { timestamp, pcrs, publicKey: fields.get("public_key") as Buffer | null,
    userData: fields.get("user_data") as Buffer | null };
}

/** PCR0-2 are the trusted image's. Zero is what debug mode shows. */
export function requireImage(document: Document, trusted: { 0: string; 1: string; 2: string }): void {
  for (const index of [0, 1, 2] as const) {
    ensure(!document.pcrs.get(index)!.equals(Buffer.alloc(48)), `PCR${index}`, "zero: the enclave ran in debug mode");
  }
  for (const index of [0, 1, 2] as const) requirePcr(document, index, trusted[index]);
}

/** PCR16 is zero extended once with SHA-384 of the configuration. */
export function requireConfiguration(document: Document, configuration: Buffer): void {
  const extended = hash("sha384", Buffer.alloc(48), hash("sha384", configuration));
  requirePcr(document, 16, extended.toString("hex"));
}

function requirePcr(document: Document, index: number, expected: string): void {
  const actual = document.pcrs.get(index)?.toString("hex") ?? "absent";
  ensure(actual === expected, `PCR${index}`, `is ${actual}, expected ${expected}`);
}

function checkForm(fields: Map<string, Cbor>) {
  const [timestamp, pcrs, cabundle, certificate] =
    ["timestamp", "pcrs", "cabundle", "certificate"].map((name) => fields.get(name));
  const moduleId = fields.get("module_id");
  ensure(fields.get("digest") === "SHA384", DOCUMENT, "digest is not SHA384");
  ensure(typeof moduleId === "string" && moduleId !== "", DOCUMENT, "module_id is not a text");
  ensure(typeof timestamp === "number" && 0 < timestamp && timestamp < 2 ** 47, DOCUMENT, "no timestamp");
  ensure(pcrs instanceof Map && pcrs.size <= 32 && [0, 1, 2].every((index) => pcrs.has(index)), DOCUMENT, "no PCR0-2");
  const registers = [...pcrs].every(([index, value]) => typeof index === "number" && index < 32 && isBytes(value, 48, 48));
  ensure(registers, DOCUMENT, "a PCR has another form");
  ensure(isBytes(certificate, 1, 1024), DOCUMENT, "a certificate is not 1 to 1024 bytes");
  const bundled = Array.isArray(cabundle) && 2 <= cabundle.length && cabundle.length <= 8;
  ensure(bundled && cabundle.every((item) => isBytes(item, 1, 1024)), DOCUMENT, "cabundle is not 2 to 8 certificates");
  for (const [name, low] of [["public_key", 1], ["user_data", 0], ["nonce", 0]] as const) {
    const value = fields.get(name)!;
    ensure(value === null || isBytes(value, low, 1024), DOCUMENT, `${name} has another form`);
  }
  return { timestamp, certificate, pcrs: pcrs as Map<number, Buffer>, cabundle: cabundle as Buffer[] };
}

/** Root first, leaf last, each issued by the one before; exactly this path, so that it has no second spelling. */
function verifyChain(ders: Buffer[], root: X509Certificate, at: number): X509Certificate {
  ensure(ders[0]!.equals(root.raw), CHAIN, "the first certificate is not the trusted root: another platform?");
  ensure(new Set(ders.map((der) => der.toString("hex"))).size === ders.length, CHAIN, "a certificate stands twice");
  try {
    const path = ders.map((der) => new X509Certificate(der));
    // OpenSSL passes over bytes after the end of a certificate.
    ensure(path.every(({ raw }, place) => raw.equals(ders[place]!)), CHAIN, "bytes after the end of a certificate");
    path.forEach((certificate, place) => checkCertificate(certificate, path.length - 1 - place, at));
    path.slice(1).forEach((certificate, place) => {
      const issuer = path[place]!;
      ensure(certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey), CHAIN, "is no path to the leaf");
    });
    return path.at(-1)!;
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused(CHAIN, `a certificate cannot be read: ${String(error)}`);
  }
}

/** `below` certificates follow: 0 for the leaf, which may sign only documents; the others may sign only certificates. */
function checkCertificate(certificate: X509Certificate, below: number, at: number): void {
  const onP384 = certificate.publicKey.asymmetricKeyDetails?.namedCurve === "secp384r1";
  const valid = Date.parse(certificate.validFrom) <= at && at <= Date.parse(certificate.validTo);
  ensure(valid, CHAIN, `${certificate.subject} is valid from ${certificate.validFrom} to ${certificate.validTo}`);
  const [body, algorithm] = derItems(certificate.raw.subarray(derItems(certificate.raw, 1)[0]!.start)) as [Der, Der];
  ensure(onP384 && algorithm.content.toString("hex") === "06082a8648ce3d040303", CHAIN, "not P-384 with SHA-384");
  const extensions = readExtensions(body.content);
  const [constraints, usage] = [extensions.get("551d13"), extensions.get("551d0f")];
  const critical = [...extensions].filter(([, one]) => one.critical).map(([oid]) => oid);
  ensure(critical.every((oid) => oid === "551d13" || oid === "551d0f"), CHAIN, "an unknown critical extension");
  ensure(constraints?.critical === true && usage !== undefined, CHAIN, "basic constraints or key usage are missing");
  const [ca, length] = derItems(derItems(constraints.value)[0]!.content);
  const usageBits = derItems(usage.value)[0]!.content[1] ?? 0;
  if (below === 0) {
    ensure(ca === undefined && (usageBits & 0x84) === 0x80, CHAIN, "the leaf is a CA, or may not sign documents");
    return;
  }
  ensure(ca?.tag === 0x01 && ca.content[0] === 0xff, CHAIN, "an issuer is not a CA");
  ensure(usage.critical && (usageBits & 0x04) !== 0, CHAIN, "an issuer may not sign certificates");
  const most = length === undefined ? Infinity : parseInt(length.content.toString("hex"), 16);
  ensure(below - 1 <= most, CHAIN, "the path is longer than an issuer allows");
}

interface Der { tag: number; start: number; content: Buffer }

/** The DER elements that stand side by side in these bytes. */
function derItems(raw: Buffer, most = Infinity): Der[] {
  const found: Der[] = [];
  for (let at = 0; at < raw.length && found.length < most; ) {
    const short = raw[at + 1]!;
    const size = short < 0x80 ? 0 : short & 0x7f;
    const start = at + 2 + size;
    const length = size === 0 ? short : raw.readUIntBE(at + 2, size);
    if (start + length > raw.length) throw new RangeError("DER ends too early");
    found.push({ tag: raw[at]!, start, content: raw.subarray(start, start + length) });
    at = start + length;
  }
  return found;
}

function readExtensions(body: Buffer): Map<string, { critical: boolean; value: Buffer }> {
  const field = derItems(body).find((item) => item.tag === 0xa3);
  const extensions = field === undefined ? [] : derItems(derItems(field.content)[0]!.content);
  return new Map(extensions.map(({ content }) => {
    const [oid, ...rest] = derItems(content);
    return [oid!.content.toString("hex"), { critical: rest[0]!.tag === 0x01, value: rest.at(-1)!.content }];
  }));
}

type Cbor = null | number | string | Buffer | Cbor[] | Map<number | string, Cbor>;

const isBytes = (value: Cbor | undefined, low = 0, high = Infinity): value is Buffer =>
  Buffer.isBuffer(value) && low <= value.length && value.length <= high;

/** One CBOR value in its shortest form; only a payload's own map may be of indefinite length, as Nitro writes it. */
function decode(raw: Buffer, payload = false): Cbor {
  let at = 0;
  const take = (size: number): Buffer => {
    ensure(size <= raw.length - at, DOCUMENT, "CBOR ends too early");
    at += size;
    return raw.subarray(at - size, at);
  };
  const head = (): [number, number] => {
    const initial = take(1)[0]!;
    const short = initial & 0x1f;
    if (short < 24) return [initial >> 5, short];
    ensure(short <= 27, DOCUMENT, "a CBOR item of indefinite length");
    const size = 2 ** (short - 24);
    const argument = BigInt(`0x${take(size).toString("hex")}`);
    ensure(argument >= (size === 1 ? 24n : 1n << BigInt(4 * size)), DOCUMENT, "CBOR not in its shortest form");
    return [initial >> 5, Number(argument)];
  };
  const entry = (entries: Map<number | string, Cbor>, depth: number): void => {
    const key = value(1);
    ensure(typeof key === "number" || typeof key === "string", DOCUMENT, "a CBOR key is neither number nor text");
    ensure(!entries.has(key), DOCUMENT, "a CBOR key occurs twice");
    entries.set(key, value(depth - 1));
  };
  const value = (depth: number): Cbor => {
    ensure(depth > 0, DOCUMENT, "CBOR nested too deeply");
    if (raw[at] === 0xf6) {
      at += 1;
      return null;
    }
    const [major, argument] = head();
    if (major === 0) return argument;
    if (major === 2) return take(argument);
    if (major === 3) return utf8(take(argument));
    ensure(major === 4 || major === 5, DOCUMENT, `a CBOR item of major type ${major}`);
    ensure(argument <= raw.length, DOCUMENT, "CBOR ends too early");
    if (major === 4) return Array.from({ length: argument }, () => value(depth - 1));
    const entries = new Map<number | string, Cbor>();
    for (let count = 0; count < argument; count += 1) entry(entries, depth);
    return entries;
  };
  const indefiniteMap = (): Cbor => {
    const entries = new Map<number | string, Cbor>();
    for (at = 1; raw[at] !== 0xff; ) entry(entries, 4);
    at += 1;
    return entries;
  };
  const found = payload && raw[0] === 0xbf ? indefiniteMap() : value(4);
  ensure(at === raw.length, DOCUMENT, "bytes after the end of the CBOR value");
  return found;
}

function utf8(raw: Buffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
  } catch {
    throw new Refused(DOCUMENT, "CBOR text is not UTF-8");
  }
}

function byteStringHead(size: number): Buffer {
  if (size < 24) return Buffer.of(0x40 | size);
  return size < 256 ? Buffer.of(0x58, size) : Buffer.of(0x59, size >> 8, size & 0xff);
}
