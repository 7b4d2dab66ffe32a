// Drives the `eventsource` package: follows a feed until the client gives up by itself.
"use strict";

const { load, serve, versionOf, watched } = require("./wire.cjs");

const { EventSource } = load("eventsource");

// `args`: the URL, and the names of the events. Every opening, event and error is told.
function carryOut(wish, items) {
  const [url, names] = wish.args;
  const withKey = (target, init) => {
    const headers = { ...init.headers, ...(wish.api_key && { Authorization: `Bearer ${wish.api_key}` }), ...wish.headers };
    return watched(target, { ...init, headers });
  };
  return new Promise((resolve, reject) => {
    const source = new EventSource(url, { fetch: withKey });
    const limit = setTimeout(() => {
      source.close();
      reject(new Error("the client did not give up"));
    }, 60_000);
    source.onopen = () => items.push({ type: "open" });
    for (const name of names) {
      source.addEventListener(name, ({ data, lastEventId }) => items.push({ type: name, id: lastEventId, data: JSON.parse(data) }));
    }
    source.onerror = ({ code, message }) => {
      items.push({ type: "error", code: code ?? null, message: message ?? null });
      if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
      clearTimeout(limit);
      resolve(items);
    };
  });
}

serve(versionOf("eventsource"), carryOut, ({ message }) => ({
  status: null,
  message,
  code: null,
  param: null,
  type: null,
  request_id: null,
}));
