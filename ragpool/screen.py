"""Passages that try to give orders. They stay in the pool, quarantined, and no model ever sees them.

What is looked for is a text that speaks to the reader as a machine (its instructions, its prompt, its judge), imitates
the marks that part passages from the prompt, or dictates what is to be answered or cited. What a text merely states,
true or false, is no order: passages that contradict each other are the reader's affair.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata

from ragpool.distil import fold

_MACHINE = r"(?:a\.?i\.?|llms?|(?:large )?language models?|chat ?bots?|(?:ai |virtual |digital |helpful )?assistants?|gpt|model)"
_TOLD = r"(?:instruction|prompt|rule|direction|guideline|message|order|command|consigne)s?"
_DROP = r"(?:ignore|disregard|forget|override|bypass|discard|do not follow|stop following)"
_BEFORE = r"(?:previous|prior|above|earlier|preceding|initial)"
_SAY = r"(?:answer|respond|reply|say|state|output|write|print|return|claim|report|tell)"
_SHOW = r"(?:reveal|print|repeat|output|show|leak|display|quote|disclose|write out|translate|return|give)"
_TEXTS = r"(?:passage|document|source|text|paragraph|context|excerpt)s?"


def _sign(*forms: str) -> re.Pattern[str]:
    return re.compile("|".join(forms), re.DOTALL)


_SIGNS = {
    "tells the model to drop its instructions": _sign(
        rf"\b{_DROP}\b.{{0,40}}\b(?:{_BEFORE}|all|any|your)\b.{{0,40}}\b{_TOLD}\b",
        rf"\b{_DROP}\b.{{0,30}}\b{_TOLD}\s+(?:above|so far|given to you|you (?:were|have been) given)\b",
        rf"\b{_DROP} (?:the |all |any |every )?{_BEFORE} (?:context|conversation|content|question|{_TEXTS})\b",
        rf"\b{_DROP} (?:everything|anything|all|whatever|what)\b.{{0,20}}"
        r"\b(?:above|you (?:were|have been|are) (?:told|asked|given)|(?:comes|came|stands|was said) before (?:this|it))\b",
        rf"\b{_DROP} (?:the|this) (?:user|question|query)\b",
    ),
    "gives the model another task": _sign(
        r"\b(?:new|updated|real|actual) (?:instructions?|task|orders?)\s*[:\n]",
        r"\b(?:the|your) (?:new|only|real|actual|true) (?:instructions?|task|role|orders?) (?:is|are)\b",
        r"\byour (?:task|instructions|role|orders) (?:has|have) (?:now )?changed\b",
    ),
    "tells the model to drop its instructions, in another language": _sign(
        r"\b(?:ignorier\w*|missacht\w*|vergiss|vergessen sie)\b.{0,40}\b(?:anweisung|vorgabe|regel)\w*",
        r"\b(?:ignor\w+|oubli\w+)\b.{0,30}\b(?:instructions|consignes|regles)\b.{0,20}\b(?:precedent|anterieur|ci-dessus)\w*",
        r"\b(?:ignora|ignore|olvida|olvide)\b.{0,30}\b(?:instrucciones|indicaciones|reglas|istruzioni|instrucoes)\b",
        r"(?:игнорир|забудь|не следу)\w*.{0,40}(?:инструкци|указани|правил)",
        r"(?:忽略|无视|忘记).{0,12}(?:指示|指令|提示|规则)|(?:指示|命令|ルール).{0,4}(?:無視|忘れ)",
    ),
    "gives the model a new role": _sign(
        r"\byou are (?:now|no longer)\b.{0,60}\b(?:assistant|model|ai|bot|system|mode)\b",
        rf"\b(?:pretend (?:to be|that you are|you are)|act as|behave as|roleplay as)\b.{{0,40}}\b{_MACHINE}\b",
        rf"\bfrom now on,? you (?:will|must|shall|should|only|always|are to)\b.{{0,60}}\b{_SAY}\b",
        r"\byou will now (?:only |always )?(?:act|behave|respond|answer|speak)\b",
    ),
    "speaks to the model": _sign(
        rf"\b(?:dear|hello|hey|attention|listen),? (?:the |all |any )?{_MACHINE}\b",
        r"\b(?:note|message|instructions?|notice|important|reminder|warning) (?:to|for) (?:the |any |all |an? )?"
        rf"(?:{_MACHINE}|judge model|evaluator model)\b.{{0,30}}[:,!]",
        r"\b(?:ai|llm|assistant|chatbot|language model) (?:instruction|directive|prompt)s?\s*:",
        r"\b(?:for|to) (?:all |any |the )?(?:ai|llm)s? (?:reader|model|agent|system|assistant|crawler)s?\b\s*[:,]",
        r"\bto the (?:retriev\w+|ranking|rag) (?:system|model|engine|agent)\s*[:,]",
        rf"\bif you are (?:an? |the )?{_MACHINE}\b",
        rf"\bas an? {_MACHINE}\b.{{0,20}}\byou (?:must|should|will|shall|need)\b",
        r"\bthe (?:assistant|ai|llm|language model|chatbot) (?:must|shall|should|will) (?:always |only |now )?"
        r"(?:answer|respond|reply|output|return)\b",
        rf"\b(?:any|every|all|the) {_MACHINE} (?:that|who|which)? ?(?:reads?|reading|process(?:es|ing)|sees?|seeing) this\b",
    ),
    "asks for the prompt": _sign(
        rf"\b{_SHOW}\b.{{0,30}}"
        r"\b(?:system (?:prompt|message)|(?:initial|original|hidden|secret) (?:prompt|instructions)|your (?:prompt|instructions))\b",
        rf"\b{_SHOW}\b.{{0,20}}\b(?:everything|all(?: of)? the (?:text|words)|the (?:text|words))"
        r" (?:above|you were given|before this)\b",
    ),
    "imitates the prompt's own marks": _sign(
        r"<\|[a-z_]{2,24}\|>", r"\[/?inst\]", r"<</?sys>>", r"</?(?:start|end)_of_turn>",
        r"<<<\s*(?:\d{1,3}|end|start|begin)\s*>>>", r"<<<[0-9a-f]{8,}",
        r"</?(?:system|instructions?|assistant|prompt|system[_-](?:prompt|message))>", r"</(?:context|passages?)>",
        r"(?:^|\s)### ?(?:system|instructions?|response|assistant|human)\s*:",
    ),
    "imitates a message of the conversation": _sign(
        r"[\"']role[\"']\s*:\s*[\"'](?:system|assistant|developer)[\"']",
        r"\bend of (?:context|prompt|passages)\b",
        r"\b(?:begin|start|end)(?: of)? (?:the )?system (?:prompt|message)\b",
        r"\b(?:user|human)\s*:.{1,400}\b(?:assistant|ai|bot)\s*:",
        r"(?:^|[\s\[(])system (?:prompt|message|override|note|notice|instruction)s?\s*[:\])]",
    ),
    "dictates the citations": _sign(
        rf"\bcite (?:only )?(?:this|the present) {_TEXTS}\b",
        rf"\b(?:do not|don't|never) (?:use|trust|cite|mention|read|believe|quote|consider|consult)\b.{{0,20}}\bother {_TEXTS}\b",
        rf"\b(?:use|trust|believe|rely on|cite) only this {_TEXTS}\b",
        r"\bother passages (?:are|is) (?:wrong|false|outdated|incorrect|unreliable|fake|lies)\b",
        rf"\bother {_TEXTS} (?:must|should|shall|are to|have to) be (?:ignored|disregarded|discarded)\b",
    ),
    "dictates the answer": _sign(
        r"\b(?:answer|respond|reply) (?:only |always |exactly )*with\b.{0,60}\b(?:regardless|no matter|instead|and nothing else)\b",
        r"\b(?:if|when|whenever) (?:you are |anyone |somebody |someone |(?:the|a|any) users? )?ask(?:ed|s)\b.{0,80}?"
        rf"[,:;] ?(?:you (?:must|should|will) |always |only |please |then )*{_SAY}\b",
        r"\bthe (?:only )?(?:correct|right|final|true|expected) answer to (?:the|this|your|any|every) (?:question|query)"
        r"(?: above| below)? (?:is|must be|should be|reads)\b",
        rf"\byou (?:must|should|will|have to) (?:only|always) {_SAY}\b",
        rf"\byou (?:must|should|will|may|can) not {_SAY} anything (?:but|except|other than)\b",
        rf"\b{_SAY} (?:only|exactly|nothing but|just) (?:the following|this)\b",
        r"\b(?:use|give|return|copy|output) (?:the following|this) (?:answer|reply|response|text)\b.{0,20}\b(?:verbatim|exactly|word for word)\b",
        r"\bbegin (?:your|the) (?:answer|reply|response) with\b",
    ),
    "speaks for the judge": _sign(
        r"\bthe (?:evidence|context|pool) is (?:now |already )?(?:sufficient|complete)\s*(?:[.:;!]|$)",
        r"\b(?:mark|treat|count|judge|rate) (?:this|the) (?:pool|evidence|context|question)(?: as)? (?:sufficient|complete|answered)\b",
        r"\bno (?:further|more) (?:retrieval|search(?:es)?|rounds?) (?:is|are) (?:needed|required|necessary)\b",
    ),
}  # fmt: skip

_SPACED = re.compile(r"\b(?:\w[ .\-_*]){4,}\w\b")
_DIGIT = re.compile(r"(?<=[a-z])[01345](?=[a-z])")
_LETTER = {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s"}
_BASE64 = re.compile(r"[A-Za-z0-9+/]{24,}={0,2}")
# letters of other scripts that look like Latin ones, and are not folded to them
_LOOKALIKES = str.maketrans("аеіјорсухѕԁԛԝһԍαεικνορτυχ", "aeijopcyxsdqwhgaeiknoptux")


def screen(text: str) -> str | None:
    """Why the passage is quarantined, or None when it only states things."""
    for form in _readings(text):
        for reason, sign in _SIGNS.items():
            if sign.search(form):
                return reason
    return "hides orders in an encoding" if any(screen(hidden) for hidden in _decoded(text)) else None


def _readings(text: str) -> tuple[str, ...]:
    """What a reader makes of the text, however it is spelt: the signs are looked for in these."""
    # signs that nobody sees (zero-width space, soft hyphen) would part the words
    folded = fold("".join(c for c in html.unescape(text) if unicodedata.category(c) != "Cf"))
    spelt = _DIGIT.sub(lambda m: _LETTER[m.group()], folded.translate(_LOOKALIKES))
    spelt = _SPACED.sub(lambda m: re.sub(r"[ .\-_*]", "", m.group()), spelt)
    return (folded,) if spelt == folded else (folded, spelt)


def _decoded(text: str) -> list[str]:
    found = []
    for run in _BASE64.findall(text):
        try:
            decoded = base64.b64decode(run + "=" * (-len(run) % 4), validate=True).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            continue
        if decoded.isprintable() and " " in decoded:
            found.append(decoded)
    return found
