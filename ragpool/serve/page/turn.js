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

export function admitted(turn) {
  return [...turn.known, ...turn.rounds.flatMap((r) => r.evidence ?? [])].filter((e) => e.status === "admitted");
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
