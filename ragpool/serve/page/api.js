// The server's addresses, with the key where one is needed, and server-sent events over fetch.

import { later } from "./dom.js";

const KEY = "ragpool-key";
let onDenied = () => {};

export function whenDenied(handler) {
  onDenied = handler;
}

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

export const hasKey = () => Boolean(sessionStorage.getItem(KEY));

export class ApiError extends Error {
  /** retryAfter: seconds until the server wants to hear from us again, 0 when it does not say. */
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

const unreached = () => new ApiError(0, "The server was not reached. Is it still running?");

/** Do what may be done a moment later: waits as long as the server says when it has too much to do. */
export async function patient(call) {
  for (let tries = 0; ; tries++) {
    try {
      return await call();
    } catch (error) {
      if (error.status !== 429 || tries >= 60) throw error;
      await later(1000 * (error.retryAfter || 2));
    }
  }
}

async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = sessionStorage.getItem(KEY);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  const response = await fetch(path, { ...options, headers }).catch((error) => {
    throw error.name === "AbortError" ? error : unreached();
  });
  if (response.ok) return response;
  let message = `the server answered ${response.status}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // not JSON: the status says enough
  }
  if (response.status === 401) onDenied(message, Boolean(key));
  throw new ApiError(response.status, message, Number(response.headers.get("Retry-After")));
}

export const get = async (path) => (await request(path)).json();
export const blob = async (path) => (await request(path)).blob();
export const remove = (path) => request(path, { method: "DELETE" });

const json = (body, more) => ({
  method: "POST",
  headers: { "Content-Type": "application/json" },
  body: JSON.stringify(body),
  ...more,
});

/** Call handle(name, data) for each event of POST /v1/ask; ends with the stream, or by the signal. */
export async function ask(body, signal, handle) {
  const response = await request("/v1/ask", json(body, { signal }));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new ApiError(0, "The connection was lost. The evidence so far is kept.");
    });
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      let name = "message";
      let data = "";
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data += line.slice(6);
      }
      if (data) handle(name, JSON.parse(data));
    }
  }
}

/** Upload a file; progress(fraction) while it is sent. Resolves with the upload as the server sees it. */
export function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest(); // fetch says nothing of how much was sent
    call.open("POST", "/v1/documents");
    const key = sessionStorage.getItem(KEY);
    if (key) call.setRequestHeader("Authorization", `Bearer ${key}`);
    call.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded / event.total);
    call.onerror = () => reject(unreached());
    call.onload = () => {
      let body = {};
      try {
        body = JSON.parse(call.responseText);
      } catch {
        // said by the status
      }
      if (call.status === 202) resolve(body);
      else {
        const message = body.error?.message ?? `the server answered ${call.status}`;
        reject(new ApiError(call.status, message, Number(call.getResponseHeader("Retry-After"))));
      }
    };
    const form = new FormData();
    form.append("file", file);
    call.send(form);
  });
}
