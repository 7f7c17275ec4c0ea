// Documents: upload with progress, find, open at a passage, delete.

import { h, $, fill, later, say, toast } from "./dom.js";
import { get, hasKey, patient, remove, upload } from "./api.js";

const going = new Map(); // a key of ours -> {name, state, fraction, error}
const STATES = { sending: "sending", waiting: "waiting", fetching: "fetching", reading: "reading", indexing: "indexing", done: "ready", failed: "failed" };

export async function refreshDocuments() {
  const found = await get(`/v1/documents?limit=60&q=${encodeURIComponent($("find").value)}`);
  $("shared").hidden = !hasKey();
  if (!$("find").value) {
    $("document-count").textContent = found.total ? String(found.total) : "";
    $("welcome-state").textContent = found.total
      ? `${found.total} ${found.total === 1 ? "document" : "documents"} to ask.`
      : "There are no documents yet.";
    $("welcome-add").hidden = found.total > 0;
  }
  fill(
    $("documents"),
    found.documents.map((d) =>
      h(
        "li",
        { class: "entry" },
        h("button", { class: "entry-main", title: d.id, onclick: () => openDocument(d.id) }, d.title || d.id),
        d.yours ? removal(d) : null,
      ),
    ),
    found.total > found.documents.length ? h("li", { class: "muted small-text" }, `and ${found.total - found.documents.length} more`) : null,
  );
}

function removal(d) {
  const button = h("button", { class: "icon small-icon", "aria-label": `Delete ${d.title}` }, h("span", { class: "glyph", "data-glyph": "close" }));
  button.addEventListener("click", async () => {
    if (!button.classList.contains("sure")) {
      button.classList.add("sure"); // a second click deletes
      button.setAttribute("aria-label", `Really delete ${d.title}?`);
      button.replaceChildren("Delete?");
      setTimeout(() => button.isConnected && refreshDocuments(), 4000);
      return;
    }
    try {
      await remove(`/v1/documents/${d.id.split("/").map(encodeURIComponent).join("/")}`);
      toast(`${d.title} deleted`);
    } catch (error) {
      toast(error.message);
    }
    await refreshDocuments();
  });
  return button;
}

function drawUploads() {
  fill(
    $("uploads"),
    [...going.entries()].map(([key, item]) => {
      const bar = h("progress", { max: 1, "aria-label": item.name });
      if (item.fraction !== null) bar.value = item.fraction;
      return h(
        "li",
        { class: `upload ${item.state}` },
        h("span", { class: "upload-name", title: item.name }, item.name),
        item.state === "failed"
          ? h(
              "button",
              { class: "icon small-icon", "aria-label": `Dismiss ${item.name}`, onclick: () => { going.delete(key); drawUploads(); } },
              h("span", { class: "glyph", "data-glyph": "close" }),
            )
          : h("span", { class: "muted small-text" }, STATES[item.state] ?? item.state),
        item.state === "failed"
          ? h("span", { class: "muted small-text" }, item.error?.startsWith(`${item.name}: `) ? item.error.slice(item.name.length + 2) : item.error)
          : item.state === "done" ? null : bar,
      );
    }),
  );
}

let sending = Promise.resolve();
let following = Promise.resolve();

/** Send files one after the other and follow them in the order in which the server takes them. */
export function addFiles(files) {
  for (const file of files) {
    const key = `${file.name} ${Math.random()}`;
    const item = { name: file.name, state: "waiting", fraction: null, error: null };
    going.set(key, item);
    const sent = sending.then(() => send(file, item)).catch((error) => failed(item, error));
    sending = sent;
    following = Promise.all([following, sent]).then(([, state]) => state && follow(key, item, state));
  }
  drawUploads();
}

function failed(item, error) {
  item.state = "failed";
  item.error = error.message;
  say(`${item.name}: ${error.message}`);
  drawUploads();
}

async function send(file, item) {
  item.state = "sending";
  const taken = await patient(() =>
    upload(file, (fraction) => {
      item.fraction = fraction;
      drawUploads();
    }),
  );
  item.state = "waiting";
  item.fraction = null;
  drawUploads();
  return taken;
}

async function follow(key, item, first) {
  let state = first;
  try {
    for (let pause = 150; ; pause = Math.min(pause * 2, 1500)) {
      item.state = state.state;
      item.fraction = state.total ? state.done / state.total : null;
      drawUploads();
      if (state.state === "done" || state.state === "failed") break;
      await later(pause);
      state = await patient(() => get(`/v1/uploads/${first.id}`));
    }
  } catch (error) {
    failed(item, error);
    return;
  }
  item.error = state.error;
  drawUploads();
  say(`${item.name}: ${STATES[state.state]}`);
  if (item.state !== "done") return;
  patient(refreshDocuments).catch((error) => say(error.message));
  setTimeout(() => {
    going.delete(key);
    drawUploads();
  }, 5000);
}

/** Show a document, at a passage with its quote marked where they are given.

steps: the sources of an answer among which the arrows go, and where this one is. */
export async function openDocument(id, passage = null, quote = null, steps = null) {
  const sheet = $("document");
  $("document-title").textContent = "";
  $("document-id").textContent = id;
  showSteps(steps);
  fill($("document-text"), h("p", { class: "muted" }, "Opening"));
  if (!sheet.open) sheet.showModal();
  const path = id.split("/").map(encodeURIComponent).join("/");
  try {
    const found = await get(`/v1/documents/${path}${passage ? `?passage=${encodeURIComponent(passage)}` : ""}`);
    $("document-title").textContent = found.title || id;
    const target = drawDocument(found, quote);
    if (target) target.scrollIntoView({ block: "center" });
    else $("document-text").scrollTop = 0;
  } catch (error) {
    fill($("document-text"), h("p", { class: "error" }, error.message));
  }
}

function showSteps(steps) {
  const many = steps && steps.sources.length > 1;
  $("document-steps").hidden = !many;
  if (!many) return;
  const { sources, at } = steps;
  $("document-at").textContent = `Source ${at + 1} of ${sources.length}`;
  const go = (by) => {
    const next = (at + by + sources.length) % sources.length;
    const { document_id, passage_id, quote } = sources[next];
    openDocument(document_id, passage_id, quote, { sources, at: next });
  };
  $("document-before").onclick = () => go(-1);
  $("document-after").onclick = () => go(1);
}

function drawDocument(found, quote) {
  const { text, start, end } = found;
  if (start === null || start === undefined) {
    fill($("document-text"), text);
    return null;
  }
  const inside = text.slice(start, end);
  const at = quote ? inside.indexOf(quote) : -1;
  const shown =
    at >= 0 ? [inside.slice(0, at), h("mark", {}, quote), inside.slice(at + quote.length)] : [inside];
  const all = start === 0 && end >= text.length; // a passage that is the whole document needs no ground of its own
  const passage = h("span", { class: all ? "" : "passage-here" }, shown);
  fill($("document-text"), text.slice(0, start), passage, text.slice(end));
  return passage.querySelector("mark") ?? (all ? null : passage);
}
