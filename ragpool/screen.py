"""Passages that try to give orders. They stay in the pool, quarantined, and no model ever sees them."""

from __future__ import annotations

import re
import unicodedata

from ragpool.distil import fold

_SIGNS = {
    "tells the model to drop its instructions": re.compile(
        r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:previous|prior|above|earlier|all|any|your)\b.{0,40}"
        r"\b(?:instruction|prompt|rule|direction|guideline|message)s?\b",
        re.DOTALL,
    ),
    "tells the model to drop what it was told": re.compile(
        r"\b(?:ignore|disregard|forget|override)\b.{0,30}\b(?:instruction|prompt|rule|direction|guideline)s?\s+"
        r"(?:above|so far|you were given)\b",
        re.DOTALL,
    ),
    "tells the model to drop its instructions, in another language": re.compile(
        r"\b(?:ignorier\w*|missacht\w*|vergiss|vergessen sie)\b.{0,40}\b(?:anweisung|vorgabe|regel)\w*"
        r"|\b(?:ignor\w+|oubli\w+)\b.{0,30}\b(?:instructions|consignes|regles)\b.{0,20}\b(?:precedent|anterieur|ci-dessus)\w*"
        r"|\b(?:ignora|ignore|olvida|olvide)\b.{0,30}\b(?:instrucciones|indicaciones|reglas|istruzioni|instrucoes)\b",
        re.DOTALL,
    ),
    "gives the model a new role": re.compile(
        r"\byou are (?:now|no longer)\b.{0,60}\b(?:assistant|model|ai|bot|system|mode)\b", re.DOTALL
    ),
    "asks for the prompt": re.compile(
        r"\b(?:reveal|print|repeat|output|show|leak)\b.{0,30}\b(?:system prompt|your (?:prompt|instructions))\b",
        re.DOTALL,
    ),
    "imitates the prompt's own marks": re.compile(
        r"<\|(?:im_start|im_end|system|user|assistant|endoftext)\|>|\[/?inst\]|<<<[0-9a-f]{8,}"
    ),
    "imitates a message of the conversation": re.compile(
        r"[\"']role[\"']\s*:\s*[\"'](?:system|assistant|developer)[\"']|\bend of (?:context|prompt|passages)\b"
    ),
    "dictates the citations": re.compile(r"\bcite (?:this|the present) (?:passage|document|text|source)\b"),
    "dictates the answer": re.compile(
        r"\b(?:answer|respond|reply) (?:only |always |exactly )*with\b.{0,60}\b(?:regardless|no matter|instead|and nothing else)\b",
        re.DOTALL,
    ),
    "speaks for the judge": re.compile(r"\bthe (?:evidence|context) is (?:now )?(?:sufficient|complete)\b"),
}


def screen(text: str) -> str | None:
    """Why the passage is quarantined, or None when it only states things."""
    # signs that nobody sees (zero-width space, soft hyphen) would part the words
    folded = fold("".join(c for c in text if unicodedata.category(c) != "Cf"))
    return next((reason for reason, sign in _SIGNS.items() if sign.search(folded)), None)
