// Drives the `openai` package for JavaScript: a call as a line of JSON in, its outcome as a line out. What the lines hold
// is said in tests/clients/client.py, which starts it; CLIENT_FOLDER is where the package is installed.
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const { createRequire } = require("node:module");
const path = require("node:path");
const readline = require("node:readline");
const { Readable } = require("node:stream");
const { pipeline } = require("node:stream/promises");

const load = createRequire(path.join(process.env.CLIENT_FOLDER, "package.json"));
const { OpenAI, toFile } = load("openai");
const { VERSION: version } = load("openai/version");

const FINAL = new Set(["completed", "failed"]);
let exchanges = [];
let slept = [];

const lower = (headers) => Object.fromEntries([...new Headers(headers)].map(([name, value]) => [name.toLowerCase(), value]));

// Redirects are followed by fetch itself, out of sight: the exchange has the last answer.
async function watched(url, init) {
  // the type of a form, with its boundary, is only known to the request that is made of it
  const type = init.body instanceof FormData ? { "content-type": "multipart/form-data" } : {};
  const exchange = { method: init.method, path: new URL(url).pathname, headers: { ...lower(init.headers), ...type } };
  exchanges.push(exchange);
  const answer = await fetch(url, init);
  Object.assign(exchange, { status: answer.status, answer: lower(answer.headers), redirected: answer.redirected });
  return answer;
}

async function given(value) {
  if (Array.isArray(value)) return Promise.all(value.map(given));
  if (value === null || typeof value !== "object") return value;
  if ("$file" in value) return fs.createReadStream(value.$file);
  if ("$bytes" in value) return toFile(Buffer.from(value.$bytes, "base64"));
  if ("$bytesio" in value) return toFile(Readable.from([Buffer.from(value.$bytesio, "base64")]), "upload");
  const entries = Object.entries(value).map(async ([name, each]) => [name, await given(each)]);
  return Object.fromEntries(await Promise.all(entries));
}

const about = (content) => ({
  bytes: content.length,
  sha256: crypto.createHash("sha256").update(content).digest("hex"),
});

// This client has no helper that polls: the loop that its users write.
async function polled(client, id) {
  for (;;) {
    const { data: video, response } = await client.videos.retrieve(id).withResponse();
    if (FINAL.has(video.status)) return video;
    const milliseconds = Number(response.headers.get("openai-poll-after-ms") ?? 1000);
    slept.push(milliseconds / 1000);
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
  }
}

async function carryOut(wish, items) {
  const client = new OpenAI({
    baseURL: wish.base_url,
    apiKey: wish.api_key,
    maxRetries: wish.max_retries,
    timeout: 30_000,
    fetch: watched,
  });
  const [room, name] = wish.call.includes(".") ? wish.call.split(".") : [null, wish.call];
  const place = room ? client[room] : client;
  const method = name.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
  const fields = { ...(await given(wish.fields)), ...wish.extra };
  const options = { headers: wish.headers };
  if (name === "post") return client.post(...wish.args);
  if (wish.call === "webhooks.unwrap") return client.webhooks.unwrap(...wish.args);
  if (wish.call === "videos.poll") return polled(client, ...wish.args);
  if (wish.call === "videos.create_and_poll") return polled(client, (await client.videos.create(fields, options)).id);

  const args = Object.keys(fields).length || !wish.args.length ? [...wish.args, fields, options] : [...wish.args, options];
  if (wish.call === "videos.download_content") args.splice(1, args.length, fields, options);
  const promise = place[method](...args);
  if (wish.take === "bytes") return about(Buffer.from(await (await promise).arrayBuffer()));
  if (wish.take === "file") {
    await pipeline(Readable.fromWeb((await promise).body), fs.createWriteStream(wish.to));
    return about(fs.readFileSync(wish.to));
  }
  if (wish.take === "items") {
    for await (const each of await promise) items.push(each);
    return items;
  }
  const value = await promise;
  return { ...value, request_id: value._request_id };
}

async function outcome(wish) {
  exchanges = [];
  slept = [];
  const items = [];
  const done = { value: null, error: null };
  try {
    done.value = await carryOut(wish, items);
  } catch (error) {
    done.value = items.length ? items : null;
    done.error = {
      class: error.constructor.name,
      status: error.status ?? null,
      message: [error.message, error.cause?.cause?.message].filter(Boolean).join(": "),
      code: error.code ?? null,
      param: error.param ?? null,
      type: error.type ?? null,
      request_id: error.requestID ?? null,
    };
  }
  return { ...done, exchanges, slept };
}

async function main() {
  const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
  say({ version });
  for await (const line of readline.createInterface({ input: process.stdin })) say(await outcome(JSON.parse(line)));
}

main();
