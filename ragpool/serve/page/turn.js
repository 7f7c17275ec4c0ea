// One question as its events tell it. The same for a stream and for a stored run.

export function newTurn(asked) {
  return {
    asked,
    question: asked,
    runId: null,
    plan: [],
    planned: false,
    threshold: null,
    waiting: 0,
    rounds: [], // {number, queries, hits, evidence, judgement}
    known: [], // evidence of earlier turns
    bindings: {}, // slot -> binding
    stopped: null,
    text: "",
    answer: null,
    citations: [],
    error: null,
    running: false,
    restored: false,
    shown: new Set(), // passages that have been drawn: only new ones move in
  };
}

function round(turn, number) {
  let found = turn.rounds.find((r) => r.number === number);
  if (!found) {
    found = { number, queries: [], hits: [], evidence: null, judgement: null };
    turn.rounds.push(found);
  }
  return found;
}

/** Take an event into the turn. */
export function apply(turn, name, data) {
  switch (name) {
    case "queued":
      turn.threshold = data.threshold;
      turn.waiting = data.waiting;
      turn.conversation = data.conversation;
      break;
    case "started":
      turn.runId = data.run_id;
      turn.question = data.question;
      turn.asked = data.asked ?? turn.asked;
      turn.plan = data.plan;
      turn.planned = data.plan.length > 0;
      turn.waiting = 0;
      turn.known = data.known ?? [];
      break;
    case "planned":
      turn.plan = data.plan;
      turn.planned = true;
      break;
    case "retrieved":
      round(turn, data.round).queries.push(data.query);
      round(turn, data.round).hits.push(...data.hits);
      break;
    case "pooled":
      round(turn, data.round).evidence = data.evidence;
      break;
    case "judged":
      round(turn, data.round).judgement = data;
      for (const binding of data.bindings) turn.bindings[binding.slot] = binding;
      break;
    case "stopped":
      turn.stopped = data.reason;
      break;
    case "token":
      turn.text += data.text;
      break;
    case "citation":
      turn.citations.push(data);
      break;
    case "answered":
      turn.answer = data;
      turn.runId = data.run_id;
      turn.stopped = data.stop_reason;
      turn.citations = data.citations;
      turn.text = data.content;
      turn.running = false;
      break;
    case "error":
      turn.error = data.error.message;
      turn.running = false;
      break;
  }
}

/** What is going on, for people. */
export function doing(turn) {
  if (turn.waiting) return `Waiting: ${turn.waiting} before this one`;
  const last = turn.rounds.at(-1);
  if (turn.text) return "Writing";
  if (turn.stopped) return "Writing the answer";
  if (!last) return turn.runId ? "Searching" : "Starting";
  if (last.judgement) {
    const gap = last.judgement.gaps[0];
    return gap ? `Looking for: ${gap.text}` : "Searching on";
  }
  if (!last.evidence) return `Reading ${last.hits.length} passages`;
  return turn.planned ? `Judging ${admitted(turn).length} passages` : "Reading the question";
}

export const found = (turn) => [...turn.known, ...turn.rounds.flatMap((r) => r.evidence ?? [])];
export const admitted = (turn) => found(turn).filter((e) => e.status === "admitted");

/** The passages that closed a look-up or are cited, and say what they are cited for. */
export const used = (turn) => new Set(quotes(turn).map((q) => q.passage_id));
const quotes = (turn) => [...Object.values(turn.bindings), ...turn.citations.filter((c) => c.supported)];

/** The sentence of a passage that counts: what closed a look-up or was cited, else the first that bears on the query. */
export function telling(turn, e) {
  const own = quotes(turn).filter((q) => q.passage_id === e.passage_id);
  const quote = own.map((q) => q.quote).find((text) => text && e.text.includes(text));
  const [first] = [...e.spans].sort((a, b) => a[0] - b[0]);
  return quote ?? (first ? e.text.slice(first[0], first[1]) : e.text.slice(0, 160));
}

/** What was done so far, a line each. */
export function steps(turn) {
  const lines = [];
  const passages = (n) => (n === 1 ? "1 passage" : `${n} passages`);
  for (const round of turn.rounds) {
    const asked = round.queries.filter((q) => q.kind !== "question").map((q) => `“${q.text}”`);
    const brought = round.evidence ? `: ${round.evidence.length ? passages(round.evidence.length) : "nothing new"}` : "";
    if (round.evidence) lines.push(`Searched for ${asked.length ? asked.join(", ") : "the question"}${brought}`);
    if (round.number === 0 && turn.planned && turn.plan.length) {
      lines.push(turn.plan.length === 1 ? "Planned 1 look-up" : `Planned ${turn.plan.length} look-ups`);
    }
    const judged = round.judgement;
    if (judged) {
      const gaps = judged.gaps.map((g) => g.text).join("; ");
      const open = gaps ? `, missing ${gaps}` : ", not complete yet";
      lines.push(`Judged ${judged.probability.toFixed(2)}${judged.sufficient ? ", complete" : open}`);
    }
  }
  return lines;
}

export const REASONS = {
  sufficient: "the evidence is complete",
  no_new_evidence: "nothing new was found",
  repeated_query: "there was nothing left to ask",
  max_rounds: "the rounds of this effort were used up",
  token_budget: "the token budget was used up",
  deadline: "the time was over",
  cancelled: "stopped by you",
  error: "a model failed",
};
