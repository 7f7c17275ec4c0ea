// The page: puts the parts together. State is here; every part draws what it is given.

import { $, h, fill, say, toast, later, ago, day } from "./dom.js";
import { ask, get, remove, setKey, whenDenied } from "./api.js";
import { apply, newTurn } from "./turn.js";
import { hideCard, turnView } from "./chat.js";
import { renderPool } from "./pool.js";
import { addFiles, openDocument, refreshDocuments } from "./documents.js";

const state = { conversation: null, turns: [], views: new Map(), selected: null, stopper: null, drawing: false, poolChanged: false };

// -- asking ----------------------------------------------------------------------------------------------------------

async function submit(question) {
  if (state.stopper || !question) return;
  const turn = newTurn(question);
  turn.running = true;
  addTurn(turn);
  state.selected = turn;
  state.stopper = new AbortController();
  busy(true);
  say("Asked");
  draw(turn);
  const body = { question, effort: effort(), method: $("method").value };
  if (state.conversation) body.conversation = state.conversation;
  try {
    await ask(body, state.stopper.signal, (name, data) => {
      apply(turn, name, data);
      if (name === "queued") remember(data.conversation);
      draw(turn, name !== "token");
    });
    if (!turn.answer && !turn.error) turn.error = "The connection ended early. The evidence so far is kept.";
  } catch (error) {
    if (error.name === "AbortError") await stoppedByUser(turn);
    else turn.error = error.message;
  }
  turn.running = false;
  state.stopper = null;
  busy(false);
  draw(turn);
  say(turn.error ?? `Answer: ${turn.text}`);
  refreshConversations().catch((error) => say(error.message));
}

/** The server records what there was when we left; show that. */
async function stoppedByUser(turn) {
  turn.stopped = "cancelled";
  if (!turn.runId) return;
  for (let n = 0; n < 20; n++) {
    await later(250);
    const stored = await get(`/v1/pools/${turn.runId}`).catch(() => null);
    const answered = stored?.events.find((event) => event.event === "answered");
    if (answered) {
      apply(turn, "answered", answered.data);
      return;
    }
  }
}

function effort() {
  return document.querySelector("input[name=effort]:checked").value;
}

function busy(on) {
  $("stop").hidden = !on;
  $("send").hidden = on;
}

// -- drawing ---------------------------------------------------------------------------------------------------------

function addTurn(turn) {
  $("welcome").hidden = true;
  state.turns.push(turn);
  const view = turnView(turn, {
    select: (chosen, show) => {
      state.selected = chosen;
      markSelected();
      renderPool(chosen, openDocument);
      if (show) openPool(true);
    },
    again: (chosen) => submit(chosen.asked),
    openDocument,
  });
  state.views.set(turn, view);
  $("turns").append(view.element);
  view.element.scrollIntoView({ block: "start" });
}

function draw(turn, pool = true) {
  state.poolChanged ||= pool;
  if (state.drawing) return; // at most once a frame, however fast the events come
  state.drawing = true;
  requestAnimationFrame(() => {
    state.drawing = false;
    const place = $("turns");
    const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 120;
    state.views.get(turn)?.update();
    if (state.selected === turn && state.poolChanged) renderPool(turn, openDocument);
    state.poolChanged = false;
    markSelected();
    if (atEnd) place.scrollTo({ top: place.scrollHeight, behavior: "instant" });
    offerLatest();
  });
}

/** A way back down for those who have scrolled up. */
function offerLatest() {
  const place = $("turns");
  $("latest").hidden = place.scrollHeight - place.scrollTop - place.clientHeight < 240;
}

function title(text) {
  $("where").textContent = text;
  document.title = text ? `${text.slice(0, 80)} – ragpool` : "ragpool";
}

function markSelected() {
  for (const [turn, view] of state.views) view.element.classList.toggle("selected", turn === state.selected);
}

// -- conversations ---------------------------------------------------------------------------------------------------

function remember(conversation) {
  state.conversation = conversation;
  history.replaceState(null, "", `#conversation=${encodeURIComponent(conversation)}`);
}

function clear() {
  state.stopper?.abort();
  state.conversation = null;
  state.turns = [];
  state.views.clear();
  state.selected = null;
  fill($("turns"), $("welcome"));
  $("welcome").hidden = false;
  title("");
  $("show-pool").dataset.count = "";
  $("pool-content").classList.remove("settled");
  fill($("pool-content"), $("pool-empty").content.cloneNode(true));
  offerLatest();
}

async function openConversation(id) {
  clear();
  const found = await get(`/v1/conversations/${encodeURIComponent(id)}`).catch((error) => toast(error.message));
  if (!found) return history.replaceState(null, "", location.pathname);
  remember(id);
  for (const stored of found.turns) {
    const turn = newTurn(stored.asked);
    turn.restored = true;
    turn.runId = stored.run_id;
    for (const { event, data } of stored.events) apply(turn, event, data);
    addTurn(turn);
  }
  state.selected = state.turns.at(-1);
  markSelected();
  renderPool(state.selected, openDocument);
  title(found.turns[0].asked);
  openSide(false);
  $("turns").scrollTo({ top: $("turns").scrollHeight, behavior: "instant" });
  offerLatest();
  refreshConversations();
}

async function refreshConversations() {
  const found = await get("/v1/conversations?limit=40");
  fill(
    $("conversations"),
    found.conversations.length
      ? found.conversations.map((c, n) => [
          day(c.updated) === day(found.conversations[n - 1]?.updated ?? Infinity) && n ? null : h("li", { class: "when" }, day(c.updated)),
          h(
            "li",
            { class: c.id === state.conversation ? "entry current" : "entry" },
            h(
              "button",
              {
                class: "entry-main", onclick: () => openConversation(c.id), "aria-current": c.id === state.conversation ? "true" : null,
                title: `${c.title}\n${c.turns === 1 ? "1 question" : `${c.turns} questions`}`,
              },
              h("span", { class: "entry-title" }, c.title),
            ),
            h("span", { class: "entry-time", "aria-hidden": "true" }, ago(c.updated)),
            deletion(c),
          ),
        ]).flat()
      : h("li", { class: "muted small-text" }, "What you ask is kept here."),
  );
  if (state.turns.length) title(state.turns[0].asked);
}

function deletion(c) {
  const button = h("button", { class: "icon small-icon", "aria-label": `Delete ${c.title}` }, h("span", { class: "glyph", "data-glyph": "close" }));
  button.addEventListener("click", async () => {
    if (!button.classList.contains("sure")) {
      button.classList.add("sure");
      button.replaceChildren("Delete?");
      setTimeout(() => button.isConnected && refreshConversations(), 4000);
      return;
    }
    try {
      await remove(`/v1/conversations/${encodeURIComponent(c.id)}`);
      if (c.id === state.conversation) startNew();
    } catch (error) {
      toast(error.message);
    }
    refreshConversations();
  });
  return button;
}

function startNew() {
  clear();
  history.replaceState(null, "", location.pathname);
  refreshConversations();
  openSide(false);
  $("question").focus();
}

// -- panels, theme, keys ---------------------------------------------------------------------------------------------

function openSide(on) {
  $("side").classList.toggle("shown", on);
  $("menu").setAttribute("aria-expanded", String(on));
}

function openPool(on) {
  $("pool").classList.toggle("shown", on);
  $("show-pool").setAttribute("aria-expanded", String(on));
}

function toggleTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  const next = dark ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("ragpool-theme", next);
}

function grow() {
  const box = $("question");
  box.style.setProperty("block-size", "auto");
  box.style.setProperty("block-size", `${Math.min(box.scrollHeight + 2, 220)}px`);
}

/** The arrows go from entry to entry. */
function walk(event) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const entries = [...event.currentTarget.querySelectorAll(".entry-main")];
  const next = by && entries[entries.indexOf(document.activeElement) + by];
  if (!by) return;
  event.preventDefault();
  next?.focus();
}

function wire() {
  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const question = $("question").value.trim();
    if (!question || state.stopper) return;
    $("question").value = "";
    grow();
    submit(question);
  });
  $("question").addEventListener("input", grow);
  $("question").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      $("ask").requestSubmit();
    } else if (event.key === "ArrowUp" && !event.target.value && state.turns.length) {
      event.preventDefault();
      event.target.value = state.turns.at(-1).asked;
      grow();
    }
  });
  $("stop").addEventListener("click", () => state.stopper?.abort());
  $("new").addEventListener("click", startNew);
  $("theme").addEventListener("click", toggleTheme);
  $("menu").addEventListener("click", () => openSide(!$("side").classList.contains("shown")));
  $("show-pool").addEventListener("click", () => openPool(!$("pool").classList.contains("shown")));
  let typing = 0;
  $("find").addEventListener("input", () => {
    clearTimeout(typing); // one question to the server for a word, not for each letter
    typing = setTimeout(() => refreshDocuments().catch((error) => say(error.message)), 200);
  });
  $("welcome-add").addEventListener("click", () => $("file").click());
  $("turns").addEventListener("scroll", offerLatest, { passive: true });
  $("latest").addEventListener("click", () => $("turns").scrollTo({ top: $("turns").scrollHeight }));
  for (const list of [$("conversations"), $("documents")]) list.addEventListener("keydown", walk);
  $("file").addEventListener("change", (event) => {
    addFiles(event.target.files);
    event.target.value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) addFiles(event.dataTransfer.files);
    });
  }
  document.addEventListener("keydown", (event) => {
    if ($("document").open && !$("document-steps").hidden && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
      $(event.key === "ArrowLeft" ? "document-before" : "document-after").click();
    } else if (event.key === "Escape" && !$("document").open) {
      hideCard();
      if ($("side").classList.contains("shown") || $("pool").classList.contains("shown")) {
        openSide(false);
        openPool(false);
      } else state.stopper?.abort();
    } else if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
      event.preventDefault();
      $("question").focus();
    }
  });
  for (const button of document.querySelectorAll("[data-close]")) {
    button.addEventListener("click", () => button.closest("dialog").close());
  }
  $("document").addEventListener("click", (event) => event.target === $("document") && $("document").close());
  $("key-form").addEventListener("submit", () => {
    setKey($("key-value").value.trim());
    $("key-value").value = "";
    start();
  });
  whenDenied((message, hadKey) => {
    $("key-error").textContent = hadKey ? message : "";
    if (!$("key").open) $("key").showModal();
  });
  addEventListener("hashchange", route);
}

function route() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  if (wanted.get("document")) openDocument(wanted.get("document"), wanted.get("passage"));
  const conversation = wanted.get("conversation");
  if (conversation && conversation !== state.conversation) return openConversation(conversation);
  return null;
}

async function start() {
  try {
    await Promise.all([refreshConversations(), refreshDocuments()]);
    await route();
  } catch (error) {
    if (error.status !== 401) toast(error.message);
  }
  $("question").focus();
}

const chosen = localStorage.getItem("ragpool-theme");
if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
wire();
clear();
start();
