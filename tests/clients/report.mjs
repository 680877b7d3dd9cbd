// Runs cases one after the other and prints what came of each as one JSON object; the Python tests judge it.
// A case gives a value, or `{thrown: …}` with what its user sees of the error.
import dns from "node:dns";

dns.lookup = (host) => {
  throw new Error(`a client asks for ${host}`);
};

export const network = JSON.parse(process.argv[2]);
export const deserted = JSON.parse(process.argv[3]);
export const given = JSON.parse(process.argv[4]);
export const messages = [{ role: "user", content: given.text }];
export const city = [{ role: "user", content: given.arguments }];

export async function report(cases) {
  const found = {};
  for (const [name, run] of Object.entries(cases)) {
    try {
      found[name] = await run();
    } catch (error) {
      found[name] = { thrown: shown(error) };
    }
  }
  process.stdout.write(JSON.stringify(found));
}

export function shown(error) {
  const { name, message, status, statusCode, code, param, type, requestID, reason } = error;
  const { data, responseHeaders } = error;
  return { class: error.constructor.name, name, message, status, statusCode, code, param, type, requestID, reason, data, responseHeaders };
}

// `fetch` that notes how often it was called.
export function counting() {
  const counted = (...request) => {
    counted.calls += 1;
    return fetch(...request);
  };
  counted.calls = 0;
  return counted;
}
