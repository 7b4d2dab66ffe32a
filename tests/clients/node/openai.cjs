// Drives the `openai` package for JavaScript.
"use strict";

const fs = require("node:fs");
const { Readable } = require("node:stream");
const { pipeline } = require("node:stream/promises");
const { about, given, load, pause, serve, versionOf, watched } = require("./wire.cjs");

const { OpenAI, toFile } = load("openai");

const FINAL = new Set(["completed", "failed"]);
const FILES = {
  file: (path) => fs.createReadStream(path),
  bytes: (content) => toFile(content),
  bytesio: (content) => toFile(Readable.from([content]), "upload"),
};

// This client has no helper that polls: the loop that its users write.
async function polled(client, id) {
  for (;;) {
    const { data: video, response } = await client.videos.retrieve(id).withResponse();
    if (FINAL.has(video.status)) return video;
    await pause(Number(response.headers.get("openai-poll-after-ms") ?? 1000));
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
  const fields = { ...(await given(wish.fields, FILES)), ...wish.extra };
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

serve(versionOf("openai"), carryOut, (error) => ({
  status: error.status ?? null,
  message: [error.message, error.cause?.cause?.message].filter(Boolean).join(": "),
  code: error.code ?? null,
  param: error.param ?? null,
  type: error.type ?? null,
  request_id: error.requestID ?? null,
}));
