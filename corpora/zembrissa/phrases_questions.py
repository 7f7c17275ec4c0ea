"""How questions say things: noun phrases for a step along a relation, and the question for the last fact."""

# One step forward: {x} is the holder of the fact, the phrase names its value.
FORWARD = {
    ("book", "author"): ["the author of {x}", "the writer of {x}", "the person who wrote {x}"],
    ("book", "publisher"): ["the publisher of {x}", "the house that published {x}"],
    ("book", "setting"): ["the town in which {x} is largely set"],
    ("opera", "composer"): ["the composer of {x}", "the person who composed {x}"],
    ("opera", "libretto"): ["the librettist of {x}", "the person who wrote the libretto of {x}"],
    ("opera", "town"): ["the town where {x} was first performed", "the town that saw the premiere of {x}"],
    ("company", "founder"): ["the founder of {x}", "the person who founded {x}"],
    ("company", "seat"): ["the town where {x} had its head office", "the town in which {x} was based"],
    ("ship", "builder"): ["the yard that built {x}", "the builder of {x}", "the company that built {x}"],
    ("ship", "port"): ["the home port of {x}"],
    ("ship", "honours"): ["the person after whom {x} was named", "the person in whose honour {x} was named"],
    ("lighthouse", "designer"): ["the designer of {x}", "the person who designed {x}"],
    ("lighthouse", "contractor"): ["the company that built {x}", "the builder of {x}"],
    ("lighthouse", "near"): ["the town nearest to {x}"],
    ("museum", "architect"): ["the architect of {x}", "the person who designed the building of {x}"],
    ("museum", "town"): ["the town in which {x} stands"],
    ("instrument", "maker"): ["the maker of {x}", "the person who made {x}"],
    ("instrument", "museum"): ["the museum that keeps {x}", "the museum where {x} is kept"],
    ("treaty", "mediator"): ["the mediator of {x}", "the person who mediated {x}"],
    ("treaty", "place"): ["the town where {x} was signed"],
    ("expedition", "leader"): ["the leader of {x}", "the person who led {x}"],
    ("expedition", "ship"): ["the ship used by {x}", "the ship in which {x} sailed"],
    ("person", "ship"): ["the ship commanded by {x}", "the ship that {x} commanded"],
    ("person", "teacher"): ["the teacher of {x}", "the person who taught {x}"],
    ("person", "spouse"): ["the spouse of {x}", "the person whom {x} married"],
    ("person", "school"): ["the school attended by {x}", "the school where {x} was educated"],
    ("person", "birthplace"): ["the birthplace of {x}", "the town where {x} was born"],
    ("school", "town"): ["the town in which {x} stood"],
    ("town", "island"): ["the island on which {x} lies"],
}

# One step backward: {x} is the value, the phrase names the only holder of it.
BACKWARD = {
    ("lighthouse", "designer"): ["the lighthouse designed by {x}"],
    ("book", "author"): ["the book written by {x}"],
    ("opera", "composer"): ["the opera composed by {x}"],
    ("opera", "libretto"): ["the opera whose libretto was written by {x}"],
    ("company", "founder"): ["the company founded by {x}"],
    ("treaty", "mediator"): ["the agreement mediated by {x}"],
    ("expedition", "leader"): ["the expedition led by {x}"],
    ("museum", "architect"): ["the museum whose building was designed by {x}"],
    ("instrument", "maker"): ["the instrument made by {x}"],
}

# The last fact; questions may say "he or she" nowhere, so that the sex of an unnamed person is not given away.
ASK = {
    ("person", "birthplace"): [
        "Where was {x} born?",
        "In which town was {x} born?",
        "What is the birthplace of {x}?",
        "Which town was the birthplace of {x}?",
    ],
    ("person", "deathplace"): ["Where did {x} die?", "In which town did {x} die?"],
    ("person", "school"): [
        "Where was {x} educated?",
        "Which school did {x} attend?",
        "At which school was {x} educated?",
    ],
    ("person", "teacher"): ["Who was the teacher of {x}?", "Under whom did {x} study?", "Who taught {x}?"],
    ("person", "spouse"): ["Who was the spouse of {x}?", "Whom did {x} marry?"],
    ("person", "ship"): [
        "Which ship did {x} command?",
        "What was the name of the ship commanded by {x}?",
        "Of which ship was {x} the captain?",
    ],
    ("person", "birth"): ["When was {x} born?", "What is the date of birth of {x}?"],
    ("person", "death"): ["When did {x} die?", "On what date did {x} die?"],
    ("ship", "builder"): ["Which company built {x}?", "Who built {x}?", "Which yard built {x}?"],
    ("ship", "port"): ["What was the home port of {x}?", "Which town was the home port of {x}?"],
    ("ship", "honours"): ["After whom was {x} named?"],
    ("ship", "launched"): ["When was {x} launched?", "On what date was {x} launched?"],
    ("ship", "length"): ["How long was {x}?", "What was the length of {x}?"],
    ("company", "founder"): ["Who founded {x}?", "Who was the founder of {x}?", "By whom was {x} founded?"],
    ("company", "seat"): [
        "In which town was {x} based?",
        "Where did {x} have its head office?",
        "Where was {x} based?",
    ],
    ("company", "founded"): ["In what year was {x} founded?", "When was {x} founded?"],
    ("company", "hands"): [
        "How many people did {x} employ at its height?",
        "How many workers did {x} have in its best years?",
    ],
    ("school", "town"): ["In which town was {x}?", "Where was {x}?"],
    ("school", "founded"): ["In what year was {x} founded?"],
    ("lighthouse", "designer"): ["Who designed {x}?"],
    ("lighthouse", "contractor"): ["Which company built {x}?", "Which firm put up {x}?"],
    ("lighthouse", "near"): ["Which town is {x} near?", "Near which town is {x}?"],
    ("lighthouse", "height"): ["How tall is {x}?", "What is the height of {x}?"],
    ("lighthouse", "lit"): ["When was {x} first lit?", "On what date was {x} first lit?"],
    ("lighthouse", "steps"): ["How many steps are there in {x}?"],
    ("museum", "architect"): ["Who was the architect of {x}?", "Who designed the building of {x}?"],
    ("museum", "town"): ["In which town is {x}?", "Where is {x}?"],
    ("museum", "opened"): ["When did {x} open?", "On what date did {x} open?"],
    ("museum", "objects"): ["How many objects are in the collection of {x}?"],
    ("instrument", "museum"): ["Which museum keeps {x}?", "In which museum is {x} kept?"],
    ("instrument", "made"): ["In what year was {x} made?"],
    ("instrument", "maker"): ["Who made {x}?"],
    ("instrument", "mass"): ["How heavy is {x}?", "What is the mass of {x}?"],
    ("book", "publisher"): ["Who published {x}?", "Which house published {x}?"],
    ("book", "setting"): ["In which town is {x} largely set?"],
    ("book", "published"): ["When was {x} published?", "On what date was {x} published?"],
    ("book", "copies"): [
        "How many copies of {x} were in the first printing?",
        "How many copies of {x} were printed at first?",
    ],
    ("book", "author"): ["Who wrote {x}?"],
    ("opera", "libretto"): ["Who wrote the libretto of {x}?"],
    ("opera", "town"): ["Where was {x} first performed?", "In which town did {x} have its premiere?"],
    ("opera", "premiere"): ["When was {x} first performed?", "On what date did {x} have its premiere?"],
    ("treaty", "mediator"): ["Who mediated {x}?"],
    ("treaty", "place"): ["Where was {x} signed?", "In which town was {x} signed?"],
    ("treaty", "signed"): ["When was {x} signed?", "On what date was {x} signed?"],
    ("treaty", "articles"): ["How many articles does {x} have?"],
    ("expedition", "leader"): ["Who led {x}?"],
    ("expedition", "ship"): ["In which ship did {x} sail?", "Which ship did {x} use?"],
    ("expedition", "sponsor"): ["Which company paid for {x}?", "Who paid for {x}?"],
    ("expedition", "began"): ["In what year did {x} set out?"],
    ("expedition", "members"): ["How many people took part in {x}?"],
    ("town", "island"): ["On which island is {x}?", "Which island is home to {x}?"],
    ("town", "river"): [
        "Which river runs through {x}?",
        "What is the name of the river that runs through {x}?",
    ],
    ("town", "charter"): ["In what year did {x} receive its charter?"],
    ("town", "people"): ["What is the population of {x}?", "How many people live in {x}?"],
    ("island", "peak"): [
        "What is the highest point of {x}?",
        "What is the name of the highest point on {x}?",
    ],
    ("island", "language"): ["What is the main language of {x}?"],
}

DATES = frozenset(
    "birth death launched lit opened published premiere signed founded made began charter".split()
)
NUMBERS = frozenset("length hands height steps objects mass copies articles members people".split())

# What a search plan calls a step; backwards it is the work of a person. Only the benchmark file of another world holds these.
RELATIONS = {
    ("ship", "builder"): "builder",
    ("ship", "port"): "home port",
    ("ship", "honours"): "named after",
    ("ship", "launched"): "date of launch",
    ("company", "seat"): "head office",
    ("company", "founded"): "year founded",
    ("company", "hands"): "number of workers",
    ("school", "founded"): "year founded",
    ("lighthouse", "contractor"): "built by company",
    ("lighthouse", "near"): "nearest town",
    ("lighthouse", "lit"): "date first lit",
    ("lighthouse", "steps"): "number of steps",
    ("museum", "opened"): "date opened",
    ("museum", "objects"): "number of objects",
    ("instrument", "museum"): "museum",
    ("instrument", "made"): "year made",
    ("book", "setting"): "setting",
    ("book", "published"): "date of publication",
    ("book", "copies"): "copies first printed",
    ("opera", "libretto"): "librettist",
    ("opera", "town"): "town of premiere",
    ("opera", "premiere"): "date of premiere",
    ("treaty", "place"): "place signed",
    ("treaty", "signed"): "date signed",
    ("treaty", "articles"): "number of articles",
    ("expedition", "sponsor"): "paid for by",
    ("expedition", "began"): "year set out",
    ("expedition", "members"): "number of members",
    ("person", "birth"): "date of birth",
    ("person", "death"): "date of death",
    ("person", "deathplace"): "place of death",
    ("person", "ship"): "ship commanded",
    ("town", "charter"): "year of charter",
    ("town", "people"): "population",
    ("island", "peak"): "highest point",
}
BACKWARD_RELATIONS = {
    ("lighthouse", "designer"): "lighthouse designed",
    ("book", "author"): "book written",
    ("opera", "composer"): "opera composed",
    ("opera", "libretto"): "opera libretto written",
    ("company", "founder"): "company founded",
    ("treaty", "mediator"): "agreement mediated",
    ("expedition", "leader"): "expedition led",
    ("museum", "architect"): "museum designed",
    ("instrument", "maker"): "instrument made",
}

# Comparisons of two entities by one fact: kind, key, wordings, and whether the smaller value wins.
COMPARE = [
    (
        "person",
        "birth",
        [
            "Who was born first, {a} or {b}?",
            "Who was born earlier, {a} or {b}?",
            "Who was older, {a} or {b}?",
        ],
        True,
    ),
    (
        "ship",
        "length",
        ["Which ship was longer, {a} or {b}?", "Which was the longer ship, {a} or {b}?"],
        False,
    ),
    ("ship", "launched", ["Which ship was launched first, {a} or {b}?"], True),
    (
        "lighthouse",
        "height",
        ["Which is taller, {a} or {b}?", "Which lighthouse is taller, {a} or {b}?"],
        False,
    ),
    ("lighthouse", "lit", ["Which was lit earlier, {a} or {b}?"], True),
    (
        "company",
        "founded",
        ["Which firm was founded earlier, {a} or {b}?", "Which is the older company, {a} or {b}?"],
        True,
    ),
    ("book", "published", ["Which was published first, {a} or {b}?"], True),
    ("treaty", "articles", ["Which has more articles, {a} or {b}?"], False),
    ("museum", "opened", ["Which museum opened first, {a} or {b}?"], True),
    ("person", "death", ["Who died later, {a} or {b}?"], False),
]
SAME = [
    (
        "person",
        "birthplace",
        ["Were {a} and {b} born in the same town?", "Do {a} and {b} share a birthplace?"],
    ),
    (
        "person",
        "school",
        ["Were {a} and {b} educated at the same school?", "Did {a} and {b} attend the same school?"],
    ),
    (
        "ship",
        "builder",
        ["Were {a} and {b} built by the same yard?", "Did the same company build {a} and {b}?"],
    ),
    ("ship", "port", ["Did {a} and {b} have the same home port?"]),
    ("company", "seat", ["Were {a} and {b} based in the same town?"]),
    ("museum", "town", ["Are {a} and {b} in the same town?"]),
    ("lighthouse", "contractor", ["Were {a} and {b} built by the same company?"]),
]
# Comparisons one step away: the kind named, the step to the person, the fact, the wordings.
COMPARE_FAR = [
    (
        "book",
        "author",
        "birth",
        ["Whose author was born first, {a} or {b}?", "Which book has the older author, {a} or {b}?"],
        True,
    ),
    ("company", "founder", "birth", ["Which company's founder was born earlier, {a} or {b}?"], True),
    (
        "lighthouse",
        "designer",
        "birth",
        ["Which lighthouse was designed by the older person, {a} or {b}?"],
        True,
    ),
    ("opera", "composer", "death", ["Which opera is by the composer who died later, {a} or {b}?"], False),
]

# Relations that no article records for anybody.
NEVER_TOLD = {
    "ship": [
        "Who carved the figurehead of {x}?",
        "How much did it cost to build {x}?",
        "Who owned {x} at the time of her launch?",
    ],
    "person": [
        "How many children did {x} have?",
        "What instrument did {x} play?",
        "What was the name of the mother of {x}?",
    ],
    "company": ["In what year did {x} close down?", "What was the annual profit of {x} in its best year?"],
    "lighthouse": ["Who was the first keeper of {x}?", "How far out to sea can the light of {x} be seen?"],
    "town": ["Who is the mayor of {x}?"],
    "opera": ["Who conducted the first performance of {x}?"],
    "treaty": ["How long did the negotiations over {x} last?"],
}
