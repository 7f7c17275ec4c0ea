// The evidence of one turn, round by round.

import { h, fill, $ } from "./dom.js";
import { REASONS, admitted, found, telling, used } from "./turn.js";

const KEPT = 4; // passages of a round that stay in sight once the answer is there, those in use first

const TONES = { admitted: "good", duplicate: "plain", rejected: "plain", superseded: "plain", quarantined: "bad" };

export function renderPool(turn, openDocument) {
  const place = $("pool-content");
  if (!turn) return;
  const scroll = $("pool").scrollTop;
  const open = new Set([...place.querySelectorAll("details[open]")].map((d) => d.dataset.key));
  place.classList.toggle("settled", Boolean(turn.answer));
  $("show-pool").dataset.count = admitted(turn).length || "";
  fill(
    place,
    h(
      "div",
      { class: "pool-top" },
      h("div", { class: "pool-head" }, h("h2", {}, "Evidence"), h("span", { class: "count" }, counted(turn))),
      gauge(turn),
    ),
    turn.question !== turn.asked ? h("p", { class: "standalone" }, "Understood as: ", h("q", {}, turn.question)) : null,
    slots(turn, openDocument),
    earlier(turn, openDocument, open),
    turn.error && !turn.rounds.length ? h("p", { class: "muted" }, "It ended before anything was found.") : null,
    turn.rounds.map((round) => roundView(turn, round, openDocument, open)),
    turn.stopped
      ? h("p", { class: "stopped" }, h("strong", {}, "Stopped: "), REASONS[turn.stopped] ?? turn.stopped)
      : null,
    models(turn),
  );
  $("pool").scrollTop = scroll;
}

function counted(turn) {
  const all = found(turn).length;
  if (!all) return "";
  return `${admitted(turn).length} admitted of ${all}`;
}

/** What the conversation knew already: folded away, those in use first. */
function earlier(turn, openDocument, open) {
  if (!turn.known.length) return null;
  const sorted = usedFirst(turn, turn.known);
  return h(
    "details",
    { class: "known", "data-key": "known", open: open.has("known") },
    h("summary", {}, `${turn.known.length} passages from earlier in this conversation`),
    h("ul", { class: "plain passages" }, sorted.map((e) => passage(turn, e, openDocument, open))),
  );
}

function usedFirst(turn, evidence) {
  const ids = used(turn);
  return [...evidence].sort((a, b) => ids.has(b.passage_id) - ids.has(a.passage_id));
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
  const at = (share, name, title) => {
    const mark = h("div", { class: name, title });
    mark.style.setProperty("inset-inline-start", `${share * 100}%`);
    return mark;
  };
  const short = turn.stopped ? ", not complete" : ", not complete yet";
  const said = last ? `${value.toFixed(2)}${last.sufficient ? ", complete" : short}` : "not judged yet";
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
      judged.slice(0, -1).map((r) => at(r.judgement.probability, "gauge-was", `round ${r.number}: ${r.judgement.probability.toFixed(2)}`)),
      at(limit, "gauge-mark", `threshold ${limit.toFixed(2)}`),
    ),
    h(
      "div",
      { class: "row steps" },
      h("span", {}, judged.length > 1 ? judged.map((r) => r.judgement.probability.toFixed(2)).join(" → ") : ""),
      h("span", {}, `complete from ${limit.toFixed(2)}`),
    ),
  );
}

function slots(turn, openDocument) {
  if (!turn.plan.length) return null;
  const several = new Set(turn.plan.flat().filter((term) => term.startsWith("?"))).size > 1;
  const value = (term) => {
    if (!term.startsWith("?")) return h("span", {}, term);
    const bound = turn.bindings[term];
    return bound
      ? h("span", { class: "bound", title: bound.quote }, bound.value)
      : h("span", { class: "open", title: "not known yet" }, several ? `? ${term.slice(1)}` : "?");
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
  const source = found(turn).find((e) => e.passage_id === bound.passage_id);
  if (source) openDocument(source.document_id, source.passage_id, bound.quote);
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
      ? h("ul", { class: "plain passages" }, round.hits.map((hit) => arrived(turn, hit)))
      : round.evidence.length
        ? passages(turn, round, openDocument, open)
        : h("p", { class: "muted small-text" }, "Nothing new was found."),
    judged && !judged.sufficient && judged.gaps.length
      ? h("p", { class: "gap" }, h("strong", {}, "Missing: "), judged.gaps.map((g) => g.text).join("; "))
      : null,
  );
}

/** All of them while they come; once the answer is there the rest of a long round is folded away. */
function passages(turn, round, openDocument, open) {
  const list = (evidence) => h("ul", { class: "plain passages" }, evidence.map((e) => passage(turn, e, openDocument, open)));
  const inUse = used(turn);
  const kept = Math.max(KEPT, round.evidence.filter((e) => inUse.has(e.passage_id)).length);
  if (!turn.answer || round.evidence.length <= kept + 1) return list(round.evidence);
  const sorted = usedFirst(turn, round.evidence);
  const key = `rest ${round.number}`;
  return [
    list(sorted.slice(0, kept)),
    h(
      "details",
      { class: "known", "data-key": key, open: open.has(key) },
      h("summary", {}, `${sorted.length - kept} more passages of this round`),
      list(sorted.slice(kept)),
    ),
  ];
}

/** A passage that was found a moment ago and is not read yet. */
function arrived(turn, hit) {
  const fresh = !turn.shown.has(hit.passage_id);
  turn.shown.add(hit.passage_id);
  return h(
    "li",
    { class: fresh ? "passage found fresh" : "passage found" },
    h("span", { class: "title" }, hit.title || hit.document_id),
    h("span", { class: "score", title: "score" }, hit.score.toFixed(3)),
  );
}

function passage(turn, e, openDocument, open) {
  const spans = [...e.spans].sort((a, b) => a[0] - b[0]);
  const first = telling(turn, e);
  const inUse = used(turn).has(e.passage_id);
  const fresh = !turn.restored && !turn.shown.has(e.passage_id);
  turn.shown.add(e.passage_id);
  return h(
    "li",
    { class: `passage ${e.status}${fresh ? " fresh" : ""}${inUse ? " used" : ""}`, "data-passage": e.passage_id },
    h(
      "details",
      { "data-key": e.passage_id, open: open.has(e.passage_id) },
      h(
        "summary",
        {},
        h("span", { class: "title" }, e.title || e.document_id),
        e.status !== "admitted"
          ? h("span", { class: `chip ${TONES[e.status] ?? ""}` }, e.status)
          : inUse ? h("span", { class: "chip good" }, "in use") : null,
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
