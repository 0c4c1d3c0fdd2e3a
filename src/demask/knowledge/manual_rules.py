"""What a manual says of things with names, as questions by rules.

    for statement in find_statements(sentence):                 # by its form alone
        for question in ask_about_thing(statement, english(statement.plain)):
            question.text, question.answers, question.direction

A sentence must have one of a few forms from its first word to its last, and all of it becomes the question or
the answer, so that no condition is lost: "The dirs builtin displays the contents of the directory stack.",
"A subshell is a copy of the shell process.", "... is called a tag.", "core.logFile defaults to 5 MiB."
The one exception is the long form of an abbreviation, which its first letters prove.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

from demask.knowledge.rule_questions import LEANING, TURNING, Question, is_sound

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

Form = Literal["which", "definition", "called", "default", "abbreviation"]

# In brackets: footnotes, short forms, examples.
_REMARK = re.compile(r"\s*(?:\([^()]*\)|\[[^\[\]]*\])")
_QUOTED = re.compile(r"(?<!\w)[\u2018“`\"']+(?P<inside>[\w./$-]+(?:\(\))?)[\u2019”`\"']+(?!\w)")
_NOT_PLAIN = re.compile(
    r"[?!:;\"“”\u2018|<>{}\[\]=\\*`~^→…]|--|\.\.|(?:^|\s)['\u2019]|\((?!\))|(?<!\()\)|\.\s"
)
_NAME = r"[A-Za-z_$./](?:[\w./$+-]*[\w/])?"
_KIND = (
    "(?:(?:shell|environment|configuration|builtin|built-in|system|kernel|config) )?"
    "(?:variable|builtin|command|function|utility|program|directive|method|keyword|macro|daemon|tool|file|"
    "directory|package|module|class|option|setting|script|service|library|driver|"
    "header|exception|signal|view|catalog|call|statement|operator|extension|plugin|protocol|"
    "constant|decorator)"
)
_THING = re.compile(rf"The (?P<name>{_NAME})(?:\(\))? (?P<kind>{_KIND}) (?P<rest>[a-z].*)\.")
_CALL = re.compile(r"(?P<name>[A-Za-z_]\w*(?:\.\w+)*)\(\) (?P<rest>[a-z].*)\.")
_DEFINITION = re.compile(
    rf"(?P<article>An? )?(?P<name>{_NAME}(?: [\w-]+){{0,2}}?) is (?P<rest>(?:an?|the) [\w-]+ .*)\."
)
_CALLED = re.compile(
    r"(?P<rest>(?:An?|The) [^,]*) (?P<verb>(?:is|are) (?:usually |often |also )?(?:called|known as|termed)) "
    r"(?P<name>(?:(?:an?|the) )?[\w./-]+(?: [\w./-]+){0,3})\."
)
_DEFAULT = re.compile(
    rf"(?:(?P<name>{_NAME}) defaults to|The default (?:value )?(?:of|for) (?P<of>(?:the )?{_NAME}"
    rf"(?: {_KIND})?) is) (?P<rest>[\w./$%+-]+(?: [\w./$%+-]+){{0,3}})\."
)
_SECOND_CALL = re.compile(r"\b(?:and|or|but) [\w.]+\(\) [a-z]+s\b")  # another sentence, of another function
_SHORT = re.compile(r"(?P<words>(?:[A-Za-z][\w'’/-]* +){2,8})\((?P<short>[A-Z][A-Za-z]*[A-Z])s?\)")
_SHORTEST, _LONGEST_SHORT = 2, 8  # letters of an abbreviation
_OPTIONAL = frozenset("of and for the in on to a".split())  # words that an abbreviation may pass over

# Of these a lowercase word of the dictionary may be the name: "the let builtin", "the set command".
_PLAINLY_NAMED = frozenset("command builtin directive keyword statement macro".split())
# Words in front of these that say which kind is meant, and name nothing.
_SORTS = frozenset(
    """shell unix linux git server client user system new editor debugger source build next last first second
    external internal simple compound child parent remote local current actual original main resulting
    default target host script option input output plot given single whole final sort key file data test
    search control install make upstream replacement callback filename username hostname util
    metadata""".split()
)
_PREFIXES = frozenset("non pre sub multi re un per built post co user so well self".split())
# What these speak of is in another sentence, or is the document.
_ELSEWHERE = frozenset(
    """but it its they them their he his she her you your we our us i my example examples section chapter
    figure table listing page manual document documentation tutorial guide appendix described discussed
    listed shown mentioned explained see i.e e.g eg ie etc do so""".split()
)
# A name does not begin so, and holds no such word.
_DETERMINERS = frozenset("the a an all any some no every most many another optional".split())
# What these say fits many things, in a definition, as a verb, and in what a thing does.
_VAGUE_NOUNS = frozenset(
    """part case way reason choice problem advantage drawback result commitment term name thing kind sort type
    example one idea difference matter task step question issue goal purpose aim benefit place point fact
    value default number alternative synonym alias subclass superset subset variant version solution feature
    candidate option parameter argument issue challenge topic exception list sequence string integer boolean
    flag path callable object tuple dictionary key index activity area field world fact""".split()
)
# Many things of a kind do these, and what is behind them hardly tells which.
_VAGUE_ACTS = frozenset("have take support need".split())
_VAGUE_VERBS = frozenset("have take use support need give make do include be get allow provide let".split())
_VAGUE = frozenset(
    """necessary several various many additional different some available relevant appropriate corresponding
    arbitrary required specified given all few more most multiple useful own possible any number following
    proper desired necessary actual whole entire""".split()
)
# What somebody thinks of a thing.
_OPINIONS = frozenset(
    """vast mature difficult good great typical powerful popular convenient nice regimented interesting
    important main very relatively quite well-known famous excellent large small big full complete
    comprehensive modern simple new sharp rich crude""".split()
)
_VAGUE_STATES = frozenset(
    """available useful similar identical deprecated obsolete different experimental optional able possible
    important necessary helpful good best easy simple ready equivalent equal greater less
    larger smaller responsible free required valid
    common popular present compatible""".split()
)
# Behind a comma.
_CLAUSES = frozenset(
    "which where when if so because since although though unless as even while and or but".split()
)
_LISTS = frozenset(("and", "or"))
# Passives that say what a thing is there for.
_PURPOSES = frozenset("use design intend supply mean".split())
_LEAST_CONTENT = 4  # different content words of a question that names nothing
_LEAST_DEFINITION = 5  # and of a definition: "the hash function specified by NIST" is more than one
_LEAST_ANSWER = 2  # content words of what a thing does
_LONGEST_ANSWER = 6  # words
_LONGEST_REST = 26  # words
_PRESENT = frozenset({"VBZ", "VBP", "MD"})
_FUTURE = frozenset(("will", "would", "should"))  # or demands
_CONTENT = frozenset({"NOUN", "PROPN", "VERB", "ADJ", "NUM"})


class Statement(NamedTuple):
    """A sentence of one of the forms, cut at its seams."""

    form: Form
    name: str  # what is named: the answer, or what a default or an abbreviation is of
    kind: str  # "variable", for the form "which"; an article for a definition
    rest: str  # what is said of it
    plain: str  # the sentence as it is parsed: a word in place of a name that no parser knows


def find_statements(raw: str) -> Iterator[Statement]:
    """The forms that a sentence has; most have none.

    Args:
        raw: as it stands in the text.
    """
    sentence = " ".join(raw.split())
    if not sentence.endswith("."):
        return
    yield from _find_abbreviations(sentence)
    remarks = {word for remark in _REMARK.findall(sentence) for word in re.findall(r"[\w']+", remark.lower())}
    if not remarks.isdisjoint(TURNING):
        return
    sentence = _QUOTED.sub(r"\g<inside>", sentence)
    sentence = re.sub(r"(?<=\w)\(\)", "\0", sentence)  # no remark, but a function
    sentence = _REMARK.sub("", sentence).replace("\0", "()").replace(" also ", " ")
    if _NOT_PLAIN.search(sentence) or _SECOND_CALL.search(sentence):
        return
    if found := _DEFAULT.fullmatch(sentence):
        yield Statement("default", found["name"] or found["of"], "", found["rest"], sentence)
    elif found := _CALLED.fullmatch(sentence):
        yield Statement("called", found["name"], found["verb"], found["rest"], sentence)
    elif found := _THING.fullmatch(sentence):
        plain = f"The Alpha {found['kind']} {found['rest']}."
        yield Statement("which", found["name"], found["kind"], found["rest"], plain)
    elif found := _CALL.fullmatch(sentence):
        plain = f"The Alpha function {found['rest']}."
        yield Statement("which", found["name"] + "()", "function", found["rest"], plain)
    elif found := _DEFINITION.fullmatch(sentence):
        article = found["article"] or ""
        yield Statement("definition", found["name"], article, found["rest"], sentence)


def _find_abbreviations(sentence: str) -> Iterator[Statement]:
    for found in _SHORT.finditer(sentence):
        long = find_long_form(found["words"].split(), found["short"])
        if long:
            yield Statement("abbreviation", found["short"], "", long, sentence)


def find_long_form(words: Sequence[str], short: str) -> str:
    """The last words of a phrase whose first letters are an abbreviation; empty where there are none."""
    if not _SHORTEST <= len(short) <= _LONGEST_SHORT:
        return ""
    letters = short.lower()
    for first in range(len(words) - 2, -1, -1):
        used = words[first:]
        parts = [part for word in used for part in re.split(r"[-/]", word) if part]
        if used[0].lower() in _OPTIONAL:
            continue
        every = "".join(part[0] for part in parts).lower()
        some = "".join(part[0] for part in parts if part.lower() not in _OPTIONAL).lower()
        if letters in (every, some):
            return " ".join(used)
    return ""


def ask_about_thing(statement: Statement, doc: "Doc") -> Iterator[Question]:
    """The questions that a statement gives, the best first.

    Args:
        statement: from `find_statements`.
        doc: `statement.plain` parsed.
    """
    ask = {
        "which": _ask_which,
        "definition": _ask_for_term,
        "called": _ask_what_called,
        "default": _ask_for_default,
        "abbreviation": _ask_for_long_form,
    }[statement.form]
    yield from filter(is_sound, ask(statement, doc))


def _ask_which(statement: Statement, doc: "Doc") -> Iterator[Question]:
    """Which variable does it, and what a variable does."""
    name, kind, rest = statement.name, statement.kind, statement.rest
    tokens = [token for token in doc if token.idx >= doc.text.index(kind) + len(kind)]
    root = doc[:].root
    if not names_thing(name, kind) or not _leads(tokens[0], root) or not _is_whole(root, tokens):
        return
    about = [token for token in tokens if token.lemma_.lower() != kind.split()[-1]]
    if (
        _says_enough(tokens)
        and count_content(about) >= _LEAST_CONTENT
        and not (_is_vague(root) or _spells(rest, name) or gives_away(name, tokens))
    ):
        yield Question(f"Which {kind} {rest}?", (name,), "backward")
    objects = [child for child in root.rights if child.dep_ == "dobj"]
    if root.tag_ != "VBZ" or root != tokens[0] or root.lemma_ in _VAGUE_VERBS or len(objects) != 1:
        return
    answer = tokens[1:-1]
    subtree = {token.i for token in objects[0].subtree}
    whole = all(token.i in subtree and token.lower_ not in _VAGUE for token in answer)
    if whole and len(answer) <= _LONGEST_ANSWER and count_content(answer) >= _LEAST_ANSWER:
        text = doc.text[answer[0].idx : -1]
        if not gives_away(name, answer, least=1):
            yield Question(f"What does the {name} {kind} {root.lemma_}?", (text,), "forward")


def _leads(token: "Token", root: "Token") -> bool:
    """Whether a sentence's verb begins with a word."""
    return token == root or (token.head == root and token.dep_ in ("aux", "auxpass"))


def _is_whole(root: "Token", tokens: "Sequence[Token]") -> bool:
    """Whether a sentence says one thing, of its subject alone, and says that it is so."""
    finite = tokens[0]
    others = [child for child in root.children if child.dep_ in ("conj", "ccomp", "parataxis")]
    second = any(inner.dep_ in ("nsubj", "nsubjpass", "expl") for other in others for inner in other.children)
    negated = any(child.dep_ == "neg" for child in root.children)
    counted = any(a.lower_ == "the" and b.pos_ == "NUM" for a, b in pairwise(tokens))  # "the six"
    plain = finite.tag_ in _PRESENT and finite.lower_ not in _FUTURE and not counted
    return plain and not (second or negated or _points_away(tokens))


def _is_vague(root: "Token") -> bool:
    """Whether what a verb says fits many things: "is available", "is run daily"."""
    if any(child.dep_ == "auxpass" for child in root.children):
        return root.lemma_ not in _PURPOSES
    if any(child.dep_ == "attr" for child in root.rights):
        return True
    states = [child.lower_ for child in root.rights if child.dep_ == "acomp"]
    return root.lemma_ in _VAGUE_ACTS or not _VAGUE_STATES.isdisjoint(states)


def _says_enough(tokens: "Sequence[Token]", least: int = _LEAST_CONTENT) -> bool:
    words = [token for token in tokens if not token.is_punct]
    return len(words) <= _LONGEST_REST and count_content(tokens) >= least and not _runs_on(tokens)


def _runs_on(tokens: "Sequence[Token]") -> bool:
    """Whether a comma stands neither in a list nor before a clause: then the parser often gets it wrong."""
    for place, token in enumerate(tokens):
        behind = [later.lower_ for later in tokens[place + 1 :]]
        if token.text == "," and behind[0] not in _CLAUSES and _LISTS.isdisjoint(behind):
            return True
    return False


def gives_away(name: str, tokens: "Iterable[Token]", *, least: int = 2) -> bool:
    """Whether a name is made of what is said, as "waitstatus_to_exitcode" is of "exit status".

    Args:
        name: as in the text.
        tokens: what is said of it.
        least: words of it whose beginning stands in the name.
    """
    words = [token for token in tokens if token.pos_ in _CONTENT and len(token.lemma_) > 2]
    parts = split_name(name)
    said = {part[:5] for token in words for part in split_name(token.text)}
    told = [part for part in parts if len(part) > 2 and part[:5] in said]
    if len(told) > 1 or (told and told[-1] == parts[-1] and len(parts[-1]) > 3):
        return True
    alike = any(re.sub(r"\W|_", "", token.lower_) == re.sub(r"\W|_", "", name.lower()) for token in words)
    return (
        alike
        or sum(start in name.lower() for start in {token.lemma_.lower()[:5] for token in words}) >= least
    )


def split_name(name: str) -> list[str]:
    """The words that a name is made of: "write", "out" of "writeOut()" and of "write_out"."""
    return [part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)] or [name.lower()]


def _ask_for_term(statement: Statement, doc: "Doc") -> Iterator[Question]:
    """What the term is for what a definition says."""
    name, rest = statement.name, statement.rest
    root = doc[:].root
    subjects = [child for child in root.lefts if child.dep_ == "nsubj"]
    attributes = [child for child in root.rights if child.dep_ == "attr"]
    start = len(statement.kind) + len(name) + 1
    tokens = [token for token in doc if token.idx >= start]
    if root.lemma_ != "be" or root.idx != start or len(subjects) != 1 or len(attributes) != 1:
        return
    head = attributes[0]
    said = any(child.dep_ in ("relcl", "acl", "prep") for child in head.rights)
    opinions = any(inner.lower_ in _OPINIONS for child in head.lefts for inner in child.subtree)
    if (
        not said
        or opinions
        or head.lower_ in _VAGUE_NOUNS
        or not (_is_whole(root, tokens) and _says_enough(tokens, _LEAST_DEFINITION))
    ):
        return
    given = _spells(rest, name) or head.lower_[:3] in name.lower() or gives_away(name, tokens)
    if not given and _is_term(statement, [token for token in doc if token.i < root.i], subjects[0]):
        yield Question(_ask_for_name(statement), (name,), "backward")


def _spells(rest: str, name: str) -> bool:
    """Whether words of a text begin with the letters of a name: "basic block vectors" for "BBV"."""
    words = rest.split()
    return any(find_long_form(words[:end], name) for end in range(2, len(words) + 1))


def _ask_for_name(statement: Statement) -> str:
    """Ask for a term where the sentence says "a" to it, for a name where it is no word of English."""
    name, rest = statement.name, statement.rest
    if statement.kind:
        return f"What is the term for {rest}?"
    if is_code_name(name) or (name[:1].isupper() and not is_word(name)):
        return f"What is the name of {re.sub(r'^an? ', 'the ', rest)}?"
    return f"What do you call {rest}?"


def _is_term(statement: Statement, tokens: "Sequence[Token]", subject: "Token") -> bool:
    words = [token for token in tokens if token.i or not statement.kind]
    if any(token.lower_ in LEANING | _ELSEWHERE | _DETERMINERS | _VAGUE_NOUNS for token in words):
        return False
    if is_code_name(statement.name):
        return "." not in statement.name or statement.name.count(".") > 1  # "error.message" is of an object
    if statement.name.islower() and not statement.kind:
        return False  # as in a list of arguments
    return subject.tag_ in ("NN", "NNP") and tokens[-1] == subject


def _ask_what_called(statement: Statement, doc: "Doc") -> Iterator[Question]:
    rest, (helper, verb) = statement.rest, statement.kind.split(" ", 1)
    tokens = [token for token in doc if token.idx < len(rest)]
    called = [token for token in doc if token.idx >= len(rest) + len(statement.kind) + 1]
    head = next((token for token in tokens if token.dep_ == "nsubjpass"), None)
    if (
        head is None
        or _points_away(tokens)
        or any(token.pos_ in ("ADP", "SCONJ", "VERB") for token in called)
    ):
        return
    said = any(child.dep_ in ("relcl", "acl", "prep") for child in head.rights)
    if said and count_content(tokens) >= _LEAST_CONTENT - 1:
        yield Question(
            f"What {helper} {rest[0].lower()}{rest[1:]} {verb}?", _with_bare(statement.name), "forward"
        )


def _with_bare(answer: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((answer, re.sub(r"^(?:an?|the) ", "", answer))))


def _ask_for_default(statement: Statement, doc: "Doc") -> Iterator[Question]:
    name = re.sub(r"^the ", "", statement.name).split()[0]
    tokens = [token for token in doc if token.idx >= len(doc.text) - len(statement.rest) - 1]
    if is_code_name(name) and not _points_away(tokens):
        yield Question(f"What is the default of {statement.name}?", (statement.rest,), "forward")


def _ask_for_long_form(statement: Statement, doc: "Doc") -> Iterator[Question]:
    yield Question(f"What does {statement.name} stand for?", (statement.rest,), "backward")


def names_thing(name: str, kind: str) -> bool:
    """Whether "the NAME KIND" is one thing with a name: "the let builtin", not "the target file"."""
    if is_code_name(name) and name not in _SORTS:
        return kind != "method" or "." in name or "_" in name  # else one of many classes
    plain = name.isalpha() and name.islower() and name not in _SORTS and name not in LEANING
    return plain and kind.split()[-1] in _PLAINLY_NAMED and _may_name(name)


def _may_name(word: str) -> bool:
    """Whether a dictionary word stands for itself: not an adjective or a participle alone."""
    from lemminflect import getAllLemmas

    forms = getAllLemmas(word)
    return bool({"NOUN", "VERB"} & forms.keys()) and not word.endswith(("ing", "ed"))


def is_code_name(name: str) -> bool:
    """Whether a name is written as names of programs, files and variables are, or is in no dictionary."""
    if re.search(r"[_/$()\d]|\w\.\w|[a-z][A-Z]|^[A-Z]{2}", name):
        return True
    parts = name.split("-")
    return all(map(str.isalpha, parts)) and any(
        len(part) > 1 and part.lower() not in _PREFIXES and not is_word(part) for part in parts
    )


def is_word(word: str) -> bool:
    """Whether a dictionary of English has a word."""
    from lemminflect import getAllLemmas

    return bool(getAllLemmas(word) or getAllLemmas(word.lower()))


def _points_away(tokens: "Iterable[Token]") -> bool:
    return any(token.lower_ in LEANING or token.lower_ in _ELSEWHERE for token in tokens)


def count_content(tokens: "Iterable[Token]") -> int:
    """Different words that say something."""
    return len({token.lemma_.lower() for token in tokens if token.pos_ in _CONTENT and not token.is_stop})
