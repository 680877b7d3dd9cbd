// What a bundle and a trust file look like. Everything is checked before it is used: unknown fields, texts of another
// form and numbers out of range are refused. The types of TypeScript are derived from the shapes.

export class Refused extends Error {
  readonly check: string;
  readonly detail: string;

  constructor(check: string, detail: string) {
    super(`${check}: ${detail}`);
    this.check = check;
    this.detail = detail;
  }
}

export function ensure(holds: boolean, check: string, detail: string): asserts holds {
  if (!holds) throw new Refused(check, detail);
}

type Shape<T> = (value: unknown) => value is T;
type Of<S> = S extends Shape<infer T> ? T : never;

const text = (pattern: RegExp): Shape<string> => (value): value is string =>
  typeof value === "string" && pattern.test(value);
const whole = (low: number, high: number = Number.MAX_SAFE_INTEGER): Shape<number> => (value): value is number =>
  Number.isSafeInteger(value) && low <= (value as number) && (value as number) <= high;
const oneOf = <T extends string | number>(...allowed: T[]): Shape<T> => (value): value is T =>
  allowed.includes(value as T);
const list = <T>(item: Shape<T>, low = 0, high = Infinity): Shape<T[]> => (value): value is T[] =>
  Array.isArray(value) && low <= value.length && value.length <= high && value.every(item);
const optional = <T>(inner: Shape<T>): Shape<T | null | undefined> => (value): value is T | null | undefined =>
  value === undefined || value === null || inner(value);
const object = <F extends Record<string, Shape<unknown>>>(fields: F): Shape<{ [K in keyof F]: Of<F[K]> }> =>
  (value): value is { [K in keyof F]: Of<F[K]> } =>
    typeof value === "object" && value !== null && !Array.isArray(value) &&
    Object.keys(value).every((name) => Object.hasOwn(fields, name)) &&
    Object.entries(fields).every(([name, shape]) => shape((value as Record<string, unknown>)[name]));

const anyText = text(/[^]*/);
const printable = text(/^[ -~]{0,4096}$/);
const name = text(/^[!-~]{1,255}$/);
const digest = text(/^sha256:[0-9a-f]{64}$/);
const digestOrNone = text(/^(sha256:[0-9a-f]{64})?$/);
const hex = text(/^(?=.{0,16384}$)([0-9a-f]{2})*$/);
const hex32 = text(/^[0-9a-f]{64}$/);
const hex48 = text(/^[0-9a-f]{96}$/);
const requestId = text(/^req_[0-7][0-9a-hjkmnp-tv-z]{25}$/);
const nodeId = text(/^node_[0-9a-f]{32}$/);
const origin = text(/^[a-z0-9][a-z0-9./:-]{0,200}$/);
const amount = text(/^(0|[1-9][0-9]{0,9})\.[0-9]{6} USDC$/);
const bigWhole = text(/^(0|[1-9][0-9]{0,39})$/);
const platform = oneOf("nitro", "simulator", "qemu");
const rule = oneOf("second-score-v1");
const tokens = whole(0, 2 ** 31);
const price = whole(1, 2 ** 40);
const basisPoints = whole(0, 10_000);

const receipt = object({
  version: oneOf(1), request_id: requestId, account: text(/^acct_[0-9a-f]{32}$/), node_id: nodeId, model: name,
  timestamp: text(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/), payment_amount: amount, charge_amount: amount,
  outcome: oneOf("completed", "cancelled", "failed", "refused"), reason: printable,
  prompt_tokens: tokens, completion_tokens: tokens, request_commitment: digest, response_commitment: digestOrNone,
  auction: object({ rule, bids: whole(1, 2 ** 31), input_price: whole(0), output_price: whole(0), transcript: digest }),
  failed_attempts: list(object({ node_id: nodeId, reason: printable }), 0, 2),
  timing: object({ first_token_ms: whole(0), duration_ms: whole(0) }), node_proof: digestOrNone,
  log: object({ origin, index: whole(0) }), coordinator_key: hex32, attestation: digest, coordinator_signature: anyText,
});

const manifest = object({
  version: oneOf(1), origin, epoch: whole(0), configuration: digest,
  receipt_key: hex, sealing_key: hex32, checkpoint_key: hex32, settlement_key: hex32,
});

const configuration = object({
  version: oneOf(1), platform, origin, fee_bps: basisPoints, operator_key: hex32,
  kms: object({
    key_arn: text(/^arn:aws:kms:[a-z]{2,12}(-[a-z0-9]{1,12}){1,3}:[0-9]{12}:key\/[A-Za-z0-9-]{1,64}$/), tls_root: hex,
  }),
  models: list(object({
    model: name, input_reserve_price: price, output_reserve_price: price, expected_completion_tokens: whole(1, 1e6),
    context_length_max: whole(1, 1e7),
  }), 1, 1000),
  nodes: object({
    prior_bps: whole(1, 10_000), probation_slots: whole(1, 65_536),
    suspension_ms: whole(1000, 31_536_000_000), statement_period_ms: whole(1000, 31_536_000_000),
  }),
  jobs: object({ attempts: whole(1, 3), first_token_ms: whole(100, 3_600_000), duration_ms: whole(100, 86_400_000) }),
  metering: object({
    completion_allowance: whole(0, 1024), template_allowance: whole(0, 65_536), recount_tolerance_bps: basisPoints,
  }),
  quote_lifetime_ms: whole(1000, 86_400_000), max_nodes: whole(1, 2000), max_open_jobs: whole(1, 1e6),
  witnesses: list(name), quorum: whole(0),
});

const bid = object({
  node_id: nodeId, operator: text(/^[!-~]{1,64}$/), quote: digest, input_price: price, output_price: price,
  quality_bps: whole(1, 10_000),
});
const transcript = object({
  rule, request_id: requestId, attempt: whole(1, 3), model: name, prompt_tokens: tokens, completion_tokens: tokens,
  input_reserve_price: price, output_reserve_price: price,
  bids: list(object({ bid, cost: bigWhole, score: bigWhole }), 1), input_price: whole(0), output_price: whole(0),
});

export const isProof = object({
  request_id: requestId, node_id: nodeId, session: text(/^ses_[0-9a-f]{32}$/), sequence: whole(0), public_key: hex32,
  award: digest, outcome: oneOf("completed", "cancelled", "failed"), reason: printable,
  prompt_tokens: tokens, completion_tokens: tokens, forwarded_commitment: digest, response_commitment: digestOrNone,
  first_token_ms: whole(0), duration_ms: whole(0),
});

export const isBundle = object({
  receipt, attestation: anyText, manifest, configuration, transcript, proof: anyText,
  node_proof: optional(object({ payload: anyText, signature: anyText })), opening: optional(object({ salt: hex32 })),
});

export const isTrust = object({
  platform, pcrs: object({ 0: hex48, 1: hex48, 2: hex48 }), origin, log_keys: list(anyText, 1, 32),
  witnesses: list(anyText, 0, 32), quorum: whole(0, 32), root: optional(anyText),
});

export type Bundle = Of<typeof isBundle>;
export type Proof = Of<typeof isProof>;
export type Receipt = Bundle["receipt"];
export type Transcript = Bundle["transcript"];
export type Trust = Of<typeof isTrust>;
