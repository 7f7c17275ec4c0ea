"""Plans written by hand for the HotpotQA training questions (the set has no gold plans).

Keyed by question id. A subject is a slot or a range of the question's tokens (words and punctuation
marks, 0-based, half open), so that this file holds none of the data set's text. Questions of the dev
split have none.
"""

from __future__ import annotations

HOTPOT_PLANS: dict[str, tuple[str, ...]] = {
    "5ae40c465542996836b02c25": (
        "1-3 | profession film director | ?1",
        "4-6 | profession film director | ?2",
        "= same",
    ),
    "5a8718c25542991e771816c7": (
        "10-14 | film shot in 1986 | ?1",
        "?1 | director | ?2",
    ),
    "5a9096d85542995651fb51a3": (
        "1-4 | state | ?1",
        "5-8 | state | ?2",
        "= same",
    ),
    "5a809f815542996402f6a5b7": (
        "10-17 | song written after luau | ?1",
        "?1 | writer | ?2",
    ),
    "5a857cc05542991dd0999e59": (
        "3-11 | manuscript in the hand of | ?1",
        "?1 | godfather | ?2",
    ),
    "5ab8562955429934fafe6d68": (
        "4-9 | country of magazine | ?1",
        "10-13 | country of magazine | ?2",
        "= same",
    ),
    "5a8a2d7255429930ff3c0cdd": (
        "6-11 | runner-up | ?1",
        "?1 | front cover of racing video game | ?2",
        "?2 | developer | ?3",
    ),
    "5a7c1f325542996dd594b892": (
        "5-7 | date of formation | ?1",
        "8-10 | date of formation | ?2",
        "= earlier",
    ),
    "5a88064855429938390d3ece": (
        "1-9 | sponsored by beer brand | ?1",
        "?1 | annual output in 2011 | ?2",
    ),
    "5ac3983a554299657fa290f5": (
        "13-17 | place of birth | ?1",
        "?1 | population at the 2011 census | ?2",
    ),
    "5adcfb015542990d50227d7e": (
        "5-7 | country of citizenship | ?1",
        "8-10 | country of citizenship | ?2",
    ),
    "5ab26ce1554299449642c89c": (
        "5-7 | date of birth | ?1",
        "8-10 | date of birth | ?2",
        "= earlier",
    ),
    "5ae5dab455429929b08079d2": ("18-20 | Anglo-Saxon Earl of | ?1",),
    "5a90478a55429933b8a204cc": (
        "0-2 | consultant worked with mayor | ?1",
        "?1 | mayor of city | ?2",
    ),
    "5ae37aad5542992f92d822cf": ("0-3 | chief of staff to Senator | ?1",),
    "5a8842db55429938390d3f09": (
        "4-6 | notable speakers painter | ?1",
        "?1 | precisionist depictions of | ?2",
    ),
    "5ae48ffb5542995ad6573d94": (
        "1-7 | Adelaide team | ?1",
        "?1 | year formed | ?2",
    ),
    "5ae3b0005542992f92d82341": (
        "4-6 | NFL team 1945-1949 | ?1",
        "?1 | state | ?2",
    ),
    "5a8e40795542995a26add496": (
        "14-18 | English pop singer | ?1",
        "?1 | records sold worldwide | ?2",
    ),
    "5ae20b6c5542997283cd235b": (
        "0-3 | plane held on craft | ?1",
        "?1 | first developed | ?2",
    ),
    "5a82383e55429903bc27ba49": (
        "5-11 | state hit by initial tornado | ?1",
        "?1 | named after Native American tribes | ?2",
    ),
    "5ab80d325542990e739ec807": (
        "15-18 | stars | ?1",
        "?1 | founder of pop band | ?2",
    ),
    "5ae226df554299234fd043fd": ("8-11 | Tampa Bay Buccaneers draft history | ?1",),
    "5ae5fa555542996de7b71a9e": (
        "0-2 | residential hall of university | ?1",
        "?1 | located in city | ?2",
    ),
    "5a887479554299206df2b278": (
        "2-4 | OBE | ?1",
        "11-13 | OBE | ?2",
        "= same",
    ),
    "5a906ec35542995b442420b0": (
        "7-14 | receiver | ?1",
        "?1 | position | ?2",
    ),
    "5adffe83554299025d62a3a2": (
        "0-6 | American actress | ?1",
        "?1 | starred in for seven years | ?2",
    ),
    "5a8ac84e55429970aeb7031c": ("4-11 | selected for all-star game | ?1",),
    "5a8b49c855429949d91db52e": (
        "11-15 | scandal in 2008 | ?1",
        "?1 | actresses involved | ?2",
    ),
    "5ade7f165542992fa25da796": (
        "0-2 | biographer of contract killer | ?1",
        "?1 | associated with crime family | ?2",
    ),
    "5a727bc85542994cef4bc2d2": ("2-4 | pregnant during the recording of Dear Brother | ?1",),
    "5ae77176554299540e5a5593": ("0-3 | year released | ?1",),
    "5a7cdb3c554299683c1c63a1": (
        "1-3 | century developed | ?1",
        "10-13 | century developed | ?2",
    ),
    "5ae1e3955542997f29b3c169": (
        "0-3 | singer-songwriter | ?1",
        "?1 | from state | ?2",
    ),
    "5a8b07ef55429971feec4624": ("0-2 | starred Canadian actress | ?1",),
    "5a78dfdd55429974737f78eb": (
        "6-9 | date of formation | ?1",
        "13-15 | date of birth | ?2",
        "= earlier",
    ),
    "5a8326565542990548d0b194": (
        "6-16 | most known for single | ?1",
        "?1 | producer | ?2",
    ),
    "5ac3a60f5542993915413880": (
        "1-3 | country of citizenship | ?1",
        "4-7 | country of citizenship | ?2",
        "= same",
    ),
    "5adf5d8d5542995ec70e8fd4": (
        "7-18 | actor | ?1",
        "?1 | had a child with | ?2",
    ),
    "5a8cb4e0554299653c1aa0ef": (
        "14-15 | novel based on historical figure | ?1",
        "?1 | transported to country | ?2",
    ),
    "5ab7b1e55542992aa3b8c84a": ("0-2 | graduated from college preparatory school | ?1",),
    "5a72cee45542991f9a20c5a2": (
        "1-4 | released by label | ?1",
        "5-8 | released by label | ?2",
    ),
    "5ae1792a55429901ffe4ae94": (
        "3-5 | role in Collective Soul | ?1",
        "6-8 | role in Counting Crows | ?2",
    ),
    "5a77168755429937353601cb": ("5-13 | song debuted | ?1",),
    "5a8126e555429938b61422d3": (
        "2-7 | profession nationality | ?1",
        "8-10 | profession nationality | ?2",
    ),
    "5abcd1c75542993a06baf972": (
        "6-8 | date first published | ?1",
        "9-11 | date first published | ?2",
        "= earlier",
    ),
    "5ab6f28d5542995eadef00f2": (
        "1-2 | animated feature | ?1",
        "3-7 | animated feature | ?2",
        "= same",
    ),
    "5a7bbded554299042af8f7d2": (
        "17-19 | chief of staff at | ?1",
        "13-15 | offices located in city | ?2",
    ),
    "5ae32b105542994393b9e63d": ("10-12 | writer | ?1",),
    "5abb06af5542992ccd8e7ebd": (
        "1-3 | career | ?1",
        "4-6 | career | ?2",
    ),
    "5a8531265542997b5ce3ffba": (
        "6-9 | writer of the song | ?1",
        "?1 | second wife of singer | ?2",
    ),
    "5ae49bda55429970de88d9d8": (
        "0-3 | voice of Rosie on animated sitcom | ?1",
        "?1 | premiere date | ?2",
    ),
    "5ac3f25c554299204fd21ed6": (
        "1-3 | member of band | ?1",
        "4-8 | member of band | ?2",
        "= same",
    ),
    "5ae5f8215542996de7b71a90": (
        "0-2 | fictional character from soap opera | ?1",
        "?1 | creator | ?2",
    ),
    "5a733bb45542992359bc32a0": ("20-24 | former employees company | ?1",),
    "5ac1324855429964131be178": ("0-3 | starred actor | ?1",),
    "5adbfb9955429947ff17388f": (
        "6-12 | founders | ?1",
        "?1 | contributed to Mississippi Education Reform Act | ?2",
    ),
    "5ae619515542995703ce8afc": ("5-8 | activity acronym | ?1",),
    "5ae0e6905542990adbacf6bc": (
        "6-10 | big screen debut film | ?1",
        "?1 | director | ?2",
    ),
    "5adff9ea55429942ec259bb1": ("21-25 | date of death | ?1",),
    "5abecf915542997719eab5e0": ("0-5 | guest appearance rapper from Harlem | ?1",),
    "5ac0eb285542992a796dedb7": ("1-7 | compilation album of rare demo tracks | ?1",),
    "5a88f61055429938390d4005": (
        "9-16 | name | ?1",
        "?1 | footballer who plays for | ?2",
        "?2 | position | ?3",
    ),
    "5a88d89f554299206df2b37b": (
        "5-8 | missed the entire 2003-2004 season due to knee injury | ?1",
        "?1 | host of show | ?2",
    ),
    "5abace1f554299232ef4a396": (
        "7-11 | resigned to be lobbyist for company | ?1",
        "?1 | date founded | ?2",
    ),
    "5ae717ec5542995703ce8bd0": ("4-10 | mother | ?1",),
    "5ac5244655429924173fb600": (
        "22-25 | only female music director | ?1",
        "?1 | 1988 comedy produced by D.P. Varma | ?2",
    ),
    "5a83264355429954d2e2ec33": (
        "12-14 | starred in British comedy | ?1",
        "?1 | franchise produced by Peter Rogers | ?2",
    ),
    "5a84b7765542997b5ce3ff28": (
        "14-19 | band formed in 1981 in Los Angeles | ?1",
        "34-37 | hosted ?1 in city | ?2",
    ),
    "5a79caf55542996c55b2dc72": (
        "3-5 | date first served pizza | ?1",
        "0-2 | date first served pizza | ?2",
        "= earlier",
    ),
    "5a8501655542997175ce1f58": (
        "0-3 | actress | ?1",
        "?1 | part on The Brady Bunch | ?2",
    ),
}
