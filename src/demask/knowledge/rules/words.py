"""English words that the rules of question making need to know; lists only.

past_tense("become"), third_person("carry")  # "became", "carries"
"""

import re

MONTHS = frozenset(
    """January February March April May June July August September October November December""".split()
)

_IRREGULAR_PAST = dict(
    pair.split(":")
    for pair in """
    arise:arose awake:awoke bear:bore beat:beat become:became begin:began bend:bent bet:bet bid:bid
    bind:bound bite:bit blow:blew break:broke bring:brought broadcast:broadcast build:built buy:bought
    cast:cast catch:caught choose:chose come:came cost:cost cut:cut deal:dealt dig:dug do:did draw:drew
    drink:drank drive:drove eat:ate fall:fell feed:fed feel:felt fight:fought find:found flee:fled
    fly:flew forbid:forbade forecast:forecast foresee:foresaw forget:forgot forgive:forgave freeze:froze
    get:got give:gave go:went grow:grew have:had hear:heard hide:hid hit:hit hold:held hurt:hurt
    keep:kept know:knew lay:laid lead:led leave:left lend:lent let:let lose:lost make:made mean:meant
    meet:met oversee:oversaw overtake:overtook overthrow:overthrew overcome:overcame pay:paid put:put
    read:read ride:rode ring:rang rise:rose run:ran say:said see:saw seek:sought sell:sold send:sent
    set:set shake:shook shoot:shot show:showed shut:shut sing:sang sink:sank sit:sat sleep:slept
    speak:spoke spend:spent split:split spread:spread stand:stood steal:stole stick:stuck strike:struck
    swear:swore sweep:swept swim:swam take:took teach:taught tear:tore tell:told think:thought
    throw:threw undergo:underwent understand:understood undertake:undertook upset:upset wear:wore
    win:won withdraw:withdrew withstand:withstood write:wrote""".split()
)
_DOUBLING = re.compile(
    r"(?!limit|offer|differ|suffer)(?:[^aeiou]*[aeiou][bdgklmnprt]|.*(?:mit|fer|cur|trol|pel|bel|plan|quit|quip))"
)

COUNTRIES = frozenset(
    name.strip()
    for name in """
    Afghanistan, Albania, Algeria, Andorra, Angola, Argentina, Armenia, Australia, Austria, Azerbaijan,
    Bahrain, Bangladesh, Barbados, Belarus, Belgium, Belize, Benin, Bhutan, Bolivia, Botswana, Brazil,
    Brunei, Bulgaria, Burkina Faso, Burundi, Cambodia, Cameroon, Canada, Chad, Chile, China, Colombia,
    Costa Rica, Croatia, Cuba, Cyprus, Czech Republic, Czechia, Denmark, Djibouti, Dominica, Ecuador,
    Egypt, El Salvador, Eritrea, Estonia, Ethiopia, Fiji, Finland, France, Gabon, Germany, Ghana,
    Greece, Grenada, Guatemala, Guinea, Guyana, Haiti, Honduras, Hungary, Iceland, India, Indonesia,
    Iran, Iraq, Ireland, Israel, Italy, Ivory Coast, Jamaica, Japan, Jordan, Kazakhstan, Kenya,
    Kiribati, Kosovo, Kuwait, Kyrgyzstan, Laos, Latvia, Lebanon, Lesotho, Liberia, Libya, Liechtenstein,
    Lithuania, Luxembourg, Madagascar, Malawi, Malaysia, Maldives, Mali, Malta, Mauritania, Mauritius,
    Mexico, Moldova, Monaco, Mongolia, Montenegro, Morocco, Mozambique, Myanmar, Namibia, Nauru, Nepal,
    Netherlands, New Zealand, Nicaragua, Niger, Nigeria, North Korea, North Macedonia, Norway, Oman,
    Pakistan, Palau, Panama, Papua New Guinea, Paraguay, Peru, Philippines, Poland, Portugal, Qatar,
    Romania, Russia, Rwanda, Samoa, San Marino, Saudi Arabia, Senegal, Serbia, Seychelles, Sierra Leone,
    Singapore, Slovakia, Slovenia, Somalia, South Africa, South Korea, South Sudan, Soviet Union, Spain,
    Sri Lanka, Sudan, Suriname, Sweden, Switzerland, Syria, Taiwan, Tajikistan, Tanzania, Thailand,
    Togo, Tonga, Tunisia, Turkey, Turkmenistan, Tuvalu, Uganda, Ukraine, United Arab Emirates, United
    Kingdom, United States, Uruguay, Uzbekistan, Vanuatu, Venezuela, Vietnam, Yemen, Yugoslavia, Zambia,
    Zimbabwe""".split(",")
)

# The last word of a name that says what bears it.
NAME_KINDS = frozenset(
    """academy act agency agreement airline airlines airport alliance archive army assembly association
    award awards bank battalion battle bay bill board bridge bureau canal castle cathedral cemetery
    channel championship church city club coalition college commission committee company conference
    confederation congress constitution consortium convention corporation council county court creek cup
    dam department desert district division dynasty empire expedition federation festival forces
    foundation fund games gallery government group guild harbor harbour highway hospital hotel house
    hotel initiative institute island islands kingdom lake laboratory league library ministry mission
    monastery mountain mountains movement museum navy network newspaper observatory ocean orchestra
    organisation organization palace parliament park parks party peninsula pact plan plateau prison
    prize program programme project province railroad railway reform regiment region republic river
    sanctuary school sea senate service society stadium station street studio studios temple theater
    theatre theorem times tower treaty tribe tribunal trust union university valley village war""".split()
)

# Titles before a name: whoever bears one is a person.
TITLES = frozenset(
    """president minister king queen prince princess emperor empress chancellor senator governor mayor dr
    mr mrs ms sir lord lady pope bishop archbishop general colonel captain professor commander secretary
    saint st duke earl count judge justice author actor actress singer architect composer footballer
    historian philosopher physicist mathematician astronomer engineer inventor director artist""".split()
)

# Common nouns for people.
PEOPLE = frozenset(
    """actor actress archaeologist architect artist astronaut astronomer author biologist botanist brother
    builder captain chemist child commander composer critic daughter designer director doctor emperor
    engineer explorer father founder geologist governor historian inventor journalist judge king leader
    mathematician mayor mechanic merchant minister monk mother musician novelist nurse painter
    philosopher photographer physicist pilot poet president prince princess professor queen reporter
    researcher sailor scholar scientist sculptor senator settler singer sister soldier son student
    teacher trader wife husband writer""".split()
)

# One of a kind, so that "the" needs nothing before it.
ONE_OF_A_KIND = frozenset(
    """atmosphere earth environment equator internet moon ocean planet sea sky solar sun universe world
    past future present public east west north south century""".split()
)

# What these describe is in another sentence.
LEANING_WORDS = frozenset(
    """above again another accordingly afterwards afterward already below consequently conversely each
    either else elsewhere eventually former further furthermore hence here however instead later latter
    likewise meanwhile moreover neither nevertheless next nonetheless other others otherwise previous
    previously respectively same similar similarly so subsequent subsequently such then there thereafter
    therefore these this those thus too yet following now today currently recently one ones latest
    certain nearby locally""".split()
)

# Too vague to be a part of an answer.
QUANTIFIERS = frozenset("all any few many more most much no several some various numerous".split())

# Discourse adverbs that may be left out.
LOOSE_ADVERBS = frozenset(
    """also however therefore thus moreover furthermore additionally meanwhile consequently nevertheless
    nonetheless indeed similarly likewise finally subsequently hence accordingly instead eventually
    ultimately notably typically generally""".split()
)

# Whoever does these, or has them done to, is a person rather than a body or a thing.
PERSON_VERBS = frozenset(
    """appoint argue arrest bear believe compose crown die elect execute graduate imprison inherit marry
    murder nominate paint patent postulate propose resign retire star study succeed teach write""".split()
)

# What is done to things and bodies, not to people.
THING_VERBS = frozenset(
    """abolish adopt base broadcast build close complete compose construct create demolish design
    discontinue discover draft enact erect establish expand form found headquarter hold install
    introduce invent launch locate make merge open operate own pass produce publish record release
    rename restore run situate use""".split()
)

# Prepositions that can stand before a question word.
FRONTED = frozenset("against by for from into through to under with".split())

# Nouns that say next to nothing as an answer.
VAGUE_NOUNS = frozenset(
    """ability access addition advantage aim amount area aspect attempt basis case cause change
    characteristic choice company concept condition consequence contribution control country course
    decision deal degree difference effect effort element end event evidence example existence extent
    fact factor feature figure form function goal group growth idea impact importance increase influence
    information issue item kind lack level life list lot majority manner matter means member method
    minority name need number object one opportunity option order part people person place point portion
    position possibility power practice presence problem process proportion purpose quality question
    range rate reason reduction relation relationship response rest result role series set share side
    situation sort source stage state step structure success support system task term thing time trend
    type use value variety version view way while work year""".split()
)

FUNCTION_WORDS = frozenset(
    """the of and to in a is was for on as by with that at from it his her its are were be an or which this
    has had not but their have been he she they who into also after""".split()
)


def past_tense(lemma: str) -> str:
    """The past form of a verb other than "be"."""
    if lemma in _IRREGULAR_PAST:
        return _IRREGULAR_PAST[lemma]
    if lemma.endswith("e"):
        return lemma + "d"
    if re.search(r"[^aeiou]y$", lemma):
        return lemma[:-1] + "ied"
    if _DOUBLING.fullmatch(lemma):
        return lemma + lemma[-1] + "ed"
    return lemma + "ed"


def third_person(lemma: str) -> str:
    """The form of a verb that goes with "who" in the present."""
    if lemma in ("be", "have", "do", "go"):
        return {"be": "is", "have": "has", "do": "does", "go": "goes"}[lemma]
    if re.search(r"(?:s|x|z|ch|sh)$", lemma):
        return lemma + "es"
    if re.search(r"[^aeiou]y$", lemma):
        return lemma[:-1] + "ies"
    return lemma + "s"
