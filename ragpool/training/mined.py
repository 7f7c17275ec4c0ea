"""Look-ups mined from the paragraphs of the training questions: what running text says of its own subject.

Two thousand gold look-ups in few forms do not teach a small model to read. The paragraphs around them say thousands
of things more in the same few dozen ways of an encyclopaedia ("born in", "designed by", "a tributary of"). Each pattern
below finds one, with the names under which people ask for it. Only paragraphs of the training split are read.

A pair of such facts that join ("B" is the value of the first and the title of the second) makes a question of two steps.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ragpool.plan import base_name, plain
from ragpool.slots import NONE, Context, stands_in
from ragpool.training.data import Paragraph, Record
from ragpool.training.readings import Sample

NONE_SHARE = 0.27
NESTED_SHARE = 0.16
_LONGEST = 75  # words of a passage
_COMMONEST = 90  # facts of one pattern in a draw

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DATE = rf"(?:\d{{1,2}} {_MONTH},? \d{{3,4}}|{_MONTH} \d{{1,2}},? \d{{3,4}}|{_MONTH} \d{{4}}|\d{{4}})"
_CAPITAL = r"[A-Z][\w’'&.-]*[\w]"
_NAME = rf"(?:{_CAPITAL}|[A-Z]\.)(?: (?:of |the |de |van |von |der |du |la |le |di |del |al-)?(?:{_CAPITAL}|[A-Z]\.|[IVX]+\b))*"
_PLACE = rf"{_CAPITAL}(?: (?:of |the |upon |on )?{_CAPITAL})*"
_COUNT = r"\d[\d,.]*\d|\d|(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)\b"
_LENGTH = r"\d[\d,.]* ?(?:metres|meters|feet|ft|km|kilometres|kilometers|miles|mi|m)\b"
_DEMONYM = (
    r"(?:American|British|English|Scottish|Irish|Welsh|French|German|Italian|Spanish|Portuguese|Dutch|Belgian|Swedish|Norwegian|Danish|"
    r"Finnish|Russian|Polish|Czech|Austrian|Swiss|Hungarian|Romanian|Greek|Turkish|Indian|Pakistani|Chinese|Japanese|Korean|"
    r"Australian|Canadian|Brazilian|Mexican|Argentine|Israeli|Iranian|Egyptian|Nigerian|South African|New Zealand|Ukrainian|"
    r"Serbian|Croatian|Icelandic|Filipino|Thai|Indonesian|Malaysian|Cuban|Colombian|Chilean)"
)
_WORK = r"(?:film|movie|novel|book|song|single|album|play|opera|series|poem|painting|musical|symphony|game|EP|ballet|anime|manga|comedy|drama|thriller|western)"
_OCCUPATION = (
    r"(?:actor|actress|singer|songwriter|singer-songwriter|musician|composer|politician|footballer|writer|author|novelist|poet|painter|"
    r"architect|engineer|lawyer|judge|physician|surgeon|historian|philosopher|theologian|bishop|soldier|general|admiral|journalist|"
    r"director|film director|producer|screenwriter|playwright|conductor|pianist|guitarist|drummer|rapper|model|chemist|physicist|"
    r"mathematician|botanist|geologist|astronomer|economist|businessman|entrepreneur|cricketer|boxer|cyclist|swimmer|golfer|"
    r"sculptor|photographer|comedian|dancer|diplomat|noblewoman|nobleman|missionary|explorer)"
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """``text`` captures the value as ``v``. ``names`` are relations as a plan writes them; ``asks`` are questions over
    {}; ``inside`` is the way to say "the value for {}" within a longer question, empty where there is none."""

    text: re.Pattern[str]
    names: tuple[str, ...]
    asks: tuple[str, ...]
    inside: str = ""


def _pattern(text: str, names: str, asks: str, inside: str = "") -> Pattern:
    for key, value in (("NAME", _NAME), ("PLACE", _PLACE), ("DATE", _DATE), ("COUNT", _COUNT), ("LENGTH", _LENGTH),
                       ("DEMONYM", _DEMONYM), ("WORK", _WORK), ("OCCUPATION", _OCCUPATION)):  # fmt: skip
        text = text.replace(f"<{key}>", f"(?P<v>{value})").replace(f"{{{key}}}", value)
    return Pattern(re.compile(text), tuple(names.split(" / ")), tuple(asks.split(" / ")), inside)


PATTERNS = (
    _pattern(r"\((?:[^()]*?\b)?born:? (?:on )?<DATE>", "date of birth / birth date / born / when born", "When was {} born? / What is the date of birth of {}? / In what year was {} born?"),
    _pattern(r"^[^()]{3,60}\((?:[^()]*?[;,] ?)?? ?<DATE>(?: in [^()–-]+)? ?[–-] ?(?:c\. )?{DATE}", "date of birth / birth date / when born", "When was {} born? / In what year was {} born? / What is {}'s birthday?"),
    _pattern(r"^[^()]{3,60}\((?:[^()]*?[;,] ?)?? ?{DATE}(?:,? (?:in )?[^()–-]+)? ?[–-] ?(?:c\. )?<DATE>", "date of death / death date / died / when died", "When did {} die? / What is the date of death of {}? / In which year did {} die?"),
    _pattern(r"\(died:? (?:on )?<DATE>", "date of death / when died", "When did {} die?"),
    _pattern(r"\b[Dd]ied (?:on|in) <DATE>", "date of death / died / when died", "When did {} die? / In which year did {} die?"),
    _pattern(r"\bborn (?:on |in )?(?:{DATE},? )?(?:in|at) (?:the (?:city|town|village) of )?<PLACE>", "place of birth / birthplace / where born / born in / city of birth", "Where was {} born? / What is the birthplace of {}? / In what city was {} born? / What was {}'s place of birth?", "the town where {} was born"),
    _pattern(r"\b[Dd]ied (?:on |in )?(?:{DATE},? )?(?:in|at) (?:the (?:city|town|village) of )?<PLACE>", "place of death / where died / died in / city of death", "Where did {} die? / In what city did {} die? / What was the place of death of {}?", "the town where {} died"),
    _pattern(r"\b[Bb]uried (?:in|at) (?:the )?<NAME>", "place of burial / where buried / buried in", "Where is {} buried?"),
    _pattern(r"\b(?:grew up|raised|brought up) in <PLACE>", "where grew up / raised in / residence", "Where did {} grow up?"),
    _pattern(r"\b(?:lives|lived|resides|resided|settled|living) in <PLACE>", "residence / where lived / lives in", "Where does {} live? / Where did {} live?"),
    _pattern(r"\bmoved to <PLACE>", "moved to / residence", "Where did {} move?"),
    _pattern(r"\b(?:is|was) an? (?:\w+[ -]){0,2}?<DEMONYM> ", "nationality / country of citizenship / country of origin", "What nationality is {}? / Which country is {} from?"),
    _pattern(r"\b(?:is|was) an? (?:[\w-]+ ){0,3}?<OCCUPATION>\b", "occupation / profession", "What is the occupation of {}? / What did {} do for a living? / What was {}'s profession?"),
    _pattern(r"\b(?:was|is) (?:educated|schooled) (?:first )?at (?:the )?<NAME>", "educated at / school attended / where educated / alma mater", "Where was {} educated? / Which school did {} attend?", "the school where {} was educated"),
    _pattern(r"\b(?:studied|study|studying|graduated|attended|graduate|graduating|degree|PhD|alumnus|student)(?: \w+){0,3}? (?:at|from|of) (?:the )?<NAME>", "educated at / where studied / university attended / alma mater", "Where did {} study? / From where did {} graduate? / Which university did {} attend?", "the university where {} studied"),
    _pattern(r"\b(?:studied|trained|worked) (?:\w+ )?(?:under|with) <NAME>", "student of / teacher / studied under", "Under whom did {} study? / Who taught {}?", "the teacher of {}"),
    _pattern(r"\b(?:taught|lectured|professor)(?: \w+){0,3}? at (?:the )?<NAME>", "employer / where taught / work location", "Where did {} teach?"),
    _pattern(r"\bworked (?:for|at) (?:the )?<NAME>", "employer / worked for", "For whom did {} work? / Who employed {}?"),
    _pattern(r"\b(?:son|daughter|child) of (?:the )?(?:[a-z]+ ){0,2}<NAME>", "father / parent / child of / whose son", "Who was the father of {}? / Who is {}'s father?", "the father of {}"),
    _pattern(r"\b(?:son|daughter|child) of [^.;]{3,60}? and (?:his|her) (?:\w+ ){0,2}?wife,? <NAME>", "mother", "Who was the mother of {}? / Who is {}'s mother?", "the mother of {}"),
    _pattern(r"\b(?:married (?:to )?|wife of |husband of |widow of |(?:his|her) (?:first |second |third )?(?:wife|husband)(?: was|,)? )(?:the )?(?:[a-z]+ ){0,2}<NAME>", "spouse / married to / wife / husband", "Who was {} married to? / Who is the spouse of {}? / Whom did {} marry?", "the spouse of {}"),
    _pattern(r"\b(?:brother|sister|sibling) of (?:the )?(?:[a-z]+ ){0,3}<NAME>", "sibling / brother / sister", "Who is the sibling of {}? / Whose brother or sister is {}?", "the sibling of {}"),
    _pattern(r"\b(?:father|mother|parent) of (?:the )?(?:[a-z]+ ){0,3}<NAME>", "child / parent of / son or daughter", "Who is the child of {}?", "the child of {}"),
    _pattern(r"\b(?:grandson|granddaughter|nephew|niece|cousin) of (?:the )?(?:[a-z]+ ){0,3}<NAME>", "relative / related to", "To whom is {} related?"),
    _pattern(r"\bsucceeded (?:by )<NAME>", "successor / succeeded by / followed by", "Who succeeded {}? / Who came after {}?", "the successor of {}"),
    _pattern(r"\bsucceed(?:ed|ing) (?!by )(?:the )?<NAME>", "predecessor / succeeded / whom succeeded", "Whom did {} succeed? / Who preceded {}?", "the predecessor of {}"),
    _pattern(r"\breplaced (?:by )<NAME>", "replaced by / successor", "Who replaced {}? / By what was {} replaced?"),
    _pattern(r"\bmember of (?:the )?(?:[a-z]+ ){0,3}<NAME>", "member of / belongs to / party", "Of what is {} a member? / Which group does {} belong to?", "the group of which {} is a member"),
    _pattern(r"\b(?:plays|played|playing|signed|debut)(?: \w+){0,3}? (?:for|with) (?:the )?(?:[a-z]+ ){0,2}<NAME>", "member of sports team / played for / team / club", "For which team did {} play? / Which team does {} play for?", "the team {} played for"),
    _pattern(r"\b(?:coach|manager|captain) of (?:the )?<NAME>", "coach of / team", "Which team did {} manage?"),
    _pattern(r"\b(?:won|received|awarded|recipient of|nominated for)(?: \w+){0,2}? (?:the |an? )<NAME>", "award received / won / prize", "Which award did {} receive? / What did {} win?"),
    _pattern(r"\b(?:served|serving|elected|appointed|appointment|worked|became) (?:as )?(?:the |an? )?(?P<v>(?:(?:[a-z]+|Prime|President|Minister|Governor|Mayor|Chief|Justice|Secretary|Attorney|General|Speaker) ){0,3}(?:minister|president|governor|mayor|secretary|senator|bishop|archbishop|ambassador|chairman|judge|Minister|President|Governor|Mayor|Secretary|Senator|Bishop|Ambassador|Chairman|Judge)) ", "position held / office / role", "What office did {} hold? / What was {}'s position?"),
    _pattern(r"\b(?:King|Queen|Duke|Emperor|Prince|Bishop|Archbishop|President|Prime Minister|Governor|Mayor|Count|Earl|Lord) of (?:the )?<PLACE>", "ruled / country / of where", "Of what place was {} the ruler or head?"),
    _pattern(r"\b(?:film|movie|documentary|comedy|drama|thriller|series|western|sequel|adaptation|musical)[^.;]{0,60}?\bdirected (?:and \w+ )?by <NAME>", "director / directed by / film director", "Who directed {}? / Who is the director of {}? / Which director made {}?", "the director of {}"),
    _pattern(r"\b(?:co-)?directed (?:and \w+ )?by <NAME>", "director / directed by", "Who directed {}? / Who was {} directed by?", "the director of {}"),
    _pattern(r"\b(?:co-)?written(?: and \w+)? by <NAME>", "author / writer / written by / screenwriter", "Who wrote {}? / Who is the writer of {}? / By whom was {} written?", "the person who wrote {}"),
    _pattern(r"\b(?:novel|book|play|poem|story|memoir|biography|essay|collection|novella)[^.;,]{0,30} by (?:the )?(?:[a-zA-Z]+ ){0,2}?(?:writer |author |novelist |playwright |poet |historian )?<NAME>", "author / writer / written by", "Who wrote {}? / Who is the author of {}?", "the author of {}"),
    _pattern(r"\b(?:song|single|album|EP|track|record|mixtape)(?: [a-z]+){0,3}? by (?:the )?(?:[A-Za-z]+ ){0,3}?(?:band |singer |duo |group |artist |rapper |musician |singer-songwriter )<NAME>", "performer / artist / by which artist / singer", "Who performed {}? / Which artist recorded {}? / Who sang {}?", "the performer of {}"),
    _pattern(r"\b(?:song|single|album|EP|track)(?: (?:[a-z]+|recorded|performed|released))?(?: recorded| performed| released)? by <NAME>", "performer / artist / singer", "Who performed {}? / Who recorded {}?", "the performer of {}"),
    _pattern(r"\bcomposed by <NAME>", "composer / music by", "Who composed {}? / Who wrote the music of {}?", "the composer of {}"),
    _pattern(r"\b(?:music|score|soundtrack)(?: \w+){0,3}? by <NAME>", "composer / music by", "Who composed the music of {}?", "the composer of {}"),
    _pattern(r"\bproduced (?:and \w+ )?by <NAME>", "producer / produced by / production company", "Who produced {}? / Which company produced {}?", "the producer of {}"),
    _pattern(r"\bstarring <NAME>", "cast member / starring / star / actor", "Who starred in {}? / Which actor appears in {}?", "the star of {}"),
    _pattern(r"\bstars <NAME>", "cast member / starring / actor", "Who stars in {}?", "the star of {}"),
    _pattern(r"\b(?:released|issued)(?: \w+){0,3}? (?:through|by|on|via|under) (?:the )?<NAME>", "record label / released by / publisher / distributor", "Which label released {}? / Who released {}?", "the label that released {}"),
    _pattern(r"\bpublished (?:\w+ )?by (?:the )?<NAME>", "publisher / published by", "Who published {}? / Which company published {}?", "the publisher of {}"),
    _pattern(r"\bdistributed by (?:the )?<NAME>", "distributor / distributed by", "Who distributed {}?"),
    _pattern(r"\bdeveloped (?:\w+ \w+ )?by (?:the )?<NAME>", "developer / developed by", "Who developed {}? / Which company developed {}?", "the developer of {}"),
    _pattern(r"\bcreated by <NAME>", "creator / created by", "Who created {}?", "the creator of {}"),
    _pattern(r"\b(?:aired|airs|broadcast|premiered|premieres|shown)(?: \w+){0,3}? (?:on|by) (?:the )?<NAME>", "original network / broadcast on / channel", "On which channel was {} shown? / Which network aired {}?"),
    _pattern(r"\b(?:released|premiered|debuted|came out)(?: \w+){0,5}? (?:on|in) <DATE>", "publication date / release date / when released / year released", "When was {} released? / When did {} come out? / In what year was {} first released?"),
    _pattern(r"\bpublished (?:\w+ ){0,3}?(?:on|in) <DATE>", "publication date / when published / year published", "When was {} published? / In what year did {} come out?"),
    _pattern(r"\b(?:is|was) an? <DATE> [^.]{0,40}?\b{WORK}\b", "publication date / release year / year", "When was {} released? / In what year did {} come out?"),
    _pattern(r"\bset in (?:the )?(?:[a-z]+ ){0,3}<PLACE>", "setting / set in / narrative location", "Where is {} set? / In which place does {} take place?", "the place where {} is set"),
    _pattern(r"\b(?:shot|filmed) (?:\w+ )?(?:in|at|on) (?:the )?<PLACE>", "filming location / filmed in", "Where was {} filmed?"),
    _pattern(r"\bbased (?:up)?on (?:the |a )?(?:[\w-]+ ){0,3}?(?:by )?<NAME>", "based on / source / inspired by", "On what is {} based?"),
    _pattern(r"\b(?:sequel|prequel|follow-up|successor) to (?:the )?(?:[\w-]+ ){0,2}?<NAME>", "follows / sequel to / preceded by", "What does {} follow? / To what is {} a sequel?"),
    _pattern(r"\bnamed (?:after|for|in honou?r of) (?:the )?(?:[a-z]+ ){0,4}<NAME>", "named after / namesake", "After whom is {} named? / What is {} named after?", "the person after whom {} is named"),
    _pattern(r"\b(?:located|situated|lies|lying|found) (?:\w+ ){0,3}?(?:in|on|at|near) (?:the )?(?:[a-z]+ ){0,4}?(?:of )?<PLACE>", "located in / location / where located / place / situated in", "Where is {} located? / Where is {}? / In what place is {}?", "the place where {} is located"),
    _pattern(r"\b(?:is|was) an? [^.,]{0,50}?\b(?:town|city|village|municipality|commune|community|township|district|region|county|province|suburb|hamlet|parish|settlement|river|lake|mountain|island|building|church|school|station|museum|house|bridge|castle|park|college|university|hospital|airport|stadium|lighthouse) (?:located |situated )?(?:in|on|of) (?:the )?(?:[a-z]+ ){0,4}?(?:of )?<PLACE>", "located in / location / country / state / region / county", "Where is {}? / In which region is {}? / In what state or country is {}?", "the place in which {} lies"),
    _pattern(r"\b(?:in|of) {PLACE}(?: County)?, <PLACE>(?:\.|,| in| with| and)", "state / country / located in", "In which state or country is {}? / What country is {} in?", "the country in which {} is"),
    _pattern(r"\b(?P<v>[A-Z]\w+(?: [A-Z]\w+)? County)\b", "county / located in county", "In which county is {}? / What county is {} in?", "the county in which {} lies"),
    _pattern(r"\bcapital (?:city )?of (?:the )?(?:[a-z]+ ){0,3}?(?:of )?<PLACE>", "capital of", "Of what is {} the capital?", "the region of which {} is the capital"),
    _pattern(r"\bcapital (?:city )?(?:is|was|being|at|,) <PLACE>", "capital", "What is the capital of {}?", "the capital of {}"),
    _pattern(r"\b(?:seat|county seat|headquarters|head office|offices|headquartered|based)(?: (?:is|are|was|were|located|situated))* (?:in|at) (?:the )?<PLACE>", "headquarters / headquarters location / based in / seat / where based", "Where is {} based? / Where is the headquarters of {}? / Where does {} have its head office?", "the city in which {} is based"),
    _pattern(r"\btributary of (?:the )?<NAME>", "tributary of / mouth / flows into", "Into what does {} flow? / Of which river is {} a tributary?", "the river of which {} is a tributary"),
    _pattern(r"\b(?:flows|runs|empties|drains|joins)(?: \w+){0,3}? (?:into|to|through|the) (?:the )?<NAME>", "mouth / flows into / outflow", "Into what does {} flow?"),
    _pattern(r"\b(?:on|along) the (?:[a-z]+ ){0,3}?(?:banks? of )?(?:the )?(?P<v>(?:River [A-Z]\w+|[A-Z]\w+(?: [A-Z]\w+)? River))", "river / located on river / next to body of water", "On which river does {} lie? / Which river flows by {}?", "the river on which {} lies"),
    _pattern(r"\bpart of (?:the )?(?:[a-z]+ ){0,3}?(?:of )?(?:the )?<NAME>", "part of / belongs to", "Of what is {} a part?", "the whole of which {} is part"),
    _pattern(r"\bpopulation (?:of|was|is)(?: \w+){0,3}? <COUNT>", "population / number of inhabitants", "What is the population of {}? / How many people live in {}?"),
    _pattern(r"\b<LENGTH>(?:\)|,| \([^)]*\))? (?:long|in length)", "length / how long", "How long is {}? / What is the length of {}?"),
    _pattern(r"\b<LENGTH>(?:\)|,| \([^)]*\))? (?:tall|high|in height|above)", "height / elevation / how high", "How tall is {}? / How high is {}?"),
    _pattern(r"\b(?:length|height|elevation|altitude|depth) of (?:about |over )?<LENGTH>", "length / height / size", "What are the dimensions of {}?"),
    _pattern(r"\b(?:founded|established|formed|created|started|incorporated|organized|inaugurated|opened|built|completed|constructed|launched)(?: \w+){0,3}? (?:on|in) <DATE>", "date founded / inception / when founded / date opened / when built", "When was {} founded? / In what year was {} established? / When was {} built? / When did {} start?"),
    _pattern(r"\b(?:founded|established|formed|created|started)(?: \w+){0,3}? in <PLACE>", "place founded / where founded / location of formation", "Where was {} founded? / Where was {} formed?"),
    _pattern(r"\b(?:founded|established|started|formed)(?: (?:in|on) [\w ,]{3,20})? by (?:the )?(?:[a-z]+ ){0,3}<NAME>", "founder / founded by / who founded", "Who founded {}? / Who was the founder of {}? / Who started {}?", "the founder of {}"),
    _pattern(r"\b(?:founder|co-founder|founding member|founded|co-founded) (?:of )?(?:the )?<NAME>", "company founded / founder of / founded", "What did {} found? / Which organisation was founded by {}?", "the organisation founded by {}"),
    _pattern(r"\b(?:dissolved|disbanded|closed|abolished|demolished|ended|discontinued|destroyed)(?: \w+){0,3}? (?:on|in) <DATE>", "date dissolved / when ended / year dissolve / when closed", "When was {} dissolved? / When did {} end? / When did {} close?"),
    _pattern(r"\b(?:designed|architect(?:ed)?) (?:by |was |is )(?:the )?(?:[a-zA-Z]+ ){0,3}?(?:architect |engineer )<NAME>", "architect / designer / designed by", "Who designed {}? / Who was the architect of {}?", "the designer of {}"),
    _pattern(r"\bdesigned (?:and \w+ )?(?:by|to the designs? of) <NAME>", "architect / designer / designed by", "Who designed {}? / Who was the architect of {}?", "the designer of {}"),
    _pattern(r"\b(?:built|constructed|manufactured|made) (?:[\w ]{0,25})?by (?:the )?<NAME>", "builder / manufacturer / maker / built by", "Who built {}? / Which company made {}? / Who made {}?", "the builder of {}"),
    _pattern(r"\b(?:owned|operated|run|owned and operated|acquired|bought|purchased)(?: [\w ]{0,15})? by (?:the )?<NAME>", "owner / owned by / operator / parent company", "Who owns {}? / Who operates {}? / What company owns {}?", "the owner of {}"),
    _pattern(r"\b(?:subsidiary|division|affiliate|imprint|branch) of (?:the )?<NAME>", "parent company / subsidiary of / owner", "What is the parent company of {}?", "the parent company of {}"),
    _pattern(r"\b(?:led|headed|commanded|chaired|hosted|presented|edited|translated|painted|illustrated|invented|discovered) by (?:the )?(?:[a-z]+ ){0,3}<NAME>", "leader / head / host / editor / by whom / led by", "By whom was it done: {}? / Who was in charge of {}? / Who led {}?"),
    _pattern(r"\b(?:hosted|presented) by <NAME>", "host / presenter / presented by", "Who hosted {}?", "the host of {}"),
    _pattern(r"\b(?:fought|took place|takes place|held|occurred|happened|signed|played)(?: \w+){0,4}? (?:in|at|near) (?:the )?<PLACE>", "location / where held / where took place / where fought", "Where did {} take place? / Where was {} held?", "the place where {} took place"),
    _pattern(r"\b(?:fought|took place|held|occurred|happened|signed|played|began)(?: \w+){0,4}? (?:on|in) <DATE>", "date / when held / when took place / point in time", "When did {} take place? / When was {} held? / In what year was {} signed?"),
    _pattern(r"\b(?:invented|discovered|described|identified)(?: \w+){0,3}? by (?:the )?(?:[a-zA-Z]+ ){0,3}?<NAME>", "discoverer / inventor / discovered by", "Who discovered {}? / Who invented {}?", "the discoverer of {}"),
    _pattern(r"\b(?:character|role) of <NAME>", "role / character / played the role of", "Which role did {} play?"),
    _pattern(r"\b(?:played|portrayed|voiced) by (?:the )?(?:[a-z]+ ){0,2}<NAME>", "played by / actor / portrayed by", "Who played {}? / Which actor portrayed {}?", "the actor who played {}"),
    _pattern(r"\bknown (?:best |mostly |primarily )?for (?:his|her|the|its|their) (?:\w+ ){0,5}?(?:in|of|as|on) (?:the )?(?:[a-z]+ ){0,3}<NAME>", "known for / notable work / famous for", "What is {} known for?"),
    _pattern(r"\b(?:is|was|are|were) (?:an? )(?:[\w-]+ ){0,3}?(?P<v>(?:rock|pop|jazz|country|folk|horror|comedy|drama|action|romantic|science fiction|thriller|hip hop|heavy metal|punk|crime|adventure|documentary|musical|war|western|silent|animated|fantasy)(?: [a-z]+)?) (?:film|band|album|song|series|movie|group|novel|comedy|music)", "genre / type / kind of", "What is the genre of {}? / What kind of work is {}?"),
    _pattern(r"\b(?P<v>[A-Z][a-z]+)-language\b", "original language / language", "In which language is {}? / What is the language of {}?"),
    _pattern(r"\b(?:competed|competes|plays|play|played|compete)(?: \w+){0,2}? in (?:the )?<NAME>", "league / competed in / competition", "In which league or competition does {} play?"),
    _pattern(r"\b(?:served|fought|serving)(?: \w+){0,2}? (?:in|during) (?:the )?<NAME>", "conflict / military branch / served in", "In what did {} serve?"),
    _pattern(r"\b(?:collaborated|worked|toured|performed) with (?:the )?<NAME>", "collaborated with / worked with", "With whom did {} work?"),
    _pattern(r"\binfluenced by (?:the )?(?:[a-z]+ ){0,3}<NAME>", "influenced by", "Who influenced {}?"),
    _pattern(r"\b(?:also|formerly|originally|previously|better|commonly) (?:known|called|named) as (?:the )?\"?<NAME>", "other name / also known as / former name", "By what other name is {} known? / What was {} called before?"),
    _pattern(r"\b(?:consists? of|comprises?|contains?|with|has|had|have) (?:about |over |around |some )?<COUNT> (?:[a-z]+ )?(?:members|episodes|tracks|songs|students|seats|employees|chapters|volumes|acres|storeys|stories|floors|rooms|schools|islands|stations|teams|pages|people)", "number of / how many / size", "How many does {} have? / How many are there in {}?"),
)  # fmt: skip
_PRONOUN = re.compile(r"^(?:He|She|It|They|His|Her|Its|The (?:film|song|album|book|novel|band|town|city|village|company|"
                      r"river|building|school|show|series|game|station|team|club|movie|play|ship|bridge|event|battle))\b")  # fmt: skip
_GENERIC = re.compile(
    rf"\b(?:was|were|is|are|had|has)? ?(?P<verb>[a-z]{{3,}}(?:ed|own|ade|ung|ent|ilt))(?: [a-z]+)? (?P<prep>in|at|by|to|from|for|with|on|as) "
    rf"(?:the )?(?P<v>{_NAME}|{_DATE})"
)
_TAIL = re.compile(r"(?:['’]s)?[\s.,;:'’]+$|['’]s$")
_CUT_OFF = re.compile(rf"(?: [A-Z]|\b{_DEMONYM})$")


@dataclass(frozen=True, slots=True)
class Fact:
    """``value`` for ``pattern`` of the paragraph's title, said in sentence ``number``. ``kind`` indexes PATTERNS, or is
    -1 for the words of the text itself, which ``said`` then holds."""

    record: int
    paragraph: int
    number: int
    subject: str
    value: str
    kind: int
    said: str = ""


def facts(records: Sequence[Record]) -> list[Fact]:
    """What the paragraphs of ``records`` say of their titles, each paragraph once."""
    found: list[Fact] = []
    seen: set[tuple[str, str]] = set()
    for at, record in enumerate(records):
        for index, paragraph in enumerate(record.paragraphs):
            key = (paragraph.title, paragraph.sentences[0] if paragraph.sentences else "")
            if key in seen:
                continue
            seen.add(key)
            found += _facts(at, index, paragraph)
    return found


def _facts(record: int, index: int, paragraph: Paragraph) -> Iterator[Fact]:
    subject = base_name(paragraph.title)
    said: set[tuple[int, int]] = set()
    for number, sentence in enumerate(paragraph.sentences[:6]):
        if not _is_about(subject, number, sentence):
            continue
        values: set[str] = set()
        for kind, pattern in enumerate(PATTERNS):
            match = pattern.text.search(sentence)
            value = _TAIL.sub("", match["v"]) if match else ""
            if not match or not _usable(value, subject, sentence) or match.start() > 220:
                continue
            first = min(k for k, p in enumerate(PATTERNS) if p.names[0] == pattern.names[0])
            if (first, 0) in said:
                continue  # a second value of the same relation would make the first one wrong
            said.add((first, 0))
            values.add(value)
            yield Fact(record, index, number, subject, value, kind)
        match = _GENERIC.search(sentence)
        if match:
            value = _TAIL.sub("", match["v"])
            if value not in values and _usable(value, subject, sentence):
                yield Fact(record, index, number, subject, value, -1, f"{match['verb']} {match['prep']}")


def _is_about(subject: str, number: int, sentence: str) -> bool:
    """Whether the sentence's own subject is the title: by name, by its last word, or by a pronoun."""
    head = sentence[: max(40, len(subject) + 12)]
    if number == 0:
        return True
    last = subject.split()[-1]
    return bool(_PRONOUN.match(sentence)) or subject in head or (len(last) > 3 and head.startswith(last))


def _usable(value: str, subject: str, sentence: str) -> bool:
    words = plain(value)
    if len(words) < 2 and not value.isdigit():
        return False
    if (
        words in plain(subject)
        or plain(subject) in words
        or value.split()[0] in ("He", "She", "It", "The", "His", "Her", "In", "As", "This")
    ):
        return False
    if " " in value and _CUT_OFF.search(value):
        return False  # an initial or a nationality whose name comes after
    return len(value.split()) <= 7 and sentence.count(value) >= 1


def examples(records: Sequence[Record], count: int, rng: random.Random) -> list[Sample]:
    """``count`` samples over mined facts, evened out over the patterns; about a quarter say "none"."""
    every = facts(records)
    by_kind: dict[int, list[Fact]] = defaultdict(list)
    by_subject: dict[str, list[Fact]] = defaultdict(list)
    for fact in every:
        by_kind[fact.kind].append(fact)
        by_subject[plain(fact.subject)].append(fact)
    limited: list[Fact] = []
    for kind, group in sorted(by_kind.items()):
        rng.shuffle(group)
        limited += group[: _COMMONEST * (3 if kind < 0 else 1)]
    rng.shuffle(limited)
    joined = [(first, second) for first in every if first.kind >= 0 and PATTERNS[first.kind].inside
              for second in by_subject.get(plain(first.value), ())
              if second.kind >= 0 and plain(second.value) not in (plain(first.subject), plain(first.value))]  # fmt: skip
    rng.shuffle(joined)
    made: list[Sample] = []
    nested = int(count * NESTED_SHARE)
    for first, second in joined[:nested]:
        made.append(_nested(records, first, second, by_kind, rng))
    position = 0
    while len(made) < count and limited:
        if position == len(limited):
            rng.shuffle(limited)
            position = 0
        example = _single(records, limited[position], by_kind, rng)
        position += 1
        if example is not None:
            made.append(example)
    return made


def _query(fact: Fact, rng: random.Random) -> str:
    if fact.kind < 0:
        return f"{fact.subject}, {fact.said}?"
    pattern = PATTERNS[fact.kind]
    draw = rng.random()
    if draw < 0.62:
        return f"{fact.subject}, {rng.choice(pattern.names)}?"
    return rng.choice(pattern.asks).format(fact.subject)


def _single(
    records: Sequence[Record], fact: Fact, by_kind: dict[int, list[Fact]], rng: random.Random
) -> Sample | None:
    missing = rng.random() < NONE_SHARE
    paragraph = records[fact.record].paragraphs[fact.paragraph]
    contexts: list[Context] = []
    if not missing:
        contexts.append((paragraph.title, _shown(paragraph, fact.number, rng)))
    elif rng.random() < 0.5:
        silent = tuple(s for s in paragraph.sentences if not stands_in(fact.value, [("", s)]))
        if silent and len(silent) < len(paragraph.sentences):
            contexts.append((paragraph.title, _shown(Paragraph(paragraph.title, silent), 0, rng)))
    contexts += _others(
        records, fact, by_kind, rng, rng.choice((0, 1, 1, 2, 3)) if contexts else rng.randint(1, 3)
    )
    rng.shuffle(contexts)
    if not contexts or stands_in(fact.value, contexts) == missing:
        return None
    return Sample(_query(fact, rng), tuple(contexts), NONE if missing else fact.value)


def _nested(
    records: Sequence[Record], first: Fact, second: Fact, by_kind: dict[int, list[Fact]], rng: random.Random
) -> Sample:
    """A question of two steps with both passages, or with the second left out."""
    phrase = PATTERNS[first.kind].inside.format(first.subject)
    query = rng.choice(PATTERNS[second.kind].asks).format(phrase)
    contexts: list[Context] = []
    for fact in (first, second):
        paragraph = records[fact.record].paragraphs[fact.paragraph]
        contexts.append((paragraph.title, _shown(paragraph, fact.number, rng)))
    missing = rng.random() < NONE_SHARE
    if missing:
        del contexts[1]
    contexts += _others(records, second, by_kind, rng, rng.randint(1, 3))
    rng.shuffle(contexts)
    missing = not stands_in(second.value, contexts) if missing else False
    return Sample(query, tuple(contexts), NONE if missing else second.value)


def _others(
    records: Sequence[Record], fact: Fact, by_kind: dict[int, list[Fact]], rng: random.Random, count: int
) -> list[Context]:
    """Passages of other subjects: those that say the same of somebody else, and neighbours of the same question."""
    found: list[Context] = []
    group = by_kind[fact.kind]
    for _ in range(count):
        if rng.random() < 0.6 and len(group) > 1:
            other = rng.choice(group)
            paragraph, number = records[other.record].paragraphs[other.paragraph], other.number
        else:
            paragraph, number = rng.choice(records[fact.record].paragraphs), 0
        if paragraph.sentences and plain(base_name(paragraph.title)) != plain(fact.subject):
            found.append((paragraph.title, _shown(paragraph, min(number, len(paragraph.sentences) - 1), rng)))
    return found


def _shown(paragraph: Paragraph, must: int, rng: random.Random) -> str:
    """Up to three sentences as the product shows them: the first, the one that counts, perhaps another."""
    chosen = {must}
    if rng.random() < 0.85:
        chosen.add(0)
    if rng.random() < 0.5:
        chosen.add(rng.randrange(len(paragraph.sentences)))
    words: list[str] = []
    for n in sorted(chosen):
        sentence = paragraph.sentences[n].split()
        if n == must or len(words) + len(sentence) <= _LONGEST:
            words += sentence
    return " ".join(words[: _LONGEST * 2])
