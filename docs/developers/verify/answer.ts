// From an answer as its caller got it, streamed or not, to the choices that its receipt commits to. Shapes are those of
// OpenAI's API, and docs/verifying.md has the table. What two readers could read differently is refused.

import type { Choice } from "./bundle.ts";
import { isEmpty, parseUnambiguous, type Json } from "./canonical.ts";
import type { Endpoint } from "./forwarded.ts";
import { Refused, ensure } from "./shapes.ts";

type Fields = { [name: string]: Json };
type Call = { id: string; type: "function"; function: { name: string; arguments: string } };
type Joined = { index: number; message: { role: string; content: string; tool_calls?: Call[] }; finish_reason: Json };

const ANSWER = "answer";
const ENDED = ["response.completed", "response.incomplete"];
const TOLD = ["output_text.delta", "output_text.done", "function_call_arguments.delta", "function_call_arguments.done",
  "output_item.added", "output_item.done"].map((name) => `response.${name}`);
const ENDPOINTS: { readonly [kind: string]: Endpoint } =
  { "chat.completion": "chat", text_completion: "completions", list: "embeddings", response: "responses" };
const INCOMPLETE: Fields = { max_output_tokens: "length", content_filter: "content_filter" };

/** Of the text of an answer, JSON or server-sent events; throws Refused, or SyntaxError for what is no JSON. */
export function choicesOf(text: string): Choice[] {
  if (isStream(text)) return choicesOfEvents(eventsOf(text));
  return choicesOfAnswer(fieldsOf(parseUnambiguous(text, ANSWER)));
}

/** Which endpoint gives an answer of this shape, of a text whose choices were read. */
export function endpointOf(text: string): Endpoint {
  if (isStream(text)) return endpointOfEvents(eventsOf(text));
  const { object: kind = "chat.completion" } = fieldsOf(parseUnambiguous(text, ANSWER));
  return ENDPOINTS[textOf(kind)]!;
}

/** The same of the events of a stream. */
export function endpointOfEvents(events: readonly unknown[]): Endpoint {
  const read = events.map(fieldsOf);
  if (read.some(({ type }) => ENDED.includes(textOf(type ?? "")))) return "responses";
  const parts = read.flatMap(({ choices = [] }) => listOf(choices)).map(fieldsOf);
  return parts.some((part) => Object.hasOwn(part, "text")) ? "completions" : "chat";
}

const isStream = (text: string): boolean => /^[ \t\r\n]*(?:data:|event:|:)/.test(text);

/** Of the events of a stream, as SDKs give them: chunks of a chat or of a text completion, or those of a response. */
export function choicesOfEvents(events: readonly unknown[]): Choice[] {
  const read = events.map(fieldsOf);
  const end = read.findIndex(({ type }) => ENDED.includes(textOf(type ?? "")));
  if (end === -1) return joinChunks(read);
  ensure(end === read.length - 1, ANSWER, "something follows the end of the response");
  ensure(read.every(({ choices }) => choices === undefined), ANSWER, "chunks of a chat among the events of a response");
  const response = fieldsOf(read[end]!.response);
  checkTold(read.slice(0, end), listOf(response.output).map(fieldsOf));
  return choicesOfAnswer(response);
}

/** Fields of two kinds are refused: its caller saw those of one, and `object`, which says the kind, is seen by few. */
function choicesOfAnswer(answer: Fields): Choice[] {
  const { object: kind = "chat.completion" } = answer;
  const shown = ["choices", "data", "output"].filter((name) => Object.hasOwn(answer, name));
  ensure(shown.length < 2, ANSWER, `has both ${shown.join(" and ")}`);
  if (kind === "response") return [ofResponse(answer)];
  if (kind === "list") return [ofEmbeddings(listOf(answer.data).map(fieldsOf))];
  ensure(kind === "chat.completion" || kind === "text_completion", ANSWER, "no completion, embeddings or response");
  return listOf(answer.choices).map(fieldsOf).map(({ index, message, text, finish_reason = null }) => {
    ensure(message === undefined || text === undefined, ANSWER, "a choice has both a message and a text");
    const whole = kind === "chat.completion" ? fieldsOf(message) : said(textOf(text));
    return { index: placeOf(index), message: whole, finish_reason };
  });
}

/** One choice: the JSON array of the vectors, each as base64 of little-endian float32. */
function ofEmbeddings(data: Fields[]): Choice {
  const vectors = data.toSorted((one, other) => placeOf(one.index) - placeOf(other.index));
  ensure(vectors.every(({ index }, place) => index === place), ANSWER, "the vectors are not numbered from 0 on");
  const content = vectors.map(({ embedding }) => typeof embedding === "string" ? embedding : packed(listOf(embedding)));
  return { index: 0, message: said(JSON.stringify(content)), finish_reason: "stop" };
}

function packed(numbers: Json[]): string {
  const raw = Buffer.alloc(4 * numbers.length);
  numbers.forEach((number, place) => {
    const held = typeof number === "number" && Number.isFinite(Math.fround(number));
    ensure(held, ANSWER, "a vector has what is no number of 32 bits");
    raw.writeFloatLE(number, 4 * place);
  });
  return raw.toString("base64");
}

/** One choice: its texts joined, its calls. What else there is, such as reasoning, is not committed to. */
function ofResponse(response: Fields): Choice {
  const output = listOf(response.output).map(fieldsOf);
  const texts = output.filter(({ type }) => type === "message").flatMap(textsOf).map(({ text }) => textOf(text));
  const called = output.filter(({ type }) => presentOf(type) === "function_call");
  const calls = called.map(({ call_id: id, name, arguments: given }) =>
    ({ id: presentOf(id), type: "function", function: { name: presentOf(name), arguments: presentOf(given) } }));
  const message = { ...said(texts.join("")), ...(calls.length > 0 && { tool_calls: calls }) };
  return { index: 0, message, finish_reason: finishReason(response, calls.length > 0) };
}

/** A response says it only where it does not follow from the rest. */
function finishReason({ status, incomplete_details: details, finish_reason: told }: Fields, called: boolean): string {
  if (status === "incomplete") return textOf(INCOMPLETE[textOf(fieldsOf(details).reason)]);
  ensure(status === "completed", ANSWER, "its status is neither completed nor incomplete");
  if (told === undefined || told === null) return called ? "tool_calls" : "stop";
  ensure(told === "stop" || told === "tool_calls", ANSWER, "is completed, and its finish_reason says that it is not");
  return told;
}

/** The texts in an item of a response, each with its place there. */
function textsOf(item: Fields): { part: number | "arguments"; text: Json }[] {
  if (presentOf(item.type) === "function_call") return [{ part: "arguments", text: presentOf(item.arguments) }];
  if (item.type !== "message") return [];
  return listOf(item.content).map(fieldsOf).flatMap(({ type, text }, part) =>
    presentOf(type) === "output_text" ? [{ part, text: presentOf(text) }] : []);
}

/** What was told before the end is what the end says; a stream without pieces tells nothing else. */
function checkTold(events: Fields[], output: Fields[]): void {
  const key = (index: number, part: number | string): string => JSON.stringify([index, part]);
  const placed = (item: Fields, index: number) => textsOf(item).map((one) => [key(index, one.part), one.text] as const);
  const wholes = new Map(output.flatMap(placed));
  const pieces = new Map<string, string>();
  const requireSame = (place: string, text: Json): void =>
    ensure(wholes.get(place) === text, ANSWER, `the pieces at ${place} are not what the response says at its end`);
  let newest: readonly [number, number] = [0, 0];
  for (const event of events) {
    const { output_index: at = 0, content_index: number = 0 } = event;
    const [, told, step] = TOLD.includes(String(event.type)) ? String(event.type).split(".") : [];
    const index = told === undefined ? 0 : placeOf(at);
    const place = key(index, told === "output_text" ? placeOf(number) : "arguments");
    if (told === "output_item") {
      const [item, end] = [fieldsOf(event.item), fieldsOf(output[placeOf(event.output_index)])];
      const same = ["type", "name", "call_id"].every((name) => (item[name] ?? null) === (end[name] ?? null));
      ensure(same, ANSWER, "an item of the stream is another one in the response at its end");
      if (step === "done") placed(item, index).forEach(([held, text]) => requireSame(held, text));
    } else if (step === "delta") {
      if (told === "output_text") newest = inOrder(newest, [index, placeOf(number)]);
      pieces.set(place, (pieces.get(place) ?? "") + textOf(event.delta));
    } else if (step === "done") requireSame(place, presentOf(told === "output_text" ? event.text : event.arguments));
  }
  const shown = pieces.size === 0 ? [] : [...wholes.keys(), ...pieces.keys()];
  for (const place of shown) requireSame(place, pieces.get(place) ?? "");
}

/** A caller who shows texts as they come has read them in this order. */
function inOrder(newest: readonly [number, number], place: readonly [number, number]): readonly [number, number] {
  const later = place[0] > newest[0] || (place[0] === newest[0] && place[1] >= newest[1]);
  ensure(later, ANSWER, "the pieces of an earlier text follow those of a later one");
  return place;
}

/** Chunks joined by their index. A text completion's `text` stands for a chat's `delta`; a stream has one of them. */
function joinChunks(events: Fields[]): Choice[] {
  const choices = new Map<number, Joined>();
  const kinds = new Set<string>();
  for (const { type, choices: parts = [] } of events) {
    ensure(!textOf(type ?? "").startsWith("response."), ANSWER, "the events of a response, which does not end");
    for (const part of listOf(parts).map(fieldsOf)) {
      const index = placeOf(part.index);
      const choice = choices.get(index) ?? { index, message: { role: "assistant", content: "" }, finish_reason: null };
      choices.set(index, choice);
      for (const kind of ["delta", "text"]) if (Object.hasOwn(part, kind)) kinds.add(kind);
      const { text = "", delta = { content: text } } = part;
      if (!isEmpty(delta)) join(choice.message, fieldsOf(delta));
      if (!isEmpty(part.finish_reason)) choice.finish_reason = presentOf(part.finish_reason);
    }
  }
  ensure(kinds.size < 2, ANSWER, "chunks of a chat and of a text completion in one stream");
  ensure(choices.size > 0, ANSWER, "the stream has no end of a response, and no choices");
  return [...choices.values()].sort((one, other) => one.index - other.index);
}

function join(message: Joined["message"], delta: Fields): void {
  message.content += pieceOf(delta.content);
  const told = isEmpty(delta.tool_calls) ? [] : listOf(delta.tool_calls).map(fieldsOf);
  for (const piece of told) joinCall(message.tool_calls ??= [], piece);
}

/** A call has its name, and its id, in its first piece only: some clients join what comes later, some replace. */
function joinCall(calls: Call[], { index, id, type = "function", custom, function: named }: Fields): void {
  ensure(type === "function" && custom === undefined, ANSWER, "a tool call is none of a function");
  const given = isEmpty(named) ? {} : fieldsOf(named);
  const [place, identity, name] = [placeOf(index), pieceOf(id), pieceOf(given.name)];
  const begins = place === calls.length;
  ensure((name !== "") === begins && (begins || identity === ""), ANSWER, "a tool call is not named in its first piece, once");
  if (begins) calls.push({ id: identity, type: "function", function: { name, arguments: "" } });
  const call = calls[place];
  ensure(call !== undefined, ANSWER, "its tool calls are not numbered from 0 on");
  call.function.arguments += pieceOf(given.arguments);
}

/** Of server-sent events, each with its data in one line. What clients read in different ways is refused. */
function eventsOf(text: string): Json[] {
  const lines = text.split("\n").map((line) => line.replace(/\r$/, ""));
  if (lines.at(-1) === "") lines.pop(); // the end of the last line
  const events: Json[] = [];
  let [fields, done] = [new Map<string, string>(), false];
  for (const line of lines) {
    const [, name, value = ""] = /^(data|event|id|retry|):([^\r]*)$/.exec(line) ?? [];
    ensure(line === "" || name !== undefined, ANSWER, `${JSON.stringify(line.slice(0, 32))} is no line of a stream`);
    ensure(name !== "data" || !fields.has("data"), ANSWER, "an event has several lines of data");
    if (name !== undefined) fields.set(name, value.replace(/^ +| +$/g, ""));
    const data = fields.get("data");
    if (line !== "" || fields.size === 0) continue;
    if (data) {
      ensure(!done, ANSWER, "data follows the closing [DONE]");
      done = data === "[DONE]";
      if (!done) events.push(namedAs(fields.get("event"), parseUnambiguous(data, ANSWER)));
    }
    fields = new Map();
  }
  const rest = fields.get("data");
  ensure(!rest || (rest === "[DONE]" && !done), ANSWER, "the stream ends within an event");
  return events;
}

/** Clients look at either of the two. */
function namedAs(name: string | undefined, event: Json): Json {
  ensure(!name || fieldsOf(event).type === name, ANSWER, "an event is named otherwise than by its type");
  return event;
}

const pieceOf = (value: Json | undefined): string => isEmpty(value) ? "" : textOf(value);

const said = (content: string): Fields => ({ role: "assistant", content });

function presentOf(value: Json | undefined): Json {
  if (value === undefined) throw new Refused(ANSWER, "a field is missing");
  return value;
}

function textOf(value: Json | undefined): string {
  if (typeof value !== "string") throw new Refused(ANSWER, "what should be a text is none");
  return value;
}

function placeOf(value: Json | undefined): number {
  ensure(Number.isSafeInteger(value) && Number(value) >= 0, ANSWER, "an index is no integer from 0 on");
  return value as number;
}

function listOf(value: Json | undefined): Json[] {
  ensure(Array.isArray(value), ANSWER, "what should be a list is none");
  return value;
}

function fieldsOf(value: unknown): Fields {
  const held = typeof value === "object" && value !== null && !Array.isArray(value);
  ensure(held, ANSWER, "what should be an object is none");
  return value as Fields;
}
