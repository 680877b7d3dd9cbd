// What a node gets of a request, by the endpoint that was asked, and how many tokens its caller allows the answer.
// docs/verifying.md says it in words. What an endpoint does not take has no reading.

import { canonical, isEmpty, type Json } from "./canonical.ts";
import { Refused, ensure } from "./shapes.ts";

export type Endpoint = "chat" | "completions" | "embeddings" | "responses";
/** A request as one endpoint reads it: canonical JSON, and the most completion tokens that it allows, if it says. */
export interface Reading { forwarded: string; limit: number | undefined }
type Fields = { [name: string]: Json };
type Members = { readonly [name: string]: Members | null };

const REQUEST = "request";
const KEYS: { readonly [name in Endpoint]: string } =
  { chat: "messages", completions: "prompt", embeddings: "input", responses: "input" };
const FORWARDED = ["model", "messages", "max_completion_tokens", "max_tokens", "temperature", "top_p", "n", "stop", "seed",
  "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "response_format", "tools", "tool_choice",
  "parallel_tool_calls", "reasoning_effort", "prompt", "suffix", "echo", "input", "dimensions"];
const MEAN_ABSENCE = ["echo", "suffix", "logprobs"]; // in a text completion
const COMPLETION_TOKENS_DEFAULT = 16;

const PART: Members = { type: null, text: null, refusal: null, image_url: { url: null, detail: null } };
const MESSAGE: Members = { role: null, content: PART, name: null };
const CALL: Members = { id: null, type: null, function: { name: null, arguments: null } };
const ASSISTANT: Members = { ...MESSAGE, refusal: null, tool_calls: CALL };
const TOOL: Members = { ...MESSAGE, tool_call_id: null };
const MEMBERS: Members = {
  response_format: { type: null, json_schema: { name: null, description: null, schema: null, strict: null } },
  tools: { type: null, function: { name: null, description: null, parameters: null, strict: null } },
  tool_choice: { type: null, function: { name: null } },
};

/** The request as `endpoint` reads it; where that is not known, as each does that its fields could be meant for. */
export function readingsOf(request: Json, endpoint?: Endpoint): Reading[] {
  const body = isFields(request) ? request : {};
  const endpoints = endpoint === undefined ? (Object.keys(KEYS) as Endpoint[]) : [endpoint];
  return endpoints.filter((one) => isThere(body[KEYS[one]])).flatMap((one) => {
    try {
      const forwarded = forwardedOf(one, body);
      return [{ forwarded: canonical(forwarded), limit: limitOf(one, forwarded) }];
    } catch (error) {
      if (error instanceof Refused) return [];
      throw error;
    }
  });
}

function forwardedOf(endpoint: Endpoint, body: Fields): Fields {
  const own = without(body, Object.values(KEYS).filter((name) => name !== KEYS[endpoint]));
  if (endpoint === "chat") listOf(body.messages);
  if (endpoint === "responses") return forwardedPart(chatOf(there(body)));
  if (endpoint === "embeddings") return { ...forwardedPart(own), input: isText(body.input) ? [body.input] : listOf(body.input).map(textOf) };
  if (endpoint === "completions") {
    const { prompt } = body;
    const only = Array.isArray(prompt) && prompt.length === 1 ? prompt[0] : prompt;
    return { ...forwardedPart(without(own, MEAN_ABSENCE)), prompt: textOf(only) };
  }
  return forwardedPart(own);
}

function limitOf(endpoint: Endpoint, forwarded: Fields): number | undefined {
  if (endpoint === "embeddings") return 0;
  const names = endpoint === "completions" ? ["max_tokens"] : ["max_completion_tokens", "max_tokens"];
  const named = names.filter((name) => Object.hasOwn(forwarded, name)).map((name) => countOf(forwarded[name]));
  if (endpoint === "completions" && named.length === 0) named.push(COMPLETION_TOKENS_DEFAULT);
  return named.length === 0 ? undefined : Math.min(...named) * countOf(forwarded.n ?? 1);
}

/** The listed fields that are there, and of their inner values the listed members. */
function forwardedPart(body: Fields): Fields {
  const listed = Object.entries(there(body)).filter(([name]) => FORWARDED.includes(name));
  return Object.fromEntries(listed.map(([name, value]) =>
    [name, name === "messages" && Array.isArray(value) ? value.map(messageOf) : kept(value, MEMBERS[name] ?? null)]));
}

function kept(value: Json, members: Members | null): Json {
  if (members === null) return value;
  if (Array.isArray(value)) return value.map((one) => isFields(one) ? kept(one, members) : one);
  if (!isFields(value)) return value;
  const named = Object.entries(members).filter(([name]) => Object.hasOwn(value, name) && isThere(value[name]));
  return Object.fromEntries(named.map(([name, inner]) => [name, kept(value[name]!, inner)]));
}

/** An assistant's refusals are text: engines know no other way to say what was said. */
function messageOf(message: Json): Json {
  const role = isFields(message) ? message.role : null;
  if (role !== "assistant") return kept(message, role === "tool" ? TOOL : MESSAGE);
  const { refusal = null, ...rest } = kept(message, ASSISTANT) as Fields;
  const { content = null } = rest;
  if (Array.isArray(content)) return { ...rest, content: content.map(wordsOf) };
  return isEmpty(content) && refusal !== null ? { ...rest, content: refusal } : rest;
}

function wordsOf(part: Json): Json {
  const refused = isFields(part) && part.type === "refusal" && Object.hasOwn(part, "refusal");
  return refused ? { type: "text", text: part.refusal! } : part;
}

/** The chat that a body of /v1/responses means. */
function chatOf(asked: Fields): Fields {
  const { tools = [], reasoning = {}, text = {}, include = [], top_logprobs: most = null, model } = asked;
  const { frequency_penalty = null, presence_penalty = null, temperature = null, top_p = null } = asked;
  const functions = listOf(tools).map(fieldsOf).map(toolOf);
  const [given, calls] = [functions.length > 0, asked.parallel_tool_calls ?? null];
  const shown = !isEmpty(most) || listOf(include).includes("message.output_text.logprobs");
  return {
    model: textOf(model), messages: messagesOf(asked), frequency_penalty, presence_penalty, temperature, top_p,
    max_completion_tokens: asked.max_output_tokens ?? null,
    parallel_tool_calls: given ? calls : null,
    reasoning_effort: fieldsOf(reasoning).effort ?? null,
    response_format: formatOf(fieldsOf(text).format),
    tool_choice: choiceOf(asked.tool_choice, given),
    tools: given ? functions : null,
    ...(shown && { logprobs: true, top_logprobs: most }),
  };
}

function messagesOf({ instructions, input }: Fields): Fields[] {
  const messages: Fields[] = instructions === undefined ? [] : [{ role: "system", content: textOf(instructions) }];
  if (isText(input)) return [...messages, { role: "user", content: input }];
  for (const { type: kind = null, ...item } of listOf(input).map(fieldsOf)) {
    if (kind === null || kind === "message") messages.push({ role: textOf(item.role), content: contentOf(item.content) });
    else if (kind === "function_call") addCall(messages, item);
    else if (kind === "function_call_output") {
      messages.push({ role: "tool", tool_call_id: textOf(item.call_id), content: contentOf(item.output) });
    } else ensure(kind === "reasoning", REQUEST, "an item that has no place in a chat");
  }
  return messages;
}

/** Calls that follow each other, or the assistant's words, are one message of a chat. */
function addCall(messages: Fields[], { call_id, name, arguments: given }: Fields): void {
  const call = { id: textOf(call_id), type: "function", function: { name: textOf(name), arguments: textOf(given) } };
  if (messages.at(-1)?.role !== "assistant") messages.push({ role: "assistant", content: null });
  const { tool_calls: former = [], ...message } = messages.pop()!;
  messages.push({ ...message, tool_calls: [...listOf(former), call] });
}

/** Text stays text; so does a list of one text. */
function contentOf(content: Json | undefined): Json {
  if (isText(content)) return content;
  const parts = listOf(content).map(fieldsOf).map(partOf);
  if (parts.length === 0) return "";
  return parts.length === 1 && parts[0]!.type === "text" ? parts[0]!.text! : parts;
}

function partOf({ type, text, refusal, image_url, detail = null }: Fields): Fields {
  if (type === "input_text" || type === "output_text" || type === "text") return { type: "text", text: textOf(text) };
  if (type === "refusal") return { type, refusal: textOf(refusal) };
  ensure(type === "input_image", REQUEST, "a part that has no place in a chat");
  const seen = detail === "auto" || detail === "low" || detail === "high" ? { detail } : {};
  return { type: "image_url", image_url: { url: textOf(image_url), ...seen } };
}

function toolOf(tool: Fields): Fields {
  ensure(tool.type === "function", REQUEST, "a tool that has no place in a chat");
  return { type: "function", function: named(tool, ["name", "description", "parameters", "strict"]) };
}

function choiceOf(choice: Json | undefined, given: boolean): Json {
  if (!isFields(choice)) return given ? choice ?? null : null;
  ensure(choice.type === "function", REQUEST, "a tool_choice that has no place in a chat");
  return { type: "function", function: { name: textOf(choice.name) } };
}

function formatOf(form: Json | undefined): Json {
  if (!isThere(form)) return null;
  const fields = fieldsOf(form);
  const type = textOf(fields.type);
  return type === "json_schema" ? { type, json_schema: named(fields, ["name", "description", "schema", "strict"]) } : { type };
}

const named = (fields: Fields, names: string[]): Fields =>
  there(Object.fromEntries(names.map((name) => [name, fields[name] ?? null])));

const without = (fields: Fields, names: string[]): Fields =>
  Object.fromEntries(Object.entries(fields).filter(([name]) => !names.includes(name)));

/** Null stands for absent. */
const there = (fields: Fields): Fields => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));

const isThere = (value: Json | undefined): value is Exclude<Json, null> => value !== undefined && value !== null;

const isText = (value: Json | undefined): value is string => typeof value === "string";

export const isFields = (value: Json | undefined): value is Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value);

function textOf(value: Json | undefined): string {
  ensure(isText(value), REQUEST, "what should be a text is none");
  return value;
}

function listOf(value: Json | undefined): Json[] {
  ensure(Array.isArray(value), REQUEST, "what should be a list is none");
  return value;
}

function fieldsOf(value: Json | undefined): Fields {
  ensure(isFields(value), REQUEST, "what should be an object is none");
  return value;
}

function countOf(value: Json | undefined): number {
  ensure(Number.isSafeInteger(value) && Number(value) >= 0, REQUEST, "what should be a count is none");
  return value as number;
}
