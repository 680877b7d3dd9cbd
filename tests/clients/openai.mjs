// The unmodified openai SDK for Node.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { city, counting, deserted, given, messages, network, report } from "./report.mjs";

const client = clientOf(network);
const tools = [given.tool];

function clientOf(place, options = {}) {
  return new OpenAI({ baseURL: place.base_url, apiKey: place.api_key, ...options });
}

async function chunksOf(request) {
  const chunks = [];
  for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) chunks.push(chunk);
  return chunks;
}

await report({
  answer: () => client.chat.completions.create({ model: "echo", messages }),
  stream: () => chunksOf({ model: "echo", messages }),
  streamWithUsage: () => chunksOf({ model: "echo", messages, stream_options: { include_usage: true } }),
  history: () => client.chat.completions.create({ model: "echo", messages: given.history }),
  async tool() {
    const { message } = (await client.chat.completions.create({ model: "caller", messages: city, tools })).choices[0];
    const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "rain" };
    const second = await client.chat.completions.create({ model: "caller", messages: [...city, message, result], tools });
    return { call: message.tool_calls[0].function, answer: second.choices[0].message.content };
  },
  async streamedTool() {
    const runner = client.chat.completions.runTools({
      model: "caller", messages: city, stream: true,
      tools: [{ type: "function", function: { ...given.tool.function, parse: JSON.parse, function: ({ city }) => `rain in ${city}` } }],
    });
    return runner.finalContent();
  },
  async parsed() {
    const format = zodResponseFormat(z.object({ city: z.string() }), "city");
    const answer = await client.chat.completions.parse({ model: "structured", messages: city, response_format: format });
    return answer.choices[0].message.parsed;
  },
  async requestId() {
    const { data, response, request_id } = await client.chat.completions.create({ model: "echo", messages }).withResponse();
    return { body: data.request_id, property: data._request_id, header: response.headers.get("x-request-id"), request_id };
  },
  async receipt() {
    const answer = await client.chat.completions.create({ model: "echo", messages });
    return { id: answer.request_id, receipt: await client.get(`/receipts/${answer.request_id}`) };
  },
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    const found = [];
    for (const id of ids) found.push((await client.models.retrieve(id)).id);
    return { ids, found };
  },
  unknownModelFound: () => client.models.retrieve("no/such:model"),
  wrongKey: () => clientOf(network, { apiKey: "sk-pnv-wrong" }).models.list(),
  unknownModel: () => client.chat.completions.create({ model: "no-such-model", messages }),
  temperature: () => client.chat.completions.create({ model: "echo", messages, temperature: 3 }),
  brokenOff: () => chunksOf({ model: "breaks", messages }),
  async retried() {
    const fetch = counting();
    const lonely = clientOf(deserted, { maxRetries: 1, fetch });
    const error = await lonely.chat.completions.create({ model: "echo", messages }).catch((thrown) => thrown);
    return { calls: fetch.calls, class: error.constructor.name, status: error.status, code: error.code, message: error.message };
  },
  async idempotent() {
    const headers = { "Idempotency-Key": "openai-node" };
    const ask = () => client.chat.completions.create({ model: "echo", messages }, { headers });
    return [(await ask()).id, (await ask()).id];
  },
  async left() {
    const stream = await client.chat.completions.create({ model: "slow", messages, stream: true });
    for await (const chunk of stream) if (chunk.choices[0].delta.content) return chunk.request_id; // leaving aborts it
  },
  tooSlow: () => client.chat.completions.create({ model: "slow", messages }, { timeout: 500, maxRetries: 0 }),
  afterwards: () => client.chat.completions.create({ model: "echo", messages }),
});
