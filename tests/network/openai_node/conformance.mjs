// The unmodified openai SDK for Node against a running network. Prints one JSON object; the Python test judges it.
import OpenAI from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });
const messages = [{ role: "user", content: "Grüße, 世界 🙂 und mehr" }];

const answer = await client.chat.completions.create({ model, messages });

const stream = await client.chat.completions.create({
  model, messages, stream: true, stream_options: { include_usage: true },
});
const chunks = [];
for await (const chunk of stream) chunks.push(chunk);

const { response } = await client.chat.completions.create({ model, messages }).withResponse();

const models = [];
for await (const one of client.models.list()) models.push(one.id);

let failure = null;
try {
  await client.chat.completions.create({ model: "no-such-model", messages });
} catch (error) {
  failure = { name: error.constructor.name, status: error.status, code: error.code, param: error.param };
}

console.log(JSON.stringify({
  answer, chunks, models, failure,
  sdkRequestId: answer._request_id, header: response.headers.get("x-request-id"),
}));
