from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fakes import HashEmbedder
from family import BORN, DOCUMENTS, PLANS, PatternReader

from ragpool.closing import SlotCloser, filled, is_about, namesakes
from ragpool.distil import Distiller
from ragpool.plan import parse_plan
from ragpool.slots import Reading
from ragpool.types import Binding, Evidence, Span, Triple

QUESTION = parse_plan(PLANS[BORN], BORN)
assert QUESTION is not None
POOL = {d.id: Evidence(d.id, d.id, d.title, d.text, (Span(0, len(d.text)),), 0, "q", 1.0) for d in DOCUMENTS}
TITLES = {d.title for d in DOCUMENTS}


def close(
    names: list[str], known: Sequence[Binding] = (), reader: PatternReader | None = None
) -> dict[str, Binding]:
    assert QUESTION is not None
    closer = SlotCloser(Distiller(HashEmbedder()), TITLES.__contains__)
    found = closer.close(QUESTION, [POOL[n] for n in names], known, (reader or PatternReader()).read)
    return {b.slot: b for b in found}


def test_a_chain_is_closed_as_far_as_the_evidence_goes() -> None:
    assert {s: b.value for s, b in close(["alda", "cora"]).items()} == {"?1": "Cora Vell", "?2": "Port Ennis"}
    assert {s: b.value for s, b in close(["alda"]).items()} == {"?1": "Cora Vell"}
    assert close(["cora"]) == {}


def test_the_quote_is_the_sentence_that_says_so() -> None:
    binding = close(["alda"])["?1"]
    assert (binding.passage_id, binding.quote) == ("alda", "The mother of Alda Brenn was Cora Vell.")


def test_a_bridge_is_read_from_its_own_page_when_the_corpus_has_one() -> None:
    gossip = Evidence(
        "gossip", "gossip", "Gossip", "The birthplace of Cora Vell was Nowhere.", (), 0, "q", 1.0
    )
    assert QUESTION is not None
    reader = PatternReader()
    closer = SlotCloser(Distiller(HashEmbedder()), TITLES.__contains__)
    assert [b.slot for b in closer.close(QUESTION, [POOL["alda"], gossip], (), reader.read)] == ["?1"]
    free = SlotCloser(Distiller(HashEmbedder()))
    assert [b.value for b in free.close(QUESTION, [POOL["alda"], gossip], (), reader.read)] == [
        "Cora Vell",
        "Nowhere",
    ]


def test_the_reader_is_not_asked_about_a_name_that_nobody_mentions() -> None:
    reader = PatternReader()
    assert close(["ilse", "ennis"], reader=reader) == {}
    assert reader.queries == []


def test_a_firm_binding_stays_and_a_weak_one_is_read_again() -> None:
    def known(confidence: float) -> Binding:
        return Binding("?1", "Ilse Marr", "alda", "quote", confidence)

    assert close(["alda"], [known(0.9)])["?1"].value == "Ilse Marr"
    assert close(["alda"], [known(0.4)])["?1"].value == "Cora Vell"


def test_a_value_that_is_unsure_or_not_in_the_sentences_or_the_subject_itself_closes_nothing() -> None:
    class Unsure(PatternReader):
        def read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
            return Reading("Cora Vell", 0.1, told=0.1)

    class Inventive(PatternReader):
        def read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
            return Reading("Somebody Else", 0.9)

    class Echoing(PatternReader):
        def read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
            return Reading("Alda Brenn", 0.9)

    assert close(["alda"], reader=Unsure()) == {}
    assert close(["alda"], reader=Inventive()) == {}
    assert close(["alda"], reader=Echoing()) == {}


def test_a_step_that_was_searched_for_in_vain_is_supposed_but_not_the_end_of_the_chain() -> None:
    class Unsure(PatternReader):
        def read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
            return replace(super().read(query, contexts), confidence=0.01, told=0.1)

    closer = SlotCloser(Distiller(HashEmbedder()), TITLES.__contains__)
    evidence = [POOL[n] for n in ("alda", "cora")]
    assert closer.close(QUESTION, evidence, (), Unsure().read) == ()
    found = closer.close(QUESTION, evidence, (), Unsure().read, lambda query: True)
    assert [(b.slot, b.supposed) for b in found] == [("?1", True)]
    (again, *_) = closer.close(QUESTION, evidence, [replace(found[0], confidence=0.9)], PatternReader().read)
    assert (again.slot, again.supposed) == ("?1", False)  # what was supposed is read again
    homeless = SlotCloser(Distiller(HashEmbedder()))  # no name has a page
    found = homeless.close(QUESTION, evidence, (), Unsure().read, lambda query: True)
    assert [(b.slot, b.supposed) for b in found] == [("?1", True), ("?2", True)]
    first = QUESTION.triples[0]
    asked: list[str] = []
    closer.close(QUESTION, evidence, (), Unsure().read, lambda query: bool(asked.append(query)))
    assert asked == [f"{first.subject} {first.relation}"]


def test_what_cannot_be_the_value_is_struck_out_and_the_rest_is_read_again() -> None:
    plan = parse_plan("Winter Ferry | author | ?1", "Who wrote the Winter Ferry?")
    assert plan is not None
    told = "The Winter Ferry is a novel that Holm Press brought out. Ann Vell wrote it. Bo Reed bound it."

    class FirstName(PatternReader):
        def read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
            text = " ".join(text for _, text in contexts)
            names = ("Holm Press", "Ann Vell", "Bo Reed")
            return Reading(next((n for n in names if n in text), None), 0.9)

    found = SlotCloser(Distiller(HashEmbedder())).close(
        plan, [page("Winter Ferry", told)], (), FirstName().read
    )
    assert [(b.value, b.quote) for b in found] == [("Ann Vell", "Ann Vell wrote it.")]


def test_filled_and_is_about() -> None:
    binding = Binding("?1", "Cora Vell", "p", "q", 1.0)
    assert filled(Triple("?1", "birthplace", "?2"), [binding]) == Triple("Cora Vell", "birthplace", "?2")
    assert filled(Triple("?1", "birthplace", "?2"), []) is None
    swede = Binding("?1", "Swedish", "p", "a Swedish painter", 1.0)
    assert filled(Triple("?1", "capital", "?2"), [swede]) == Triple("Sweden", "capital", "?2")
    assert is_about("Edgar Lewis", "Edgar Lewis (director)")
    assert not is_about("Edgar Lewis", "Edgar Lewisham")


def page(title: str, text: str) -> Evidence:
    return Evidence(title, title, title, text, (Span(0, len(text)),), 0, "q", 1.0)


def test_of_two_of_one_name_the_one_that_is_meant_is_read() -> None:
    plan = parse_plan(
        "Fog Survey | leader | ?1\n?1 | school | ?2", "Where was the leader of the Fog Survey taught?"
    )
    assert plan is not None
    pool = [
        page("Fog Survey", "The leader of Fog Survey was Ann Vell. The pilot Ann Vell sailed in May."),
        page("Ann Vell (baker)", "Ann Vell was a baker. The school of Ann Vell was Holm Hall."),
        page("Ann Vell (pilot)", "Ann Vell was a pilot. The school of Ann Vell was Port School."),
    ]
    told = [replace(pool[0], text="The leader of Fog Survey was Ann Vell, a pilot."), *pool[1:]]
    closer = SlotCloser(Distiller(HashEmbedder()))

    class Named(PatternReader):
        def read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
            return Reading("Ann Vell", 0.9) if "leader" in query else super().read(query, contexts)

    found = {b.slot: b.value for b in closer.close(plan, told, (), Named().read)}
    assert found == {"?1": "Ann Vell", "?2": "Port School"}
    assert namesakes("Ann Vell", "the baker Ann Vell met a pilot", [p.title for p in pool]) == {
        "Ann Vell (pilot)"
    }
    assert namesakes("Ann Vell", "Ann Vell led it", [p.title for p in pool]) == frozenset()


def test_what_is_told_of_a_friend_is_not_believed_of_the_subject() -> None:
    plan = parse_plan("Ann Vell | school | ?1", "Where was Ann Vell taught?")
    assert plan is not None
    friend = page("Cora Marr", "She was taught at Port School. Ann Vell was among her friends.")
    same = page("Cora Marr", "Ann Vell was her friend. She was taught at Port School.")
    own = page("Gull Island", "Ann Vell kept the light. She was taught at Port School.")

    class Hasty(PatternReader):
        def read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
            return Reading("Port School", 0.9)

    closer = SlotCloser(Distiller(HashEmbedder()))
    for other in (friend, same):
        assert closer.close(plan, [other], (), Hasty().read) == ()
    assert [b.value for b in closer.close(plan, [own], (), Hasty().read)] == ["Port School"]


def test_a_death_is_no_birth() -> None:
    plan = parse_plan("Ann Vell | date of birth | ?1", "When was Ann Vell born?")
    assert plan is not None

    class Hasty(PatternReader):
        def read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
            return Reading("4 May 1890", 0.9)

    closer = SlotCloser(Distiller(HashEmbedder()))
    died, born = (page("Ann Vell", f"Ann Vell {verb} on 4 May 1890.") for verb in ("died", "was born"))
    assert closer.close(plan, [died], (), Hasty().read) == ()
    assert [b.value for b in closer.close(plan, [born], (), Hasty().read)] == ["4 May 1890"]


def test_a_page_that_tells_of_the_subject_may_be_the_value_itself() -> None:
    plan = parse_plan(
        "Fog Survey | leader | ?1\n?1 | book written | ?2",
        "Which book did the leader of the Fog Survey write?",
    )
    assert plan is not None
    pool = [
        page("Fog Survey", "The leader of Fog Survey was Ann Vell."),
        page("Ann Vell", "Ann Vell was a pilot."),
        page("Holm Street", "Holm Street is a street in which Ann Vell lived."),
        page("The Lark", "The Lark is a memoir of Ann Vell."),
    ]

    class Shy(PatternReader):
        """Finds a book only on its own page, shown alone; takes a subject for the value where it can."""

        def read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
            if "leader" in query:
                return super().read(query, contexts)
            titles = [title for title, _ in contexts]
            if titles == ["The Lark"]:
                return Reading("The Lark", 0.6)
            if titles == ["Holm Street"]:
                return Reading("Holm Street", 0.4)
            return Reading("Fog Survey", 0.9) if "Fog Survey" in titles else Reading(None, 0.0)

    closer = SlotCloser(Distiller(HashEmbedder()))
    assert [b.value for b in closer.close(plan, pool, (), Shy().read)] == ["Ann Vell", "The Lark"]


def test_the_end_of_a_chain_that_is_not_read_is_asked_in_the_words_of_the_question() -> None:
    asked = "Which fair is held every May in the home town of Ann Vell?"
    plan = parse_plan("Ann Vell | home town | ?1\n?1 | name of event | ?2", asked)
    assert plan is not None
    pages = [
        page("Ann Vell", "Ann Vell lives in Port Ennis."),
        page("Port Ennis", "Port Ennis is a harbour. The Herring Fair is held in it every May."),
    ]

    class InWords:
        """Understands the question, and of the look-ups the first."""

        name = "words"

        def read(self, query: str, contexts: Sequence[tuple[str, str]]) -> Reading:
            known = {"Ann Vell, home town?": "Port Ennis", asked: "Herring Fair"}
            return Reading(known.get(query), 0.7) if query in known else Reading(None, 0.0)

    found = SlotCloser(Distiller(HashEmbedder())).close(plan, pages, (), InWords().read)
    assert [b.value for b in found] == ["Port Ennis", "Herring Fair"]
