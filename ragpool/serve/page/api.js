// The server's addresses, with the key where one is needed, and server-sent events over fetch.

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
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  const key = sessionStorage.getItem(KEY);
  if (key) headers.set("Authorization", `Bearer ${key}`);
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  let message = `the server answered ${response.status}`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // not JSON: the status says enough
  }
  if (response.status === 401) onDenied(message, Boolean(key));
  throw new ApiError(response.status, message);
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
    const { value, done } = await reader.read();
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
    call.onerror = () => reject(new ApiError(0, "the server was not reached"));
    call.onload = () => {
      let body = {};
      try {
        body = JSON.parse(call.responseText);
      } catch {
        // said by the status
      }
      if (call.status === 202) resolve(body);
      else reject(new ApiError(call.status, body.error?.message ?? `the server answered ${call.status}`));
    };
    const form = new FormData();
    form.append("file", file);
    call.send(form);
  });
}
