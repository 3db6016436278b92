// What the JavaScript SDK sees of the hub, as one JSON object.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.HUB,
  apiKey: process.env.KEY,
  maxRetries: 0,
});
const ask = (content, model, more) => ({ model, messages: [{ role: "user", content }], ...more });
const chat = (body) => client.chat.completions.create(body);
const tools = [{ type: "function", function: { name: "mine", parameters: { type: "object" } } }];
const seen = {};

seen.whole = (await chat(ask("x", "hello"))).choices[0].message.content;

seen.streamed = "";
for await (const chunk of await chat(ask("x", "split:1", { stream: true }))) {
  seen.streamed += chunk.choices[0]?.delta.content ?? "";
}

seen.hubTool = (await chat(ask("clock_now {}", "hands"))).choices[0].message.content.startsWith("Tools said:");

let called = "";
for await (const chunk of await chat(ask('mine {"a": 1}', "hands", { tools, stream: true }))) {
  called += chunk.choices[0]?.delta.tool_calls?.[0].function.arguments ?? "";
}
seen.clientTool = JSON.parse(called);

try {
  await chat(ask("x", "nothing"));
} catch (error) {
  seen.error = [error.status, error.code];
}

try {
  for await (const _ of await chat(ask("x", "dead-mid:2", { stream: true })));
} catch (error) {
  seen.broken = error instanceof OpenAI.APIError;
}

let count = 0;
for await (const chunk of await chat(ask("x", "endless:50", { stream: true, requestId: "js-1" }))) {
  if (++count === 3) {
    seen.receipt = (await client.post("/interrupt", { body: { requestId: "js-1", waitS: 60 } })).state;
  }
  seen.lastReason = chunk.choices[0].finish_reason;
  seen.interrupted = chunk.apex?.interrupted ?? false;
}

console.log(JSON.stringify(seen));
