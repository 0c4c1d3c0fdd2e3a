"""Sentences told the other way round, by their grammar: spaCy parses, rules move the parts.

    parse = load_english()
    turn_sentences(parse("Mara Voss founded Orlin."))   # ["Orlin was founded by Mara Voss."]
    move_dates(parse("In 1931, Mara Voss founded Orlin."))    # ["Mara Voss founded Orlin in 1931."]

A rule applies only where every part of the sentence has a known place in the new one; all others are left
alone. So the rules change few sentences, and these nearly always rightly.
"""

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token


_IRREGULAR = tuple(  # lemma, past, participle
    tuple(forms.split("-"))
    for forms in """beat-beat-beaten begin-began-begun break-broke-broken bring-brought-brought
    build-built-built buy-bought-bought catch-caught-caught choose-chose-chosen
    cut-cut-cut draw-drew-drawn drive-drove-driven eat-ate-eaten feel-felt-felt
    fight-fought-fought find-found-found forbid-forbade-forbidden give-gave-given
    grow-grew-grown hear-heard-heard hide-hid-hidden hit-hit-hit hold-held-held
    keep-kept-kept know-knew-known lay-laid-laid lead-led-led lend-lent-lent
    lose-lost-lost make-made-made meet-met-met overthrow-overthrew-overthrown
    overtake-overtook-overtaken pay-paid-paid put-put-put read-read-read ride-rode-ridden
    run-ran-run say-said-said see-saw-seen seek-sought-sought sell-sold-sold
    send-sent-sent set-set-set shake-shook-shaken shoot-shot-shot show-showed-shown
    sing-sang-sung speak-spoke-spoken spend-spent-spent split-split-split
    spread-spread-spread steal-stole-stolen strike-struck-struck swear-swore-sworn
    sweep-swept-swept take-took-taken teach-taught-taught tell-told-told
    think-thought-thought throw-threw-thrown undertake-undertook-undertaken
    understand-understood-understood wear-wore-worn win-won-won
    withdraw-withdrew-withdrawn write-wrote-written""".split()
)
_PARTICIPLE_OF = {lemma: participle for lemma, _, participle in _IRREGULAR}
_PAST_OF = {participle: past for _, past, participle in _IRREGULAR}
# No passive, or one that says something else.
_NO_PASSIVE = frozenset(
    """be become have get want mean last fit lack cost weigh resemble equal contain include comprise total
    reach remain seem suit say add continue enter leave join mark follow precede face top""".split()
)
_VERB_PARTS = frozenset({"nsubj", "dobj", "prep", "advmod", "npadvmod", "punct", "advcl"})
_PASSIVE_PARTS = frozenset({"nsubjpass", "auxpass", "agent", "prep", "npadvmod", "punct"})
_BECAME = {"VBZ": "is", "VBP": "are", "VBD": "was"}
_DEFINITE = frozenset({"the", "his", "her", "its", "their"})
_SINGULAR_TO_PLURAL = {"is": "are", "was": "were"}
_CLAUSE_OPENERS = frozenset("after before when while although though because since if once until as".split())
# What follows from the whole sentence cannot be put before it: "leading to unrest".
_RESULTS = frozenset(
    "lead cause result make allow give mean force leave create contribute prompt enable end".split()
)
_TIME = re.compile(
    r"\b(?:\d{4}s?|January|February|March|April|May|June|July|August|September|October|November|December|century)\b"
)
_LONGEST_TIME = 8  # tokens; longer ones carry more than the time


class _Parts(NamedTuple):
    """A sentence as its rules see it: tokens from `first` up to `stop`, which is the final full stop."""

    doc: "Doc"
    first: int
    stop: int

    def text(self, start: int, stop: int) -> str:
        return self.doc[start:stop].text.strip() if stop > start else ""


def turn_sentences(doc: "Doc") -> list[str]:
    """The wordings of a parsed sentence in which what came last comes first; none where no rule applies."""
    parts = _find_parts(doc)
    if parts is None:
        return []
    root = parts.doc[parts.first : parts.stop].root
    turned = (
        rule(parts, root)
        for rule in (
            _make_passive,
            _make_active,
            _turn_copula,
            _front_clause,
            _end_with_subject,
            _begin_with_object,
        )
    )
    return list(dict.fromkeys(text for text in turned if text))


def move_dates(doc: "Doc") -> list[str]:
    """The wordings of a parsed sentence in which a date has gone from one end to the other."""
    parts = _find_parts(doc)
    if parts is None:
        return []
    root = parts.doc[parts.first : parts.stop].root
    if any(child.dep_ in ("conj", "cc", "parataxis", "ccomp") for child in root.children):
        return []
    moved = (_date_to_end(parts, root), _date_to_front(parts, root))
    return [text for text in moved if text]


def _find_parts(doc: "Doc") -> _Parts | None:
    """One declarative sentence that ends in a full stop and holds no quotation."""
    if len(doc) < 4 or doc[-1].text != "." or len(list(doc.sents)) != 1:
        return None
    if any(token.text in '"“”;:()?!—–' or token.text == "..." for token in doc):
        return None
    return _Parts(doc, 0, len(doc) - 1)


def _make_passive(parts: _Parts, root: "Token") -> str:
    subject, thing = _only(root, "nsubj"), _only(root, "dobj")
    participle = _participle(root)
    if subject is None or thing is None or not participle or not _has_only(root, _VERB_PARTS):
        return ""
    before, after = _span(subject), _span(thing)
    if (
        before[1] != root.i
        or after[0] != root.i + 1
        or not (_is_plain(parts, subject) and _is_plain(parts, thing))
    ):
        return ""
    opening = parts.text(parts.first, before[0])
    if opening and not opening.endswith(","):
        return ""
    be = _agree("was" if root.tag_ == "VBD" else "is", thing)
    rest = parts.text(after[1], parts.stop)
    if not _follows(parts, after[1]) or "," in rest:
        return ""
    return _join(
        opening,
        _as_begin(parts, after[0], after[1], keep=not opening),
        f"{be} {participle} by",
        _within(parts, *before),
        rest,
    )


def _make_active(parts: _Parts, root: "Token") -> str:
    thing, agent, be = _only(root, "nsubjpass"), _only(root, "agent"), _only(root, "auxpass")
    if (
        thing is None
        or agent is None
        or be is None
        or root.tag_ != "VBN"
        or not _has_only(root, _PASSIVE_PARTS)
    ):
        return ""
    doer = _only(agent, "pobj")
    past = _PAST_OF.get(root.lower_, root.lower_ if root.lower_.endswith("ed") else "")
    before = _span(thing)
    if (
        doer is None
        or not past
        or be.lower_ not in ("was", "were")
        or before[1] != be.i
        or root.i != be.i + 1
    ):
        return ""
    if not (_is_plain(parts, doer) and _is_plain(parts, thing)):
        return ""
    opening = parts.text(parts.first, before[0])
    if opening and not opening.endswith(","):
        return ""
    within = _span(doer)
    return _join(
        opening,
        _as_begin(parts, within[0], within[1], keep=not opening),
        past,
        _within(parts, *before),
        parts.text(root.i + 1, agent.i),
        parts.text(within[1], parts.stop),
    )


def _turn_copula(parts: _Parts, root: "Token") -> str:
    """Turn "X is the Y" and "X becomes the Y" to "the Y is X"; "X is a Y" to "a Y is what X is"."""
    subject, said = _only(root, "nsubj"), _only(root, "attr")
    if subject is None or said is None or root.lemma_ not in ("be", "become"):
        return ""
    before, after = _span(subject), _span(said)
    be = root.lower_ if root.lemma_ == "be" else _BECAME.get(root.tag_, "")
    if before != (parts.first, root.i) or after != (root.i + 1, parts.stop) or not be:
        return ""
    if not (_is_plain(parts, subject) and _is_plain(parts, said)):
        return ""
    opening = parts.doc[after[0]]
    name, what = _within(parts, *before), _as_begin(parts, *after)
    if opening.lower_ in _DEFINITE or opening.tag_ == "POS" or opening.pos_ == "PROPN":
        return _join(what, be, name) if opening.lower_ == "the" else ""
    if opening.lower_ in ("a", "an") and root.lemma_ == "be":
        return _join(what, _agree("was" if be in ("was", "were") else "is", said), "what", name, be)
    return ""


def _front_clause(parts: _Parts, root: "Token") -> str:
    """Turn "X did Y after Z did W" to "After Z did W, X did Y"."""
    clause = next((child for child in reversed(list(root.children)) if child.dep_ == "advcl"), None)
    if clause is None or clause.right_edge.i != parts.stop - 1 or clause.left_edge.i <= root.i:
        return ""
    opener = clause.left_edge
    comma = parts.doc[opener.i - 1].text == ","
    participle = clause.tag_ == "VBG" and opener.i == clause.i and comma
    if opener.lower_ not in _CLAUSE_OPENERS and not participle:
        return ""
    if (participle or opener.lower_ == "as") and any(child.dep_ == "conj" for child in root.children):
        return ""
    told = parts.doc[parts.first : opener.i - comma] if participle else parts.doc[parts.first : parts.stop]
    if any(token.text == "," and token.i != opener.i - 1 for token in told):
        return ""
    if participle and clause.lemma_ in _RESULTS:
        return ""
    main = _within(parts, parts.first, opener.i - comma)
    if parts.doc[parts.first].pos_ == "PRON" or parts.doc[parts.first].dep_ in ("mark", "cc"):
        return ""
    return _join(_as_begin(parts, opener.i, parts.stop) + ",", main)


def _end_with_subject(parts: _Parts, root: "Token") -> str:
    """Turn "X did Y" to "the one who did Y is X", where X is one name."""
    subject = _only(root, "nsubj") or _only(root, "nsubjpass")
    if subject is None or subject.tag_ != "NNP" or not _is_plain(parts, subject):
        return ""
    start, stop = _span(subject)
    verb = parts.doc[stop]
    if start != parts.first or verb.tag_ not in ("VBZ", "VBD") or verb not in (root, *root.children):
        return ""
    if root.lemma_ in ("be", "become") or any(child.dep_ in ("cc", "conj") for child in subject.children):
        return ""
    if any(
        part.dep_ == "conj" and any(c.dep_.startswith("nsubj") for c in part.children)
        for part in root.children
    ):
        return ""
    one = "who" if subject.ent_type_ == "PERSON" else "that"
    be = "was" if verb.tag_ == "VBD" else "is"
    what = parts.text(stop, parts.stop)
    return _join(f"The one {one}", f"{what}," if "," in what else what, be, _within(parts, start, stop))


def _begin_with_object(parts: _Parts, root: "Token") -> str:
    """Turn "X did Y" to "Y is what X did", where Y is a thing."""
    subject, thing = _only(root, "nsubj"), _only(root, "dobj")
    if subject is None or thing is None or thing.ent_type_ == "PERSON" or not _is_plain(parts, thing):
        return ""
    before, after = _span(subject), _span(thing)
    if before[0] != parts.first or after[0] <= root.i or not _is_plain(parts, subject):
        return ""
    if not _has_only(root, _VERB_PARTS | {"aux"} - {"advcl"}) or any(
        t.text == "," for t in parts.doc[: parts.stop]
    ):
        return ""
    if thing.pos_ != "NOUN" or not _follows(parts, after[1]):
        return ""
    be = _agree("was" if root.tag_ == "VBD" else "is", thing)
    main = _within(parts, parts.first, after[0])
    return _join(_as_begin(parts, *after), be, "what", main, parts.text(after[1], parts.stop))


def _date_to_end(parts: _Parts, root: "Token") -> str:
    time = parts.doc[parts.first]
    if time.head != root or time.dep_ not in ("prep", "npadvmod") or time.left_edge.i != parts.first:
        return ""
    start, stop = _span(time)
    if not _is_time(parts, start, stop) or parts.doc[stop].text != ",":
        return ""
    if (
        any(token.text == "," for token in parts.doc[stop + 1 : parts.stop])
        or parts.doc[parts.stop - 1].like_num
    ):
        return ""
    return _join(_as_begin(parts, stop + 1, parts.stop), _within(parts, start, stop))


def _date_to_front(parts: _Parts, root: "Token") -> str:
    last = list(root.children)[-2:]
    time = next(
        (child for child in last if child.dep_ == "prep" and child.right_edge.i == parts.stop - 1), None
    )
    if time is None or time.lower_ not in ("in", "on", "during") or time.i <= root.i:
        return ""
    if not _is_time(parts, time.i, parts.stop) or parts.doc[time.i - 1].text == ",":
        return ""
    return _join(_as_begin(parts, time.i, parts.stop) + ",", _within(parts, parts.first, time.i))


def _is_time(parts: _Parts, start: int, stop: int) -> bool:
    text = parts.text(start, stop)
    return stop - start <= _LONGEST_TIME and _TIME.search(text) is not None and "," not in text[:-6]


def _only(head: "Token", dep: str) -> "Token | None":
    found = [child for child in head.children if child.dep_ == dep]
    return found[0] if len(found) == 1 else None


def _has_only(root: "Token", deps: frozenset[str]) -> bool:
    return all(child.dep_ in deps for child in root.children)


def _span(token: "Token") -> tuple[int, int]:
    return token.left_edge.i, token.right_edge.i + 1


def _is_plain(parts: _Parts, noun: "Token") -> bool:
    """A noun phrase that stands for itself, wherever it is put."""
    tokens = parts.doc[noun.left_edge.i : noun.right_edge.i + 1]
    return noun.pos_ in ("NOUN", "PROPN", "NUM") and not any(
        token.text == "," or token.tag_ in ("PRP", "PRP$") for token in tokens
    )


def _follows(parts: _Parts, start: int) -> bool:
    """Whether what comes from here on may be told without the noun phrase before it."""
    token = parts.doc[start]
    return start == parts.stop or (
        token.tag_ in ("IN", "RB", "WRB") and token.lower_ not in ("of", "for", "to")
    )


def _participle(verb: "Token") -> str:
    lemma = verb.lemma_.lower()
    if lemma in _NO_PASSIVE or verb.tag_ not in ("VBD", "VBZ", "VBP"):
        return ""
    if lemma in _PARTICIPLE_OF:
        return _PARTICIPLE_OF[lemma]
    if verb.tag_ == "VBD":
        return verb.lower_ if verb.lower_.endswith("ed") else ""
    if lemma.endswith("e"):
        return f"{lemma}d"
    if re.search(r"[^aeiou]y\Z", lemma):
        return f"{lemma[:-1]}ied"
    # Not "admit" and "refer", whose last letter may be doubled.
    return f"{lemma}ed" if re.search(r"(?:[^aeiou][^aeiouwy]|[aeiou]{2}[^aeiou])\Z", lemma) else ""


def _agree(be: str, noun: "Token") -> str:
    several = noun.tag_ in ("NNS", "NNPS") or any(child.dep_ == "conj" for child in noun.children)
    return _SINGULAR_TO_PLURAL[be] if several else be


def _as_begin(parts: _Parts, start: int, stop: int, *, keep: bool = True) -> str:
    """The tokens as a sentence begins, or as it goes on."""
    text = _within(parts, start, stop)
    return text[:1].upper() + text[1:] if keep else text


def _within(parts: _Parts, start: int, stop: int) -> str:
    """The tokens as they stand within a sentence: its first word without capital, unless a name."""
    text = parts.text(start, stop)
    token = parts.doc[start]
    is_name = (
        token.pos_ == "PROPN" or token.text == "I" or (not token.text[1:].islower() and len(token.text) > 1)
    )
    if (
        start != parts.first
        or is_name
        or (token.ent_type_ and token.pos_ not in ("DET", "ADP", "PRON", "SCONJ"))
    ):
        return text
    return text[:1].lower() + text[1:]


def _join(*pieces: str) -> str:
    text = " ".join(piece for piece in pieces if piece)
    return re.sub(r"\s+([,.])", r"\1", text) + ("" if text.endswith(".") else ".")
