// Documents: upload with progress, find, open at a passage, delete.

import { h, $, fill, say } from "./dom.js";
import { get, hasKey, remove, upload } from "./api.js";

const going = new Map(); // a key of ours -> {name, state, fraction, error}
const STATES = { sending: "sending", waiting: "waiting", fetching: "fetching", reading: "reading", indexing: "indexing", done: "ready", failed: "failed" };

export async function refreshDocuments() {
  const found = await get(`/v1/documents?limit=60&q=${encodeURIComponent($("find").value)}`);
  $("shared").hidden = !hasKey();
  if (!$("find").value) {
    $("document-count").textContent = found.total ? String(found.total) : "";
    $("welcome-state").textContent = found.total
      ? `${found.total} ${found.total === 1 ? "document" : "documents"} to ask.`
      : "There are no documents yet: add some on the left.";
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
    await remove(`/v1/documents/${d.id.split("/").map(encodeURIComponent).join("/")}`);
    say(`${d.title} deleted`);
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
        h("span", { class: "upload-name" }, item.name),
        h("span", { class: "muted small-text" }, item.error ?? STATES[item.state] ?? item.state),
        item.state === "failed"
          ? h("button", { class: "link", onclick: () => { going.delete(key); drawUploads(); } }, "Dismiss")
          : item.state === "done" ? null : bar,
      );
    }),
  );
}

export async function addFiles(files) {
  await Promise.all([...files].map(addFile));
}

async function addFile(file) {
  const key = `${file.name} ${Math.random()}`;
  const item = { name: file.name, state: "sending", fraction: 0, error: null };
  going.set(key, item);
  drawUploads();
  try {
    let state = await upload(file, (fraction) => {
      item.fraction = fraction;
      drawUploads();
    });
    while (state.state !== "done" && state.state !== "failed") {
      item.state = state.state;
      item.fraction = state.total ? state.done / state.total : null;
      drawUploads();
      await new Promise((later) => setTimeout(later, 300));
      state = await get(`/v1/uploads/${state.id}`);
    }
    item.state = state.state;
    item.error = state.error;
    say(`${file.name}: ${STATES[state.state]}`);
  } catch (error) {
    item.state = "failed";
    item.error = error.message;
    say(`${file.name}: ${error.message}`);
  }
  drawUploads();
  if (item.state === "done") {
    await refreshDocuments();
    setTimeout(() => {
      going.delete(key);
      drawUploads();
    }, 5000);
  }
}

/** Show a document, at a passage with its quote marked where they are given. */
export async function openDocument(id, passage = null, quote = null) {
  const sheet = $("document");
  $("document-title").textContent = "";
  $("document-id").textContent = id;
  fill($("document-text"), h("p", { class: "muted" }, "Opening"));
  if (!sheet.open) sheet.showModal();
  const path = id.split("/").map(encodeURIComponent).join("/");
  try {
    const found = await get(`/v1/documents/${path}${passage ? `?passage=${encodeURIComponent(passage)}` : ""}`);
    $("document-title").textContent = found.title || id;
    const target = drawDocument(found, quote);
    target?.scrollIntoView({ block: "center" });
  } catch (error) {
    fill($("document-text"), h("p", { class: "error" }, error.message));
  }
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
  const passage = h("span", { class: "passage-here" }, shown);
  fill($("document-text"), text.slice(0, start), passage, text.slice(end));
  return passage.querySelector("mark") ?? passage;
}
