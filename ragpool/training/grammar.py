"""Made-up questions with their plans, from a small grammar of relations.

The public sets have few kinds of chains; users ask about anything. Each relation below is said in several ways: as a
noun ("the author of X"), as a clause ("the person who wrote X"), backwards ("the book written by X"), and as the last
step of a question ("Who wrote X?"). Chains of one to three steps and comparisons are put together at random, over
invented names. Nothing here comes from a data set or from a corpus of this repository.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ragpool.plan import parse_plan
from ragpool.types import Question

PERSON, WORK, SHIP, FIRM, PLACE, BUILDING, EVENT, SCHOOL, TEAM, THING, LAND, VALUE = (
    "person work ship firm place building event school team thing land value".split()
)


@dataclass(frozen=True, slots=True)
class Relation:
    """One kind of step from ``source`` to ``target``.

    ``name`` is what the plan calls it. ``inside`` are the ways to say "the target of {}" within a longer question,
    ``asks`` the ways to ask for it at the end.
    """

    source: str
    target: str
    name: str
    inside: tuple[str, ...]
    asks: tuple[str, ...]


def _relation(source: str, target: str, name: str, inside: str, asks: str) -> Relation:
    return Relation(
        source, target, name, tuple(s for s in inside.split(" / ") if s), tuple(asks.split(" / "))
    )


RELATIONS = (
    _relation(WORK, PERSON, "author", "the author of {} / the writer of {} / the person who wrote {} / the man who wrote {} / the person by whom {} was written", "Who wrote {}? / Who is the author of {}? / By whom was {} written?"),
    _relation(WORK, PERSON, "director", "the director of {} / the person who directed {} / the film maker behind {}", "Who directed {}? / Who was {} directed by?"),
    _relation(WORK, PERSON, "composer", "the composer of {} / the musician who composed {} / the person who wrote the music for {}", "Who composed {}? / Who wrote the music of {}?"),
    _relation(WORK, PERSON, "performer", "the singer of {} / the performer of {} / the artist who recorded {}", "Who sings {}? / Which artist performed {}?"),
    _relation(WORK, PERSON, "painter", "the painter of {} / the artist who painted {}", "Who painted {}?"),
    _relation(WORK, PERSON, "translator", "the translator of {} / the person who translated {}", "Who translated {}?"),
    _relation(WORK, PERSON, "dedicated to", "the person to whom {} is dedicated / the dedicatee of {}", "To whom is {} dedicated? / Who is {} dedicated to?"),
    _relation(WORK, FIRM, "publisher", "the publisher of {} / the company that published {} / the house that issued {}", "Who published {}? / Which company is the publisher of {}?"),
    _relation(WORK, PLACE, "setting", "the town in which {} is set / the place where {} takes place / the setting of {}", "Where is {} set? / In which town does {} take place?"),
    _relation(WORK, VALUE, "publication date", "", "When was {} published? / In what year did {} come out? / When was {} first released?"),
    _relation(WORK, VALUE, "language", "", "In which language was {} written? / What is the language of {}?"),
    _relation(PERSON, WORK, "book written", "the book written by {} / the novel that {} wrote / the work written by {}", "Which book did {} write? / What is the title of the book by {}?"),
    _relation(PERSON, WORK, "film directed", "the film directed by {} / the movie that {} directed", "Which film did {} direct?"),
    _relation(PERSON, WORK, "opera composed", "the opera composed by {} / the piece {} composed", "Which opera did {} compose? / What did {} compose?"),
    _relation(PERSON, PERSON, "mother", "the mother of {} / {}'s mother", "Who was the mother of {}? / What was the name of {}'s mother?"),
    _relation(PERSON, PERSON, "father", "the father of {} / {}'s father", "Who was the father of {}? / Who is {}'s father?"),
    _relation(PERSON, PERSON, "spouse", "the wife of {} / the husband of {} / the spouse of {} / {}'s spouse / the person married to {}", "Who was {} married to? / Whom did {} marry? / Who is the spouse of {}?"),
    _relation(PERSON, PERSON, "child", "the son of {} / the daughter of {} / {}'s child", "Who is the child of {}? / What was the name of the son of {}?"),
    _relation(PERSON, PERSON, "sibling", "the brother of {} / the sister of {} / {}'s sibling", "Who is the sibling of {}? / Who was {}'s brother?"),
    _relation(PERSON, PERSON, "teacher", "the teacher of {} / the person who taught {} / the mentor of {} / {}'s teacher / the person under whom {} studied / the master of whom {} was a pupil", "Who taught {}? / Under whom did {} study? / Who was the teacher of {}?"),
    _relation(PERSON, PERSON, "student", "the pupil of {} / the student of {} / the person whom {} taught", "Who was the student of {}? / Whom did {} teach? / Who was taught by {}?"),
    _relation(PERSON, PERSON, "successor", "the successor of {} / the person who succeeded {}", "Who succeeded {}? / Who came after {}?"),
    _relation(PERSON, PERSON, "predecessor", "the predecessor of {}", "Who preceded {}? / Who was {} preceded by?"),
    _relation(PERSON, PLACE, "place of birth", "the birthplace of {} / the town where {} was born / the city in which {} was born / the place of birth of {}", "Where was {} born? / In which town was {} born? / What is the birthplace of {}? / In what city was {} born?"),
    _relation(PERSON, PLACE, "place of death", "the town where {} died / the place of death of {}", "Where did {} die? / In which city did {} die? / Where did the life of {} end?"),
    _relation(PERSON, PLACE, "place of burial", "the place where {} is buried", "Where is {} buried? / Where was {} laid to rest?"),
    _relation(PERSON, PLACE, "residence", "the town where {} lived", "Where did {} live? / In which town did {} live?"),
    _relation(PERSON, VALUE, "date of birth", "", "When was {} born? / What is the date of birth of {}? / In which year was {} born? / What is {}'s birthday?"),
    _relation(PERSON, VALUE, "date of death", "", "When did {} die? / What is the date of death of {}? / In what year did {} die?"),
    _relation(PERSON, VALUE, "cause of death", "", "How did {} die? / What was the cause of death of {}?"),
    _relation(PERSON, VALUE, "occupation", "", "What did {} do for a living? / What is the occupation of {}? / What was the profession of {}?"),
    _relation(PERSON, LAND, "country of citizenship", "the country {} came from / the home country of {}", "What nationality was {}? / Which country is {} from? / What is the nationality of {}?"),
    _relation(PERSON, SCHOOL, "educated at", "the school {} attended / the university where {} studied / the college at which {} was educated", "Where was {} educated? / Where did {} study? / Which school did {} attend? / At which college was {} educated? / Where did {} go to school?"),
    _relation(PERSON, FIRM, "employer", "the company {} worked for / the employer of {}", "Who employed {}? / For which company did {} work?"),
    _relation(PERSON, FIRM, "company founded", "the company founded by {} / the firm that {} founded / the business {} started / the house set up by {} / the company of which {} was the founder", "Which company did {} found? / What firm was started by {}?"),
    _relation(PERSON, TEAM, "member of sports team", "the club {} played for / the team of {}", "For which team did {} play? / What club did {} play for?"),
    _relation(PERSON, SHIP, "ship commanded", "the ship commanded by {} / the vessel captained by {} / the ship of which {} was captain", "Which ship did {} command? / Of which vessel was {} the captain?"),
    _relation(PERSON, BUILDING, "building designed", "the building designed by {} / the lighthouse {} designed / the bridge built by {}", "Which building did {} design? / What did {} design?"),
    _relation(PERSON, EVENT, "expedition led", "the expedition led by {} / the voyage that {} led", "Which expedition did {} lead?"),
    _relation(PERSON, EVENT, "treaty negotiated", "the treaty negotiated by {} / the agreement {} brokered", "Which treaty did {} negotiate? / What treaty was mediated by {}?"),
    _relation(PERSON, THING, "instrument made", "the instrument made by {} / the clock built by {} / the device {} invented", "What did {} invent? / Which instrument was made by {}?"),
    _relation(PERSON, VALUE, "award received", "", "Which award did {} receive? / What prize did {} win?"),
    _relation(SHIP, PERSON, "captain", "the captain of {} / the master of {} / the person who commanded {}", "Who commanded {}? / Who was the captain of {}?"),
    _relation(SHIP, FIRM, "builder", "the yard that built {} / the builder of {} / the company that constructed {}", "Who built {}? / Which shipyard built {}? / Where was {} constructed?"),
    _relation(SHIP, FIRM, "owner", "the owner of {} / the company that owned {}", "Who owned {}? / Which company was the owner of {}?"),
    _relation(SHIP, PLACE, "home port", "the home port of {} / the harbour from which {} sailed", "What was the home port of {}? / Out of which port did {} sail? / Where was {} based?"),
    _relation(SHIP, VALUE, "length", "", "How long was {}? / What was the length of {}?"),
    _relation(SHIP, VALUE, "date launched", "", "When was {} launched? / In which year was {} launched?"),
    _relation(SHIP, VALUE, "fate", "", "What happened to {}? / What was the fate of {}?"),
    _relation(FIRM, PERSON, "founder", "the founder of {} / the person who founded {} / the man who started {}", "Who founded {}? / Who was the founder of {}? / Who started {}?"),
    _relation(FIRM, PERSON, "director", "the head of {} / the chief executive of {} / the manager of {}", "Who runs {}? / Who is the head of {}? / Who managed {}?"),
    _relation(FIRM, PLACE, "headquarters", "the town where {} has its seat / the city in which {} is based / the headquarters of {} / the town in which {} had its offices", "Where is {} based? / In which town does {} have its headquarters? / Where is the seat of {}? / Where did {} have its head office? / In what city are the offices of {}?"),
    _relation(FIRM, VALUE, "date founded", "", "When was {} founded? / In what year was {} established? / What year did {} start?"),
    _relation(FIRM, FIRM, "parent company", "the parent company of {} / the company that owns {}", "What is the parent company of {}? / Who owns {}?"),
    _relation(FIRM, VALUE, "product", "", "What does {} make? / What is the main product of {}?"),
    _relation(BUILDING, PERSON, "architect", "the architect of {} / the designer of {} / the engineer who designed {} / the person who designed {} / the person by whom {} was designed / the person behind the design of {}", "Who designed {}? / Who was the architect of {}?"),
    _relation(BUILDING, PLACE, "location", "the town where {} stands / the place in which {} is located", "Where is {}? / In which town does {} stand? / Where is {} located?"),
    _relation(BUILDING, FIRM, "builder", "the company that built {} / the contractor for {} / the firm by which {} was built", "Which company built {}? / Who was the builder of {}?"),
    _relation(BUILDING, VALUE, "height", "", "How tall is {}? / What is the height of {}?"),
    _relation(BUILDING, VALUE, "date opened", "", "When was {} opened? / In which year was {} completed? / When was {} built?"),
    _relation(PLACE, PLACE, "located in", "the region in which {} lies / the island on which {} lies / the county where {} is located", "In which region is {}? / On which island does {} lie? / What county is {} in?"),
    _relation(PLACE, PLACE, "river", "the river that flows through {}", "Which river flows through {}? / On what river does {} lie?"),
    _relation(PLACE, PERSON, "mayor", "the mayor of {}", "Who was the mayor of {}? / Who governs {}?"),
    _relation(PLACE, PERSON, "named after", "the person after whom {} is named", "After whom is {} named? / Who is {} named after?"),
    _relation(PLACE, VALUE, "population", "", "How many people live in {}? / What is the population of {}?"),
    _relation(PLACE, LAND, "country", "the country in which {} is located / the country of {}", "In which country is {}? / What country is {} in?"),
    _relation(LAND, PLACE, "capital", "the capital of {} / the capital city of {}", "What is the capital of {}?"),
    _relation(LAND, PERSON, "head of government", "the prime minister of {} / the king of {} / the ruler of {}", "Who is the prime minister of {}? / Who ruled {}?"),
    _relation(LAND, VALUE, "currency", "", "What currency is used in {}? / What is the currency of {}?"),
    _relation(LAND, VALUE, "official language", "", "What is the official language of {}? / Which language is spoken in {}?"),
    _relation(EVENT, PERSON, "leader", "the leader of {} / the person who led {} / the person in command of {}", "Who led {}? / Who was the leader of {}? / Who was in charge of {}?"),
    _relation(EVENT, FIRM, "sponsor", "the company that paid for {} / the sponsor of {}", "Who paid for {}? / Which company sponsored {}? / Who financed {}?"),
    _relation(EVENT, PLACE, "location", "the town where {} took place / the place where {} was signed", "Where did {} take place? / Where was {} signed? / In which town was {} held?"),
    _relation(EVENT, VALUE, "date", "", "When did {} take place? / When was {} signed? / In what year did {} begin?"),
    _relation(EVENT, SHIP, "ship", "the ship used by {} / the vessel in which {} sailed", "Which ship did {} sail in? / In what vessel did {} sail?"),
    _relation(EVENT, VALUE, "winner", "", "Who won {}?"),
    _relation(SCHOOL, PERSON, "founder", "the founder of {} / the person who founded {}", "Who founded {}?"),
    _relation(SCHOOL, PLACE, "location", "the town where {} is located", "Where is {}? / In which town is {}?"),
    _relation(SCHOOL, VALUE, "date founded", "", "When was {} founded? / In which year was {} established?"),
    _relation(SCHOOL, PERSON, "notable alumnus", "the best known pupil of {}", "Who studied at {}?"),
    _relation(TEAM, PERSON, "coach", "the coach of {} / the manager of {}", "Who coaches {}? / Who is the manager of {}?"),
    _relation(TEAM, PLACE, "home city", "the city in which {} plays", "Where does {} play its home games? / In which city is {} based?"),
    _relation(THING, PERSON, "maker", "the maker of {} / the inventor of {} / the person who made {} / the craftsman behind {} / the person who built {}", "Who made {}? / Who invented {}? / By whom was {} built?"),
    _relation(THING, BUILDING, "kept in", "the museum that holds {} / the place where {} is kept", "Where is {} kept? / Which museum holds {}? / In which collection is {}?"),
    _relation(THING, VALUE, "date made", "", "When was {} made? / In what year was {} built?"),
    _relation(THING, VALUE, "material", "", "What is {} made of?"),
    _relation(EVENT, PERSON, "mediator", "the mediator of {} / the person who brokered {} / the person who mediated {}", "Who mediated {}? / Who brokered {}?"),
    _relation(WORK, PLACE, "place of premiere", "the town in which {} was first performed / the city where {} had its premiere", "Where was {} first performed? / In which town did {} open? / Where was the premiere of {}?"),
    _relation(WORK, PERSON, "librettist", "the librettist of {} / the person who wrote the words of {} / the author of the libretto of {}", "Who wrote the libretto of {}? / Who wrote the words of {}?"),
    _relation(PERSON, WORK, "opera with libretto by", "the opera whose libretto was written by {} / the opera for which {} wrote the words", "For which opera did {} write the libretto?"),
    _relation(PERSON, WORK, "painting", "the painting by {} / the picture that {} painted", "Which picture did {} paint?"),
    _relation(PLACE, LAND, "island", "the island on which {} lies / the island of {}", "On which island is {}? / On what island does {} lie?"),
    _relation(PLACE, VALUE, "date of charter", "", "When did {} receive its charter? / In what year did {} become a town?"),
    _relation(PLACE, PLACE, "twin town", "the twin town of {}", "Which town is twinned with {}?"),
    _relation(BUILDING, VALUE, "number of visitors", "", "How many people visit {} each year?"),
    _relation(EVENT, VALUE, "number of participants", "", "How many people took part in {}? / How many took part in {}? / How many participants did {} have?"),
    _relation(EVENT, VALUE, "duration", "", "How long did {} last? / How many days did {} take?"),
    _relation(THING, PERSON, "owner", "the owner of {} / the person to whom {} belongs", "Who owns {}? / To whom did {} belong?"),
    _relation(SHIP, PERSON, "designer", "the designer of {} / the naval architect of {}", "Who designed {}?"),
    _relation(TEAM, VALUE, "date founded", "", "When was {} founded?"),
    _relation(TEAM, BUILDING, "stadium", "the home ground of {} / the stadium where {} plays", "What is the home ground of {}? / In which stadium does {} play?"),
    _relation(PERSON, TEAM, "coach of team", "the club coached by {}", "Which club did {} coach?"),
    _relation(PERSON, PLACE, "place of work", "the town where {} worked", "Where did {} work?"),
)  # fmt: skip

_COUNTED = (
    "articles members pages rooms objects seats floors islands chapters acts bells guns employees students sons daughters "
    "wheels signatories songs episodes books windows towers clauses volunteers bridges shops"
).split()
_TYPE_WORDS = {
    WORK: ("the film", "the novel", "the song", "the book", "the opera", "the painting"),
    SHIP: ("the ship", "the schooner", "the steamer", "the"),
    FIRM: ("the company", "the firm"),
    PLACE: ("the town of", "the city of", "the village of"),
    BUILDING: ("the", "the building"),
    EVENT: ("the",),
    THING: ("the", "the instrument"),
    TEAM: ("the club", "the"),
}
_COMPARED = (
    # type, relation, operation, ways to ask over {a} and {b}
    (PERSON, "date of birth", "earlier", "Who was born first, {a} or {b}? / Who was born earlier, {a} or {b}? / Who is older, {a} or {b}? / Was {a} or {b} born first? / Of {a} and {b}, who was born first?"),
    (PERSON, "date of birth", "later", "Who was born later, {a} or {b}? / Who is younger, {a} or {b}? / Which of {a} and {b} is the younger?"),
    (PERSON, "date of death", "earlier", "Who died first, {a} or {b}? / Did {a} or {b} die first? / Who died earlier, {a} or {b}?"),
    (PERSON, "date of death", "later", "Who died later, {a} or {b}? / Which of {a} and {b} died last?"),
    (WORK, "publication date", "earlier", "Which came out first, {a} or {b}? / Was {a} or {b} published first? / Which was published earlier, {a} or {b}?"),
    (WORK, "publication date", "later", "Which was released more recently, {a} or {b}? / Which of {a} and {b} came out later?"),
    (FIRM, "date founded", "earlier", "Which was founded first, {a} or {b}? / Which company is older, {a} or {b}? / Was {a} founded before {b}?"),
    (SCHOOL, "date founded", "earlier", "Which is the older school, {a} or {b}? / Which was established first, {a} or {b}?"),
    (BUILDING, "date opened", "earlier", "Which was built first, {a} or {b}? / Which of {a} and {b} was opened earlier?"),
    (EVENT, "date", "earlier", "Which took place first, {a} or {b}? / Was {a} or {b} signed first? / Which began earlier, {a} or {b}?"),
    (SHIP, "length", "larger", "Which ship is longer, {a} or {b}? / Which was the longer vessel, {a} or {b}? / Of {a} and {b}, which is longer?"),
    (SHIP, "length", "smaller", "Which is shorter, {a} or {b}?"),
    (SHIP, "date launched", "earlier", "Which was launched first, {a} or {b}? / Was {a} or {b} launched earlier?"),
    (BUILDING, "height", "larger", "Which is taller, {a} or {b}? / Which of {a} and {b} is higher?"),
    (PLACE, "population", "larger", "Which has more inhabitants, {a} or {b}? / Which is larger by population, {a} or {b}?"),
    (PLACE, "population", "smaller", "Which has the smaller population, {a} or {b}?"),
    (PERSON, "place of birth", "same", "Were {a} and {b} born in the same town? / Were {a} and {b} born in the same place?"),
    (PERSON, "educated at", "same", "Did {a} and {b} go to the same school? / Were {a} and {b} educated at the same college? / Did {a} and {b} study at the same place?"),
    (PERSON, "country of citizenship", "same", "Are {a} and {b} of the same nationality? / Do {a} and {b} come from the same country?"),
    (PERSON, "occupation", "same", "Did {a} and {b} have the same profession?"),
    (FIRM, "headquarters", "same", "Are {a} and {b} based in the same town? / Do {a} and {b} have their seat in the same city?"),
    (SHIP, "builder", "same", "Were {a} and {b} built by the same yard? / Did the same company build {a} and {b}?"),
    (BUILDING, "location", "same", "Are {a} and {b} in the same town? / Do {a} and {b} stand in the same place?"),
    (WORK, "author", "same", "Were {a} and {b} written by the same person? / Do {a} and {b} have the same author?"),
    (WORK, "publisher", "same", "Did the same house publish {a} and {b}?"),
    (SCHOOL, "location", "same", "Are {a} and {b} in the same town?"),
    (FIRM, "headquarters", "same", "Were {a} and {b} based in the same town? / Did {a} and {b} have their offices in the same town?"),
    (FIRM, "founder", "same", "Were {a} and {b} founded by the same person? / Did the same person found {a} and {b}?"),
    (BUILDING, "architect", "same", "Were {a} and {b} designed by the same person? / Do {a} and {b} share their architect?"),
    (PERSON, "teacher", "same", "Did {a} and {b} have the same teacher? / Were {a} and {b} taught by the same person?"),
    (PERSON, "place of death", "same", "Did {a} and {b} die in the same town?"),
    (PLACE, "island", "same", "Are {a} and {b} on the same island?"),
    (THING, "kept in", "same", "Are {a} and {b} kept in the same museum?"),
    (EVENT, "date", "later", "Which took place later, {a} or {b}? / Which was signed later, {a} or {b}?"),
    (EVENT, "duration", "larger", "Which lasted longer, {a} or {b}?"),
    (BUILDING, "height", "smaller", "Which is lower, {a} or {b}?"),
    (SCHOOL, "date founded", "later", "Which is the younger school, {a} or {b}?"),
    (FIRM, "date founded", "later", "Which was founded later, {a} or {b}? / Which company is younger, {a} or {b}?"),
)  # fmt: skip

_SYLLABLES = (
    "bar bel bran cal cor dan del dor el fen gal har hol ing jor kel kin lan lor mar mel mor nor ol pen quin ral ran "
    "ros sal ser sul tam tar ten thor tor ul van ver vil wen wick yar zan ash brook dale ford holm stead"
).split()
_ADJECTIVES = (
    "Silent Broken Golden Distant Crooked Last Iron Patient Hollow Bitter Second Painted Northern Burning Quiet Narrow"
).split()
_NOUNS = (
    "River Lantern Garden Harbour Mirror Winter Compass Crown Letter Bridge Orchard Tide Stranger Anchor Window Road "
    "Promise Feather Hour Island"
).split()


def examples(count: int, seed: int) -> list[Question]:
    """``count`` questions with plans; the same for the same seed."""
    rng = random.Random(seed)
    made: list[Question] = []
    while len(made) < count:
        form = rng.choices((_chain, _comparison, _counted), weights=(70, 24, 6))[0]
        text, plan = form(rng)
        question = parse_plan(plan, text, planner="grammar")
        if question is not None:
            made.append(question)
    return made


def _chain(rng: random.Random) -> tuple[str, str]:
    """A chain of one to three steps, built from the last step back to the name."""
    steps = rng.choices((1, 2, 3), weights=(2, 5, 4))[0]
    first = rng.choice([r for r in RELATIONS if r.inside] if steps > 1 else RELATIONS)
    chain = [first]
    while len(chain) < steps:
        inner = len(chain) < steps - 1
        following = [r for r in RELATIONS if r.source == chain[-1].target and (r.inside or not inner)]
        if not following:
            break
        chain.append(rng.choice(following))
    phrase, shown = _name(first.source, rng)
    for relation in chain[:-1]:
        phrase = rng.choice(relation.inside).format(phrase)
    text = rng.choice(chain[-1].asks).format(phrase)
    lines = [f"{shown} | {chain[0].name} | ?1"]
    lines += [f"?{n} | {relation.name} | ?{n + 1}" for n, relation in enumerate(chain[1:], start=1)]
    return _first_upper(text), "\n".join(lines)


def _comparison(rng: random.Random) -> tuple[str, str]:
    """Two chains of one or two steps that end in comparable values."""
    kind, relation, operation, forms = rng.choice(_COMPARED)
    sides = []
    before = [r for r in RELATIONS if r.target == kind and r.inside]
    step = rng.choice(before) if before and rng.random() < 0.4 else None
    for _ in range(2):
        phrase, shown = _name(step.source if step else kind, rng)
        sides.append((step.inside[0].format(phrase) if step else phrase, shown))
    text = rng.choice(forms.split(" / ")).format(a=sides[0][0], b=sides[1][0])
    lines: list[str] = []
    for _, shown in sides:
        if step is not None:
            lines.append(f"{shown} | {step.name} | ?{len(lines) + 1}")
            shown = f"?{len(lines)}"
        lines.append(f"{shown} | {relation} | ?{len(lines) + 1}")
    return _first_upper(text), "\n".join([*lines, f"= {operation}"])


def _counted(rng: random.Random) -> tuple[str, str]:
    """How many of something one thing has, or which of two has more."""
    noun, kind = (
        rng.choice(_COUNTED),
        rng.choice((WORK, SHIP, FIRM, PLACE, BUILDING, EVENT, SCHOOL, THING, PERSON)),
    )
    relation = f"number of {noun}"
    (first, a), (second, b) = _name(kind, rng), _name(kind, rng)
    if rng.random() < 0.4:
        more = rng.random() < 0.7
        form = rng.choice(
            (
                "Which has {m} {n}, {a} or {b}?",
                "Which of {a} and {b} has {m} {n}?",
                "Did {a} or {b} have {m} {n}?",
            )
        )
        text = form.format(m="more" if more else "fewer", n=noun, a=first, b=second)
        return text, f"{a} | {relation} | ?1\n{b} | {relation} | ?2\n= {'larger' if more else 'smaller'}"
    lines = [f"{a} | {relation} | ?1"]
    before = [r for r in RELATIONS if r.target == kind and r.inside]
    if before and rng.random() < 0.6:
        step = rng.choice(before)
        source, shown = _name(step.source, rng)
        first = rng.choice(step.inside).format(source)
        lines = [f"{shown} | {step.name} | ?1", f"?1 | {relation} | ?2"]
    form = rng.choice(
        (
            "How many {n} does {a} have?",
            "How many {n} did {a} have?",
            "How many {n} are there in {a}?",
            "What is the number of {n} of {a}?",
        )
    )
    return form.format(n=noun, a=first), "\n".join(lines)


def _name(kind: str, rng: random.Random) -> tuple[str, str]:
    """(how the question says it, the name alone)."""
    name = made_up(kind, rng)
    words = _TYPE_WORDS.get(kind)
    if words and rng.random() < (0.9 if kind in (SHIP, EVENT, BUILDING, THING) else 0.35):
        return f"{rng.choice(words)} {name}".replace("the The ", "The "), name
    return name, name


def made_up(kind: str, rng: random.Random) -> str:
    """An invented name of the kind."""
    word = _word(rng)
    title = f"{rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}"
    if kind == PERSON:
        middle = rng.choice(("", "", "", f"{rng.choice('ABCDEFGHJKLMR')}. ", f"{_word(rng)} ", "van ", "de "))
        return f"{word} {middle}{_word(rng)}"
    choices: dict[str, Sequence[str]] = {
        WORK: (f"The {title}", title, f"{word}", f"The {rng.choice(_NOUNS)} of {word}", f"{title} ({rng.choice(('film', 'novel', 'song'))})"),
        SHIP: (title, word, f"{word} {_word(rng)}", f"{rng.choice(_ADJECTIVES)} {word}"),
        FIRM: (f"{word} & {_word(rng)}", f"{word} and Sons", f"{word} Company", f"{word} {rng.choice(('Works', 'Line', 'Brothers', 'Press'))}", f"{word} & {_word(rng)}, {rng.choice(('Printers', 'Engineers', 'Merchants'))}"),
        PLACE: (word, f"{word} {_word(rng)}", f"Port {word}", f"{word} Bay", f"Saint {word}"),
        BUILDING: (f"{word} {rng.choice(('Light', 'Tower', 'Bridge', 'Hall', 'Museum', 'Head Lighthouse'))}", f"{title} Inn"),
        EVENT: (f"{word} Expedition", f"Treaty of {word}", f"{rng.choice(_NOUNS)} Accord", f"Battle of {word}", f"{word} Festival"),
        SCHOOL: (f"{word} College", f"University of {word}", f"{word} Grammar School", f"{word} Institute"),
        TEAM: (f"{word} United", f"{word} {rng.choice(('Rovers', 'Tigers', 'Athletic'))}"),
        THING: (f"{word} {rng.choice(('Clock', 'Sextant', 'Organ', 'Globe'))}", f"{rng.choice(_ADJECTIVES)} {rng.choice(('Chronometer', 'Harp', 'Telescope'))}"),
        LAND: (word, f"Kingdom of {word}"),
    }  # fmt: skip
    return rng.choice(choices[kind])


def _word(rng: random.Random) -> str:
    return "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((2, 2, 3)))).capitalize()


def _first_upper(text: str) -> str:
    return text[:1].upper() + text[1:]
