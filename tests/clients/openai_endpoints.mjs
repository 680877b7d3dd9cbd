// The unmodified openai SDK for Node beyond single chats: embeddings, completions, responses, and several choices.
import OpenAI from "openai";
import { city, given, network, report } from "./report.mjs";

const client = new OpenAI({ baseURL: network.base_url, apiKey: network.api_key });
const input = given.text;
const inputs = [given.text, "another"];
const tools = [{ type: "function", strict: null, ...given.tool.function }];
const format = { type: "json_schema", name: "city", strict: true, schema: given.schema };
const twice = { model: "echo", messages: [{ role: "user", content: "one two" }], n: 2 };

async function all(stream) {
  const pieces = [];
  for await (const piece of await stream) pieces.push(piece);
  return pieces;
}

async function roundTrip(ask) {
  const [call] = await ask(city);
  const told = [...city, call, { type: "function_call_output", call_id: call.call_id, output: "rain" }];
  return { call, answer: (await client.responses.create({ model: "caller", input: told, tools })).output_text };
}

await report({
  embeddings: () => client.embeddings.create({ model: "echo", input: inputs }),
  embeddingsAsFloat: () => client.embeddings.create({ model: "echo", input: inputs, encoding_format: "float" }),
  embeddingsAsBase64: () => client.embeddings.create({ model: "echo", input: inputs, encoding_format: "base64" }),
  dimensions: () => client.embeddings.create({ model: "echo", input, dimensions: 7 }),
  completion: () => client.completions.create({ model: "echo", prompt: input }),
  completionStream: () =>
    all(client.completions.create({ model: "echo", prompt: input, stream: true, stream_options: { include_usage: true } })),
  choices: () => client.chat.completions.create(twice),
  choicesStream: () => client.chat.completions.stream({ ...twice, stream_options: { include_usage: true } }).finalChatCompletion(),
  logprobs: () => client.chat.completions.create({ ...twice, n: 1, logprobs: true, top_logprobs: 2 }),
  logprobsStream: () =>
    client.chat.completions.stream({ ...twice, n: 1, logprobs: true, top_logprobs: 2 }).finalChatCompletion(),
  response: () => client.responses.create({ model: "echo", input }),
  async responseStream() {
    const stream = client.responses.stream({ model: "echo", input });
    const deltas = [];
    stream.on("response.output_text.delta", ({ delta }) => deltas.push(delta));
    return { final: await stream.finalResponse(), text: deltas.join("") };
  },
  async parsed() {
    return (await client.responses.parse({ model: "structured", input: given.arguments, text: { format } })).output_parsed;
  },
  call: () => roundTrip(async (input) => (await client.responses.create({ model: "caller", input, tools })).output),
  streamedCall: () =>
    roundTrip(async (input) => (await client.responses.stream({ model: "caller", input, tools }).finalResponse()).output),
  brokenOff: () => all(client.responses.create({ model: "breaks", input, stream: true })),
  brokenOffHelper: () => client.responses.stream({ model: "breaks", input }).finalResponse(),
  brokenOffCompletion: () => all(client.completions.create({ model: "breaks", prompt: input, stream: true })),
  former: () => client.responses.create({ model: "echo", input, previous_response_id: "resp_1" }),
  severalPrompts: () => client.completions.create({ model: "echo", prompt: inputs }),
  withoutVectors: () => client.embeddings.create({ model: "caller", input }),
});
