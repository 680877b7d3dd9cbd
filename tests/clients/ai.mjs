// The unmodified AI SDK: its provider `openai-compatible`, and `openai` with chats and with responses, its default.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateObject, generateText, jsonSchema, stepCountIs, streamObject, streamText, tool } from "ai";
import { counting, deserted, given, network, report, shown } from "./report.mjs";

const prompt = given.text;
const schema = jsonSchema(given.schema);
const tools = {
  weather: tool({ description: "The weather in a city", inputSchema: schema, execute: ({ city }) => `rain in ${city}` }),
};

function compatible(place, options = {}) {
  const names = { name: "pinaivu", includeUsage: true, supportsStructuredOutputs: true };
  const found = createOpenAICompatible({ ...names, baseURL: place.base_url, apiKey: place.api_key, ...options });
  return { of: (model) => found(model), embedding: (model) => found.textEmbeddingModel(model) };
}

function openai(place, options = {}) {
  const found = createOpenAI({ baseURL: place.base_url, apiKey: place.api_key, ...options });
  return { of: (model) => found.chat(model), embedding: (model) => found.textEmbeddingModel(model) };
}

function responses(place, options = {}) {
  const found = createOpenAI({ baseURL: place.base_url, apiKey: place.api_key, ...options });
  return { of: (model) => found(model), embedding: (model) => found.embedding(model) };
}

const provider = { compatible, openai, responses }[given.provider];
const { of: models, embedding } = provider(network);

async function streamed(options) {
  const errors = [];
  const stream = streamText({ maxRetries: 0, onError: ({ error }) => errors.push(shown(error)), ...options });
  const pieces = [];
  for await (const piece of stream.textStream) pieces.push(piece);
  return { text: pieces.join(""), errors, stream };
}

await report({
  async answer() {
    const { text, finishReason, usage, response } = await generateText({ model: models("echo"), prompt });
    return { text, finishReason, usage, requestId: response.headers["x-request-id"], body: response.body };
  },
  async stream() {
    const { text, errors, stream } = await streamed({ model: models("echo"), prompt });
    return { text, errors, finishReason: await stream.finishReason, usage: await stream.usage };
  },
  async history() {
    return (await generateText({ model: models("echo"), messages: given.history, allowSystemInMessages: true })).text;
  },
  async tool() {
    const options = { model: models("caller"), prompt: given.arguments, tools, stopWhen: stepCountIs(2) };
    const { text, steps } = await generateText(options);
    return { text, call: steps[0].toolCalls[0].input };
  },
  async streamedTool() {
    const options = { model: models("caller"), prompt: given.arguments, tools, stopWhen: stepCountIs(2) };
    return (await streamed(options)).text;
  },
  async object() {
    return (await generateObject({ model: models("structured"), schema, prompt: given.arguments })).object;
  },
  async streamedObject() {
    const { object, partialObjectStream } = streamObject({ model: models("structured"), schema, prompt: given.arguments });
    for await (const partial of partialObjectStream) if (!partial) throw new Error("no partial object");
    return object;
  },
  async conversation() {
    const settings = { model: models("echo"), maxRetries: 0, providerOptions: { openai: { store: false } } };
    const first = [{ role: "user", content: "one two" }];
    const { response } = await generateText({ ...settings, messages: first });
    const messages = [...first, ...response.messages, { role: "user", content: "three" }];
    const { text, usage } = await generateText({ ...settings, messages });
    const kept = { ...settings, providerOptions: {} };
    const defaults = await generateText({ ...kept, messages }).then(({ text }) => ({ text }), (error) => ({ thrown: shown(error) }));
    return { text, inputTokens: usage.inputTokens, defaults };
  },
  async embeddings() {
    const { embeddings, usage } = await embedMany({ model: embedding("echo"), values: [prompt, "another"] });
    return { lengths: embeddings.map((vector) => vector.length), first: embeddings[0], usage };
  },
  wrongKey: () => generateText({ model: provider(network, { apiKey: "sk-pnv-wrong" }).of("echo"), prompt, maxRetries: 0 }),
  unknownModel: () => generateText({ model: models("no-such-model"), prompt }),
  temperature: () => generateText({ model: models("echo"), prompt, temperature: 3 }),
  async brokenOff() {
    const { text, errors, stream } = await streamed({ model: models("breaks"), prompt });
    return { text, errors, finishReason: await stream.finishReason };
  },
  async retried() {
    const fetch = counting();
    const model = provider(deserted, { fetch }).of("echo");
    const error = await generateText({ model, prompt, maxRetries: 1 }).catch((thrown) => thrown);
    return { calls: fetch.calls, ...shown(error) };
  },
  async left() {
    const leaving = new AbortController();
    const stream = streamText({ model: models("slow"), prompt, abortSignal: leaving.signal, includeRawChunks: true });
    let requestId = null;
    for await (const part of stream.fullStream) {
      if (part.type === "text-delta") leaving.abort();
      if (part.type === "raw") requestId ??= part.rawValue.request_id ?? part.rawValue.response?.id.replace("resp_", "req_");
    }
    return requestId;
  },
  async receipt() {
    const { response } = await generateText({ model: models("echo"), prompt });
    const headers = { authorization: `Bearer ${network.api_key}` };
    const id = response.headers["x-request-id"];
    return { id, receipt: await (await fetch(`${network.base_url}/receipts/${id}`, { headers })).json() };
  },
});
