// The evidence of one turn, round by round.

import { h, fill, $ } from "./dom.js";
import { REASONS, admitted } from "./turn.js";

const TONES = { admitted: "good", duplicate: "plain", rejected: "plain", superseded: "plain", quarantined: "bad" };

export function renderPool(turn, openDocument) {
  const place = $("pool-content");
  if (!turn) return;
  const scroll = $("pool").scrollTop;
  const open = new Set([...place.querySelectorAll("details[open]")].map((d) => d.dataset.key));
  fill(
    place,
    h("div", { class: "pool-head" }, h("h2", {}, "Evidence"), h("span", { class: "count" }, counted(turn))),
    turn.question !== turn.asked ? h("p", { class: "standalone" }, "Understood as: ", h("q", {}, turn.question)) : null,
    gauge(turn),
    slots(turn, openDocument),
    earlier(turn, openDocument, open),
    turn.rounds.map((round) => roundView(turn, round, openDocument, open)),
    turn.stopped
      ? h("p", { class: "stopped" }, h("strong", {}, "Stopped: "), REASONS[turn.stopped] ?? turn.stopped)
      : null,
    models(turn),
  );
  $("pool").scrollTop = scroll;
}

function counted(turn) {
  const all = turn.known.length + turn.rounds.flatMap((r) => r.evidence ?? []).length;
  if (!all) return "";
  return `${admitted(turn).length} admitted of ${all}`;
}

/** What the conversation knew already: folded away, those in use first. */
function earlier(turn, openDocument, open) {
  if (!turn.known.length) return null;
  const used = new Set([...Object.values(turn.bindings), ...turn.citations].map((q) => q.passage_id));
  const sorted = [...turn.known].sort((a, b) => used.has(b.passage_id) - used.has(a.passage_id));
  return h(
    "details",
    { class: "known", "data-key": "known", open: open.has("known") },
    h("summary", {}, `${turn.known.length} passages from earlier in this conversation`),
    h("ul", { class: "plain passages" }, sorted.map((e) => passage(turn, e, openDocument, open))),
  );
}

function models(turn) {
  const names = turn.answer?.models;
  if (!names) return null;
  return h("p", { class: "muted small-text" }, ["chat", "judge", "planner", "embedder"].filter((n) => names[n]).map((n) => `${n} ${names[n]}`).join(" · "));
}

function gauge(turn) {
  const judged = turn.rounds.filter((r) => r.judgement);
  const last = judged.at(-1)?.judgement;
  const value = last ? last.probability : 0;
  const limit = turn.threshold ?? 0.5;
  const fillBar = h("div", { class: `gauge-fill ${last?.sufficient ? "full" : ""}` });
  fillBar.style.setProperty("inline-size", `${Math.round(value * 100)}%`);
  const mark = h("div", { class: "gauge-mark", title: `threshold ${limit.toFixed(2)}` });
  mark.style.setProperty("inset-inline-start", `${limit * 100}%`);
  const said = last ? `${value.toFixed(2)}${last.sufficient ? ", complete" : ", not complete yet"}` : "not judged yet";
  return h(
    "section",
    { class: "gauge", "aria-label": "The judge" },
    h("div", { class: "row" }, h("h3", {}, "Judge"), h("span", { class: "muted" }, said)),
    h(
      "div",
      {
        class: "gauge-bar", role: "meter", "aria-valuemin": 0, "aria-valuemax": 1,
        "aria-valuenow": value.toFixed(2), "aria-label": `probability that the evidence is complete, threshold ${limit}`,
      },
      fillBar,
      mark,
    ),
    judged.length > 1
      ? h("p", { class: "steps" }, judged.map((r, n) => `${n ? " → " : ""}${r.judgement.probability.toFixed(2)}`).join(""))
      : null,
  );
}

function slots(turn, openDocument) {
  if (!turn.plan.length) return null;
  const value = (term) => {
    if (!term.startsWith("?")) return h("span", {}, term);
    const bound = turn.bindings[term];
    return bound
      ? h("span", { class: "bound", title: bound.quote }, bound.value)
      : h("span", { class: "open", "aria-label": "open" }, term);
  };
  const rows = turn.plan.map(([subject, relation, object]) => {
    const bound = turn.bindings[object];
    const closed = Boolean(bound) || !object.startsWith("?");
    return h(
      "li",
      { class: closed ? "slot closed" : "slot" },
      h("span", { class: "tick", "aria-hidden": "true" }, closed ? "✓" : "○"),
      h("span", { class: "sr" }, closed ? "closed: " : "open: "),
      h("span", { class: "triple" }, value(subject), h("span", { class: "relation" }, relation), value(object)),
      bound
        ? h("button", { class: "link", onclick: () => openPassage(turn, bound, openDocument), title: bound.quote }, "source")
        : null,
    );
  });
  return h("section", { class: "slots" }, h("h3", {}, "What has to be known"), h("ol", { class: "plain" }, rows));
}

function openPassage(turn, bound, openDocument) {
  const found = [...turn.known, ...turn.rounds.flatMap((r) => r.evidence ?? [])].find((e) => e.passage_id === bound.passage_id);
  if (found) openDocument(found.document_id, found.passage_id, bound.quote);
}

function roundView(turn, round, openDocument, open) {
  const judged = round.judgement;
  return h(
    "section",
    { class: "round" },
    h(
      "div",
      { class: "row" },
      h("h3", {}, `Round ${round.number}`),
      judged ? h("span", { class: `chip ${judged.sufficient ? "good" : ""}` }, `judged ${judged.probability.toFixed(2)}`) : null,
    ),
    round.queries.map((query) =>
      h(
        "p",
        { class: "query" },
        h("span", { class: "kind" }, { question: "the question", gap: "gap", bridge: "by title", free: "free" }[query.kind] ?? query.kind),
        h("span", {}, query.text),
      ),
    ),
    round.evidence === null
      ? h("ul", { class: "plain passages" }, round.hits.map((hit) => found(turn, hit)))
      : round.evidence.length
        ? h("ul", { class: "plain passages" }, round.evidence.map((e) => passage(turn, e, openDocument, open)))
        : h("p", { class: "muted" }, "Nothing new."),
    judged && !judged.sufficient && judged.gaps.length
      ? h("p", { class: "gap" }, h("strong", {}, "Missing: "), judged.gaps.map((g) => g.text).join("; "))
      : null,
  );
}

/** A passage that was found a moment ago and is not read yet. */
function found(turn, hit) {
  const fresh = !turn.shown.has(hit.passage_id);
  turn.shown.add(hit.passage_id);
  return h(
    "li",
    { class: fresh ? "passage found fresh" : "passage found" },
    h("span", { class: "title" }, hit.title || hit.document_id),
    h("span", { class: "score", title: "score" }, hit.score.toFixed(3)),
  );
}

/** The sentence of a passage that counts: what closed a slot or was cited, else the first that bears on the query. */
function telling(turn, e, spans) {
  const quotes = [...Object.values(turn.bindings), ...turn.citations].filter((q) => q.passage_id === e.passage_id);
  const quote = quotes.map((q) => q.quote).find((text) => text && e.text.includes(text));
  return quote ?? (spans.length ? e.text.slice(spans[0][0], spans[0][1]) : e.text.slice(0, 160));
}

function passage(turn, e, openDocument, open) {
  const spans = [...e.spans].sort((a, b) => a[0] - b[0]);
  const first = telling(turn, e, spans);
  const used = [...Object.values(turn.bindings), ...turn.citations].some((q) => q.passage_id === e.passage_id);
  const fresh = !turn.restored && !turn.shown.has(e.passage_id);
  turn.shown.add(e.passage_id);
  return h(
    "li",
    { class: `passage ${e.status}${fresh ? " fresh" : ""}${used ? " used" : ""}`, "data-passage": e.passage_id },
    h(
      "details",
      { "data-key": e.passage_id, open: open.has(e.passage_id) },
      h(
        "summary",
        {},
        h("span", { class: "title" }, e.title || e.document_id),
        e.status === "admitted" ? null : h("span", { class: `chip ${TONES[e.status] ?? ""}` }, e.status),
        h("span", { class: "score", title: "score" }, e.score.toFixed(3)),
        h("span", { class: "excerpt" }, e.status === "admitted" ? h("mark", {}, first) : e.reason || first),
      ),
      h("p", { class: "full" }, highlighted(e.text, spans)),
      e.reason ? h("p", { class: "muted" }, `${e.status}: ${e.reason}`) : null,
      h("button", { class: "link", onclick: () => openDocument(e.document_id, e.passage_id) }, "Open in its document"),
    ),
  );
}

/** Text with the sentences that count marked. */
export function highlighted(text, spans) {
  const parts = [];
  let at = 0;
  for (const [start, end] of spans) {
    if (start < at || end <= start) continue;
    parts.push(text.slice(at, start), h("mark", {}, text.slice(start, end)));
    at = end;
  }
  parts.push(text.slice(at));
  return parts;
}
