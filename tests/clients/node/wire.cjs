// What the drivers for JavaScript share: lines of JSON in and out (tests/clients/client.py says what they hold), a fetch
// that notes what goes over the wire, and files. CLIENT_FOLDER is where the packages are installed.
"use strict";

const crypto = require("node:crypto");
const fs = require("node:fs");
const { createRequire } = require("node:module");
const path = require("node:path");
const readline = require("node:readline");

const load = createRequire(path.join(process.env.CLIENT_FOLDER, "package.json"));
let exchanges = [];
let slept = [];

const lower = (headers) => Object.fromEntries([...new Headers(headers)].map(([name, value]) => [name.toLowerCase(), value]));

// Redirects are followed by fetch itself, out of sight: the exchange has the last answer.
async function watched(url, init = {}) {
  if (`${url}`.startsWith("data:")) return fetch(url, init); // a client looks what fetch can do
  // the type of a form, with its boundary, is only known to the request that is made of it
  const type = init.body instanceof FormData ? { "content-type": "multipart/form-data" } : {};
  const { pathname, search } = new URL(url);
  const exchange = { method: init.method ?? "GET", path: pathname, query: search, headers: { ...lower(init.headers), ...type } };
  exchanges.push(exchange);
  const answer = await fetch(url, init);
  Object.assign(exchange, { status: answer.status, answer: lower(answer.headers), redirected: answer.redirected });
  return answer;
}

// Waits, and notes it.
async function pause(milliseconds) {
  slept.push(milliseconds / 1000);
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
}

// The fields of a call, with each file made by the function of its kind: of a path, or of the bytes.
async function given(value, kinds) {
  if (Array.isArray(value)) return Promise.all(value.map((each) => given(each, kinds)));
  if (value === null || typeof value !== "object") return value;
  if ("$file" in value) return kinds.file(value.$file);
  if ("$bytes" in value) return kinds.bytes(Buffer.from(value.$bytes, "base64"));
  if ("$bytesio" in value) return kinds.bytesio(Buffer.from(value.$bytesio, "base64"));
  const entries = Object.entries(value).map(async ([name, each]) => [name, await given(each, kinds)]);
  return Object.fromEntries(await Promise.all(entries));
}

const about = (content) => ({
  bytes: content.length,
  sha256: crypto.createHash("sha256").update(content).digest("hex"),
});

async function outcome(wish, carryOut, told) {
  exchanges = [];
  slept = [];
  const items = [];
  const done = { value: null, error: null };
  try {
    done.value = await carryOut(wish, items);
  } catch (error) {
    done.value = items.length ? items : null;
    done.error = { class: error.constructor.name, ...told(error) };
  }
  return { ...done, exchanges, slept };
}

// `carryOut` makes the call of a wish, and adds what is iterated to its second argument; `told` is what is told of an error.
async function serve(version, carryOut, told) {
  const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
  say({ version });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    say(await outcome(JSON.parse(line), carryOut, told));
  }
}

const versionOf = (name) =>
  JSON.parse(fs.readFileSync(path.join(process.env.CLIENT_FOLDER, "node_modules", name, "package.json"))).version;

module.exports = { about, given, load, pause, serve, versionOf, watched };
