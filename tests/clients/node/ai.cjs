// Drives `generateImage` of the AI SDK with its provider for OpenAI and the one for what is compatible with it.
"use strict";

const fs = require("node:fs");
const { given, load, serve, versionOf, watched } = require("./wire.cjs");

const { generateImage } = load("ai");
const { createOpenAI } = load("@ai-sdk/openai");
const { createOpenAICompatible } = load("@ai-sdk/openai-compatible");

const FILES = {
  file: (path) => fs.readFileSync(path),
  bytes: (content) => new Uint8Array(content),
  bytesio: (content) => content.toString("base64"),
};
const PROVIDERS = {
  openai: (settings) => createOpenAI(settings),
  compatible: (settings) => createOpenAICompatible({ ...settings, name: "compatible" }),
};

// `call` is the provider; `args` say more of its settings; `extra` are options of the provider.
async function carryOut(wish) {
  const settings = { baseURL: wish.base_url, apiKey: wish.api_key, fetch: watched, ...wish.args[0] };
  const { model, ...fields } = await given(wish.fields, FILES);
  const made = await generateImage({
    model: PROVIDERS[wish.call](settings).imageModel(model),
    ...fields,
    providerOptions: { [wish.call]: wish.extra },
    headers: wish.headers,
    maxRetries: wish.max_retries,
  });
  return {
    images: made.images.map(({ base64, mediaType }) => ({ base64, media_type: mediaType })),
    warnings: made.warnings,
    usage: made.usage,
    metadata: made.providerMetadata,
  };
}

serve(versionOf("ai"), carryOut, (error) => {
  const last = error.lastError ?? error; // after retries the error of the last one is inside
  const { code = null, param = null, type = null } = last.data?.error ?? {};
  return {
    class: last.constructor.name,
    status: last.statusCode ?? null,
    message: last.message,
    code,
    param,
    type,
    request_id: last.responseHeaders?.["x-request-id"] ?? null,
  };
});
