// The checks of a receipt's bundle, in order; the first that fails is thrown as `Refused`, which names it.

import { createPublicKey, verify, X509Certificate, type KeyObject } from "node:crypto";
import { requireConfiguration, requireImage, verifyDocument } from "./attestation.ts";
import { AWS_ROOT } from "./aws_root.ts";
import { bytesOf, digestOf, fromBase64, hash, isEmpty, parseEvidence, type Json } from "./canonical.ts";
import { isFields, readingsOf, type Endpoint } from "./forwarded.ts";
import { checkPolicy, ed25519Key, parseVkey, verifyInclusion, type Inclusion, type LogTrust } from "./log_proof.ts";
import { isBundle, isProof, isTrust, Refused, ensure, type Bundle, type Proof, type Receipt, type Transcript, type Trust } from "./shapes.ts";

export interface Choice { index: number; message: { [name: string]: Json }; finish_reason?: Json }
/** `endpoint` is the one that was asked, as the answer tells: `endpointOf`. */
export interface Opened { request?: Json; choices?: Choice[]; endpoint?: Endpoint }
export interface Verified { receipt: Receipt; inclusion: Inclusion; opened: string[] }
type Essential = { index: number; message: { [name: string]: Json }; finish_reason: Json };
type TrustFile = LogTrust & Pick<Trust, "platform" | "pcrs"> & { root: X509Certificate };

const P256_ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const SMALL_ORDER = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]; // Ed25519 keys under which one signature fits every message, without the sign bit
const MILLION = 1_000_000n;
const BASIS_POINTS = 10_000n;

/** Check what the text of a bundle says against a trust file; throws Refused, or SyntaxError for what is no JSON. */
export function verifyBundle(written: string, trust: TrustFile, opened: Opened = {}): Verified {
  const parsed = parseEvidence(written, "bundle");
  ensure(isBundle(parsed), "bundle", "has not the shape of a bundle");
  const document = fromBase64(parsed.attestation, "attestation document");
  const receiptKey = checkEpoch(parsed, document, trust);
  checkReceipt(parsed, document, receiptKey);
  checkTranscript(parsed);
  checkPayment(parsed.receipt, BigInt(parsed.configuration.fee_bps));
  const proof = checkNodeProof(parsed.receipt, parsed.node_proof);
  const inclusion = checkInclusion(parsed, trust);
  const commitments = openCommitments(parsed, opened);
  if (opened.request !== undefined && checkRequest(parsed, proof, opened.request, opened.endpoint)) {
    commitments.splice(1, 0, "forwarded");
  }
  if (opened.choices !== undefined) checkAnswer(parsed, opened.choices);
  return { receipt: parsed.receipt, inclusion, opened: commitments };
}

/** Read a trust file; throws Refused or SyntaxError, and then there is nobody to believe. */
export function parseTrust(written: string): TrustFile {
  const parsed = parseEvidence(written, "trust file");
  ensure(isTrust(parsed), "trust file", "has not the shape of a trust file");
  const { platform, pcrs, origin, quorum } = parsed;
  const [logKeys, witnesses] = [parsed.log_keys.map(parseVkey), parsed.witnesses.map(parseVkey)];
  checkPolicy({ origin, logKeys, witnesses, quorum });
  for (const value of Object.values(pcrs)) ensure(!/^0*$/.test(value), "trust file", "a PCR is zero");
  const pem = parsed.root ?? (platform === "nitro" ? AWS_ROOT : "");
  ensure(pem.split("-----BEGIN CERTIFICATE-----").length === 2, "trust file", "root: not one certificate in PEM");
  const root = new X509Certificate(pem);
  const isAws = root.raw.equals(new X509Certificate(AWS_ROOT).raw);
  ensure(isAws === (platform === "nitro"), "trust file", "AWS's root belongs to platform nitro, and no other does");
  return { platform, pcrs, origin, logKeys, witnesses, quorum, root };
}

/** 1, 2: document, image, and the manifest and configuration that it vouches for, of the trusted platform and log. */
function checkEpoch({ attestation: _, ...bundle }: Bundle, raw: Buffer, trust: TrustFile): KeyObject {
  const document = verifyDocument(raw, trust.root);
  requireImage(document, trust.pcrs);
  const { manifest, configuration } = bundle;
  const [keys, terms] = [bytesOf(manifest, "manifest"), bytesOf(configuration, "configuration")];
  const spki = Buffer.from(manifest.receipt_key, "hex");
  ensure(document.userData?.equals(hash("sha256", keys)) === true, "attestation manifest", "vouches for another");
  ensure(document.publicKey?.equals(spki) === true, "attestation key", "vouches for another");
  const names = new Set(configuration.models.map((one) => one.model));
  const sane = names.size === configuration.models.length && configuration.witnesses.length + configuration.quorum === 0;
  const rooted = (configuration.kms.tls_root === "") === (configuration.platform === "nitro");
  ensure(sane && rooted && terms.length <= 60_000, "configuration", "is not one that this version allows");
  ensure(manifest.configuration === digestOf(terms), "configuration", "is not the one that the manifest names");
  requireConfiguration(document, terms);
  ensure(configuration.platform === trust.platform, "platform", `${configuration.platform} is not trusted`);
  ensure(manifest.origin === configuration.origin, "origin", "manifest and configuration name different logs");
  ensure(manifest.origin === trust.origin, "origin", `${manifest.origin} is not trusted`);
  const logKey = trust.logKeys.some((key) => key.name === manifest.origin && key.raw.toString("hex") === manifest.checkpoint_key);
  ensure(logKey, "log key", "the manifest names a checkpoint key that the trust file does not");
  return p256Key(spki);
}

/** 3, 4: the receipt is signed by the attested key, and names that key and this document. */
function checkReceipt({ receipt, manifest }: Bundle, document: Buffer, key: KeyObject): void {
  const { coordinator_signature: signature, ...unsigned } = receipt;
  ensure(bytesOf(receipt).length <= 65_535, "receipt", "is too long");
  const check = "receipt signature";
  ensure(/^0x(?:[0-9a-f]{2}){8,72}$/.test(signature), check, "not 0x and a DER signature in lowercase hex");
  const plain = plainSignature(Buffer.from(signature.slice(2), "hex"), check);
  const held = verify("sha256", bytesOf(unsigned), { key, dsaEncoding: "ieee-p1363" }, plain);
  ensure(held, check, "does not hold under the attested key");
  const named = hash("sha256", Buffer.from(manifest.receipt_key, "hex")).toString("hex");
  ensure(receipt.coordinator_key === named, "coordinator key", "is not the attested one");
  ensure(receipt.attestation === digestOf(document), "epoch", "the receipt names another attestation document");
}

/** 5, 6: running the rule on the transcript's bids gives what it and the receipt say. */
function checkTranscript({ receipt, transcript, configuration }: Bundle): void {
  const raw = bytesOf(transcript);
  ensure(receipt.auction.transcript === digestOf(raw), "transcript", "is not the one on the receipt");
  const nodes = new Set(transcript.bids.map(({ bid }) => bid.node_id));
  ensure(nodes.size === transcript.bids.length && raw.length <= 4 << 20, "transcript", "one node bids twice");
  ensure(bytesOf(runAuction(transcript)).equals(raw), "transcript", "second-score-v1 gives another result");
  const terms = configuration.models.find((one) => one.model === transcript.model);
  const reserve = [terms?.input_reserve_price, terms?.output_reserve_price];
  const listed = [transcript.input_reserve_price, transcript.output_reserve_price];
  ensure(reserve.join() === listed.join(), "reserve price", "is not the configuration's for this model");
  const { bids, input_price, output_price } = receipt.auction;
  const found = [receipt.request_id, receipt.model, receipt.node_id, bids, input_price, output_price];
  const held = [transcript.request_id, transcript.model, transcript.bids[0]!.bid.node_id, transcript.bids.length,
    transcript.input_price, transcript.output_price];
  ensure(found.join(" ") === held.join(" "), "auction", "request, model, node, bids or prices differ");
}

/** second-score-v1: the lowest cost per quality wins, and is paid what the next operator's score allows. */
function runAuction(transcript: Transcript): Transcript {
  const [prompt, completion] = [BigInt(transcript.prompt_tokens), BigInt(transcript.completion_tokens)];
  const ranked = transcript.bids.map(({ bid }) => {
    const cost = BigInt(bid.input_price) * prompt + BigInt(bid.output_price) * completion;
    const tie = hash("sha256", transcript.request_id, bid.node_id);
    return { bid, cost, score: (cost * BASIS_POINTS) / BigInt(bid.quality_bps), tie };
  });
  ranked.sort((one, other) => one.score === other.score ? one.tie.compare(other.tie) : one.score < other.score ? -1 : 1);
  const winner = ranked[0]!;
  const next = ranked.find(({ bid }) => bid.operator !== winner.bid.operator);
  const price = (asked: number, reserve: number): number => {
    if (next === undefined || winner.score === 0n) return reserve;
    const scaled = (BigInt(asked) * next.score) / winner.score;
    return scaled < BigInt(reserve) ? Number(scaled) : reserve;
  };
  return {
    ...transcript,
    bids: ranked.map(({ bid, cost, score }) => ({ bid, cost: String(cost), score: String(score) })),
    input_price: price(winner.bid.input_price, transcript.input_reserve_price),
    output_price: price(winner.bid.output_price, transcript.output_reserve_price),
  };
}

/** 7: payment is prices times tokens, charge is payment and fee, each rounded up to the micro-USDC. */
function checkPayment(receipt: Receipt, feeBps: bigint): void {
  const { input_price, output_price } = receipt.auction;
  const total = BigInt(input_price) * BigInt(receipt.prompt_tokens) + BigInt(output_price) * BigInt(receipt.completion_tokens);
  const up = (value: bigint, by: bigint): bigint => (value + by - 1n) / by;
  const micro = (text: string): bigint => BigInt(text.replace(/[^0-9]/g, ""));
  const owed = up(total, MILLION);
  ensure(micro(receipt.payment_amount) === owed, "payment", `is not prices times tokens, ${owed} micro-USDC`);
  const charge = owed + up(owed * feeBps, BASIS_POINTS);
  ensure(micro(receipt.charge_amount) === charge, "charge", `is not payment plus fee, ${charge} micro-USDC`);
}

/** 8: what the node signed about its work is by the receipt's node, for this request. */
function checkNodeProof(receipt: Receipt, found: Bundle["node_proof"]): Proof | undefined {
  const check = "node proof";
  const absent = found === undefined || found === null;
  ensure(absent === (receipt.node_proof === ""), check, "bundle and receipt disagree on whether there is one");
  if (absent) return undefined;
  const [payload, signature] = [fromBase64(found.payload, check), fromBase64(found.signature, check)];
  ensure(digestOf(payload) === receipt.node_proof, check, "is not the one on the receipt");
  const proof = parseEvidence(payload.toString(), check);
  ensure(isProof(proof) && bytesOf(proof).equals(payload), check, "has not the canonical shape of a proof");
  const key = Buffer.from(proof.public_key, "hex");
  const unsignedPoint = Buffer.of(...key.subarray(0, 31), key[31]! & 0x7f).toString("hex");
  ensure(!SMALL_ORDER.includes(unsignedPoint), "node key", "is of small order");
  const signed = verify(null, Buffer.concat([Buffer.from("pinaivu/proof/v1\0"), payload]), ed25519Key(key), signature);
  ensure(signed, "proof signature", "does not hold under the node's key");
  const named = `node_${hash("sha256", key).toString("hex").slice(0, 32)}`;
  const own = named === receipt.node_id && proof.node_id === receipt.node_id && proof.request_id === receipt.request_id;
  ensure(own, check, "is by another node or for another request");
  return proof;
}

/** 9: the receipt is the log's leaf at the index that it names. */
function checkInclusion({ receipt, proof }: Bundle, trust: TrustFile): Inclusion {
  ensure(receipt.log.origin === trust.origin, "origin", `the receipt's log ${receipt.log.origin} is not trusted`);
  const inclusion = verifyInclusion(proof, bytesOf(receipt), trust);
  ensure(inclusion.index === BigInt(receipt.log.index), "log index", "the receipt names another leaf");
  return inclusion;
}

/** 10: the caller's own request and answer are what the receipt commits to. */
function openCommitments({ receipt, opening }: Bundle, { request, choices }: Opened): string[] {
  if (request === undefined && choices === undefined) return [];
  ensure(opening !== undefined && opening !== null, "commitment", "only the owner's bundle has the salt");
  if (request !== undefined) {
    const held = commit("request", opening.salt, bytesOf(request)) === receipt.request_commitment;
    ensure(held, "request commitment", "does not open with this request and salt");
  }
  if (choices !== undefined) {
    const held = commit("response", opening.salt, bytesOf(essentialChoices(choices))) === receipt.response_commitment;
    ensure(held, "response commitment", "does not open with this answer and salt");
  }
  return [...(request === undefined ? [] : ["request"]), ...(choices === undefined ? [] : ["response"])];
}

/** 11: model, what the node was given, and tokens are the request's. Whether it is certain what the node was given. */
function checkRequest({ receipt, opening, configuration }: Bundle, proof: Proof | undefined, request: Json, endpoint?: Endpoint): boolean {
  const { model = null } = isFields(request) ? request : {};
  ensure(model === receipt.model, "model", `the receipt is for ${receipt.model}, the request names another`);
  const possible = readingsOf(request, endpoint);
  const given = (forwarded: string): boolean =>
    proof === undefined || commit("forwarded", opening!.salt, Buffer.from(forwarded)) === proof.forwarded_commitment;
  const readings = possible.filter(({ forwarded }) => given(forwarded));
  ensure(readings.length > 0, "forwarded commitment", "the node was given something else than this request");
  const longest = Math.max(...readings.map(({ forwarded }) => Buffer.byteLength(forwarded)));
  const prompt = longest + configuration.metering.template_allowance;
  ensure(receipt.prompt_tokens <= prompt, "prompt tokens", `${receipt.prompt_tokens} are charged, at most ${prompt} are possible`);
  const allowed = Math.max(...readings.map(({ limit = Infinity }) => limit));
  ensure(receipt.completion_tokens <= allowed, "completion tokens", `${receipt.completion_tokens}: the request allows ${allowed}`);
  return proof !== undefined && possible.length === 1;
}

/** 11: the answer has the bytes that so many tokens need. */
function checkAnswer({ receipt, configuration }: Bundle, choices: Choice[]): void {
  const named = ({ function: called }: { [name: string]: Json }): Json[] =>
    isFields(called) ? [called.name ?? null, called.arguments ?? null] : [];
  const texts = essentialChoices(choices).flatMap(({ message: { content = null, tool_calls: calls } }) =>
    [content, ...(Array.isArray(calls) ? calls.filter(isFields).flatMap(named) : [])]);
  const bytes = texts.reduce((sum: number, text) => sum + (typeof text === "string" ? Buffer.byteLength(text) : 0), 0);
  const longest = bytes + configuration.metering.completion_allowance;
  const { completion_tokens: tokens } = receipt;
  ensure(tokens <= longest, "completion tokens", `${tokens} are charged, at most ${longest} are possible`);
}

const commit = (kind: string, salt: string, written: Buffer): string =>
  digestOf(Buffer.concat([Buffer.from(`pinaivu/${kind}/v1\0`), Buffer.from(salt, "hex"), written]));

const essentialChoices = (choices: Choice[]): Essential[] =>
  [...choices].sort((one, other) => one.index - other.index).map(essentialChoice);

/** Only index, finish reason, and role, content and tool calls of the message are committed to. */
function essentialChoice({ index, message, finish_reason }: Choice): Essential {
  const { tool_calls = null, content = null } = message;
  const calls = isEmpty(tool_calls) ? {} : { tool_calls };
  const text = !isEmpty(content) ? { content } : isEmpty(calls) ? { content: "" } : {};
  return { index, message: { role: "assistant", ...calls, ...text }, finish_reason: finish_reason ?? null };
}

function p256Key(spki: Buffer): KeyObject {
  try {
    const key = createPublicKey({ key: spki, format: "der", type: "spki" });
    ensure(key.asymmetricKeyDetails?.namedCurve === "prime256v1", "receipt key", "is not on P-256");
    return key;
  } catch (error) {
    throw error instanceof Refused ? error : new Refused("receipt key", "is no public key in DER");
  }
}

/** r and s of a strict DER signature, 32 bytes each; s in the lower half of the order, so that there is one signature. */
function plainSignature(der: Buffer, check: string): Buffer {
  const integer = (at: number): Buffer => der.subarray(at + 2, at + 2 + der[at + 1]!);
  const r = integer(2);
  const s = integer(4 + r.length);
  const framed = Buffer.concat([Buffer.of(0x30, 4 + r.length + s.length, 2, r.length), r, Buffer.of(2, s.length), s]);
  const minimal = [r, s].every((n) => 0 < n.length && n.length <= 33 && n[0]! < 0x80 && (n[0] !== 0 || n[1]! >= 0x80));
  ensure(minimal && framed.equals(der), check, "not a DER signature");
  const halves = [r, s].map((n) => n.toString("hex").padStart(64, "0").slice(-64));
  ensure(BigInt(`0x${halves[1]}`) <= P256_ORDER / 2n, check, "s is not in the lower half of the order");
  return Buffer.from(halves.join(""), "hex");
}
