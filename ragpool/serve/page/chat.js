// The conversation: questions, answers with citations, what one can do with them.

import { h, $, say } from "./dom.js";
import { blob } from "./api.js";
import { doing, REASONS } from "./turn.js";

const STATUS = { answered: ["good", "answered"], partial: ["warn", "partial"], insufficient: ["bad", "not in the documents"] };

/** An element for a turn, with update() to draw what has changed. */
export function turnView(turn, actions) {
  const text = h("div", { class: "text" });
  const state = h("p", { class: "working", role: "status" });
  const foot = h("div", { class: "turn-foot" });
  const element = h(
    "article",
    { class: "turn", tabindex: "-1" },
    h("p", { class: "asked" }, turn.asked),
    h("div", { class: "reply" }, state, text, foot),
  );
  element.addEventListener("click", () => actions.select(turn));

  function update() {
    state.hidden = !turn.running;
    if (turn.running) state.textContent = doing(turn);
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
    if (citation) parts.push(mark(citation, actions));
    else if (piece === "[unverified]") parts.push(h("span", { class: "chip bad", title: "no passage that was found says this" }, "not verified"));
    else if (piece) parts.push(piece);
  }
  const extra = [];
  if (marked && turn.answer.status === "partial" && turn.answer.missing.length) {
    extra.push(h("p", { class: "missing" }, h("strong", {}, "Not complete. "), `Missing: ${turn.answer.missing.join("; ")}`));
  }
  if (marked && turn.citations.length) extra.push(sources(turn, actions));
  if (turn.error) extra.push(h("p", { class: "error", role: "alert" }, turn.error));
  const main = parts.length ? h("p", { class: "answer" }, parts) : null;
  place.replaceChildren(...[main, ...extra].filter(Boolean));
}

/** The cited passages under the answer, for those who do not hover. */
function sources(turn, actions) {
  return h(
    "ul",
    { class: "plain sources", "aria-label": "Sources" },
    turn.citations.map((c) =>
      h(
        "li",
        {},
        h(
          "button",
          { class: c.supported ? "source" : "source weak", onclick: (event) => { event.stopPropagation(); actions.openDocument(c.document_id, c.passage_id, c.quote); } },
          h("span", { class: "source-title" }, h("span", { class: "source-number" }, String(c.marker)), c.title || c.document_id),
          h("span", { class: "source-quote" }, c.quote),
        ),
      ),
    ),
  );
}

function mark(citation, actions) {
  const label = `Source ${citation.marker}: ${citation.title || citation.document_id}`;
  const button = h(
    "button",
    {
      class: citation.supported ? "cite" : "cite weak",
      "aria-label": citation.supported ? label : `${label}, does not support this`,
      onclick: (event) => {
        event.stopPropagation();
        hideCard();
        actions.openDocument(citation.document_id, citation.passage_id, citation.quote);
      },
      onmouseenter: () => showCard(button, citation),
      onfocus: () => showCard(button, citation),
      onmouseleave: hideCard,
      onblur: hideCard,
    },
    String(citation.marker),
  );
  return button;
}

function showCard(button, citation) {
  const card = $("card");
  card.replaceChildren(
    h("strong", {}, citation.title || citation.document_id),
    h("p", {}, citation.quote),
    h("small", { class: "muted" }, citation.supported ? "checked: names and numbers stand there" : "this passage does not support the claim"),
  );
  card.hidden = false;
  const box = button.getBoundingClientRect();
  const width = Math.min(360, innerWidth - 24);
  card.style.setProperty("inline-size", `${width}px`);
  card.style.setProperty("left", `${Math.max(12, Math.min(box.left, innerWidth - width - 12))}px`);
  const above = box.top - card.offsetHeight - 8;
  card.style.setProperty("top", `${above > 8 ? above : box.bottom + 8}px`);
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
    parts.push(
      h("span", { class: "muted", title: REASONS[answer.stop_reason] ?? "" }, `${rounds} · ${answer.evidence.length} passages · ${tokens} tokens · ${seconds} s`),
    );
  } else if (!turn.error) {
    parts.push(h("span", { class: "chip warn" }, "unfinished"));
  }
  const links = [];
  const button = (label, action) => h("button", { class: "link", onclick: (event) => { event.stopPropagation(); action(); } }, label);
  if (answer) links.push(button("Copy", () => navigator.clipboard?.writeText(turn.text).then(() => say("copied"))));
  links.push(button("Ask again", () => actions.again(turn)));
  if (turn.runId) {
    links.push(button("JSON", () => download(turn.runId, "json")), button("Markdown", () => download(turn.runId, "markdown")));
  }
  links.push(button("Evidence", () => actions.select(turn, true)));
  parts.push(h("span", { class: "links" }, links));
  return parts;
}

async function download(runId, format) {
  const content = await blob(`/v1/pools/${runId}/export?format=${format}`);
  const url = URL.createObjectURL(content);
  const link = h("a", { href: url, download: `ragpool-${runId.slice(0, 12)}.${format === "json" ? "json" : "md"}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
