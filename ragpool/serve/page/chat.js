// The conversation: questions, answers with citations, what one can do with them.

import { h, $, toast } from "./dom.js";
import { blob } from "./api.js";
import { admitted, doing, found, REASONS, steps, telling } from "./turn.js";

const STATUS = { answered: ["good", "answered"], partial: ["warn", "partial"], insufficient: ["", "not in the documents"] };
const SHORT = 90; // characters of an answer that is set larger

/** An element for a turn, with update() to draw what has changed. */
export function turnView(turn, actions) {
  const trace = h("ol", { class: "plain trace" });
  const text = h("div", { class: "text" });
  const state = h("p", { class: "working", role: "status" });
  const foot = h("div", { class: "turn-foot" });
  const element = h(
    "article",
    { class: "turn", tabindex: "-1" },
    h("h2", { class: "asked" }, turn.asked),
    h("div", { class: "reply" }, trace, state, text, foot),
  );
  element.addEventListener("click", () => actions.select(turn));
  let lines = 0;

  function update() {
    state.hidden = !turn.running;
    trace.hidden = !turn.running || Boolean(turn.text);
    if (turn.running) {
      state.textContent = doing(turn);
      const done = steps(turn);
      if (done.length !== lines) trace.replaceChildren(...done.map((line) => h("li", {}, line)));
      lines = done.length;
    }
    drawText(text, turn, actions);
    foot.replaceChildren(...(turn.running ? [] : footer(turn, actions)));
    element.classList.toggle("failed", Boolean(turn.error));
  }
  update();
  return { element, update };
}

function drawText(place, turn, actions) {
  const citations = new Map(turn.citations.map((c) => [c.marker, c]));
  const parts = [];
  // once checked, the answer's own text carries the marks; while it streams there are none
  const marked = turn.answer && turn.answer.text && turn.answer.status !== "insufficient";
  const shown = marked ? turn.answer.text : turn.text;
  for (const piece of shown.split(/(\[\d{1,3}\]|\[unverified\])/)) {
    const number = /^\[(\d+)\]$/.exec(piece);
    const citation = marked && number ? citations.get(Number(number[1])) : null;
    if (citation) parts.push(mark(citation, turn, actions));
    else if (piece === "[unverified]") parts.push(h("span", { class: "chip bad", title: "no passage that was found says this" }, "not verified"));
    else if (piece) parts.push(piece);
  }
  const extra = [];
  if (marked && turn.answer.status === "partial" && turn.answer.missing.length) {
    extra.push(h("p", { class: "missing" }, h("strong", {}, "Not complete. "), `Missing: ${turn.answer.missing.join("; ")}`));
  }
  if (marked && turn.citations.length) extra.push(sources(turn, actions));
  if (turn.answer?.status === "insufficient") extra.push(...nearest(turn, actions));
  if (turn.error) extra.push(h("p", { class: "error", role: "alert" }, turn.error));
  const kind = turn.answer && !marked ? " refused" : turn.answer && shown.length <= SHORT ? " short" : "";
  const main = parts.length ? h("p", { class: `answer${kind}` }, parts) : null;
  place.replaceChildren(...[main, ...extra].filter(Boolean));
}

/** The citations by number, and what opens one of them with the others a step away. */
function opener(turn, actions) {
  const sources = [...turn.citations].sort((a, b) => a.marker - b.marker);
  const open = (c) => {
    hideCard();
    actions.openDocument(c.document_id, c.passage_id, c.quote, { sources, at: sources.indexOf(c) });
  };
  return { sources, open };
}

/** The cited passages under the answer, for those who do not hover. */
function sources(turn, actions) {
  const { sources, open } = opener(turn, actions);
  return h(
    "ul",
    { class: "plain sources", "aria-label": "Sources" },
    sources.map((c) => source(c.title || c.document_id, c.quote, () => open(c), c.marker, c.supported)),
  );
}

function source(title, quote, open, number = null, supported = true) {
  return h(
    "li",
    {},
    h(
      "button",
      { class: supported ? "source" : "source weak", onclick: (event) => { event.stopPropagation(); open(); } },
      h("span", { class: "source-title" }, number === null ? null : h("span", { class: "source-number" }, String(number)), h("span", {}, title)),
      h("span", { class: "source-quote" }, quote),
    ),
  );
}

/** Where nothing answers: what came nearest, so that one need not take the page's word for it. */
function nearest(turn, actions) {
  const near = admitted(turn).filter((e) => !turn.known.includes(e)).slice(0, 3);
  if (!near.length) return [];
  const open = (e) => actions.openDocument(e.document_id, e.passage_id, telling(turn, e));
  return [
    h("p", { class: "muted small-text nearest" }, "The nearest passages that were found"),
    h("ul", { class: "plain sources" }, near.map((e) => source(e.title || e.document_id, telling(turn, e), () => open(e)))),
  ];
}

function mark(citation, turn, actions) {
  const label = `Source ${citation.marker}: ${citation.title || citation.document_id}`;
  const { sources, open } = opener(turn, actions);
  const own = sources.find((c) => c.marker === citation.marker);
  const button = h(
    "button",
    {
      class: citation.supported ? "cite" : "cite weak",
      "aria-label": citation.supported ? label : `${label}, does not support this`,
      onclick: (event) => {
        event.stopPropagation();
        open(own);
      },
      onmouseenter: () => showCard(button, citation, turn),
      onfocus: () => showCard(button, citation, turn),
      onmouseleave: hideCard,
      onblur: hideCard,
    },
    String(citation.marker),
  );
  return button;
}

const AROUND = 180; // characters of the passage before the quote

function showCard(button, citation, turn) {
  const card = $("card");
  card.replaceChildren(
    h("strong", {}, citation.title || citation.document_id),
    h("p", {}, around(citation, turn)),
    h("small", { class: citation.supported ? "fine" : "error" }, citation.supported ? "Checked: its names and numbers stand in the passage" : "This passage does not support the claim"),
  );
  card.hidden = false;
  const box = button.getBoundingClientRect();
  const width = Math.min(400, innerWidth - 24);
  card.style.setProperty("inline-size", `${width}px`);
  card.style.setProperty("left", `${Math.max(12, Math.min(box.left, innerWidth - width - 12))}px`);
  const above = box.top - card.offsetHeight - 8;
  card.style.setProperty("top", `${above > 8 ? above : box.bottom + 8}px`);
}

/** The passage with the quote marked, from a little before it. */
function around(citation, turn) {
  const text = found(turn).find((e) => e.passage_id === citation.passage_id)?.text ?? citation.quote;
  const at = text.indexOf(citation.quote);
  if (at < 0) return citation.quote;
  const from = at > AROUND ? text.indexOf(" ", at - AROUND) + 1 : 0;
  return [from ? "… " : "", text.slice(from, at), h("mark", {}, citation.quote), text.slice(at + citation.quote.length)];
}

export function hideCard() {
  $("card").hidden = true;
}

function footer(turn, actions) {
  const answer = turn.answer;
  const parts = [];
  if (answer) {
    const [tone, words] = STATUS[answer.status] ?? ["", answer.status];
    const stopped = ["cancelled", "deadline"].includes(answer.stop_reason);
    parts.push(h("span", { class: `chip ${stopped ? "warn" : tone}` }, stopped ? (answer.stop_reason === "cancelled" ? "stopped" : "out of time") : words));
    const rounds = answer.rounds === 1 ? "1 round" : `${answer.rounds} rounds`;
    const tokens = answer.usage.prompt_tokens + answer.usage.completion_tokens;
    const seconds = answer.seconds < 10 ? answer.seconds.toFixed(1) : Math.round(answer.seconds);
    const figures = [rounds, `${answer.evidence.length} passages`, tokens ? `${tokens} tokens` : "", answer.seconds ? `${seconds} s` : ""];
    parts.push(h("span", { class: "muted", title: REASONS[answer.stop_reason] ?? "" }, figures.filter(Boolean).join(" · ")));
  } else if (!turn.error) {
    parts.push(h("span", { class: "chip warn" }, "unfinished"));
  }
  const links = [];
  const button = (label, action, more = {}) =>
    h("button", { class: "link quiet", onclick: (event) => { event.stopPropagation(); action(); }, ...more }, label);
  links.push(button("Evidence", () => actions.select(turn, true), { class: "link quiet to-pool" }));
  if (answer) links.push(button("Copy", () => copy(turn.text)));
  links.push(button("Ask again", () => actions.again(turn)));
  if (turn.runId) {
    links.push(
      button("JSON", () => download(turn.runId, "json"), { title: "Export everything about this run" }),
      button("Markdown", () => download(turn.runId, "markdown"), { title: "Export it for reading" }),
    );
  }
  parts.push(h("span", { class: "links" }, links));
  return parts;
}

function copy(text) {
  navigator.clipboard?.writeText(text).then(() => toast("Copied"), () => toast("The browser does not let this page copy"));
}

async function download(runId, format) {
  const content = await blob(`/v1/pools/${runId}/export?format=${format}`).catch((error) => toast(error.message));
  if (!content) return;
  const url = URL.createObjectURL(content);
  const link = h("a", { href: url, download: `ragpool-${runId.slice(0, 12)}.${format === "json" ? "json" : "md"}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
