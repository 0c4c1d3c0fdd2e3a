"""Numbers as they are compared: "1,200" is "1200", "25.0" is "25", and "1.5" stays another than "15".

    spell_number("1,200.50")      # ("1200.5",)
    spell_number("12:30")         # ("12:30",)
    spell_number("1987-1990")     # ("1987", "1990"): a range of years names both

Texts are folded (`demask.words.folding`) before.
"""

import re

from demask.words.folding import NO_BREAK_SPACE

# Between digits these belong to the number: decimals and thousands, times, fractions, dates, ranges, powers.
NUMBER = (
    rf"(?:[0-9]{{1,3}}\ [0-9]{{1,2}}/[0-9]{{1,2}}(?![0-9/])"  # "3 1/2"
    rf"|(?<![0-9]\ )[1-9][0-9]{{0,2}}(?:\ [0-9]{{3}})+(?!\ ?[0-9])(?:[.,][0-9]+)?"  # "12 345"
    rf"|\.?[0-9]+(?:(?:[.,:/'x*^+{NO_BREAK_SPACE}\u2014-]|[eE][+-]?|\^-)[0-9]+)*)"
)

_PART = re.compile(rf"[0-9.,'{NO_BREAK_SPACE}]+|[^0-9.,'{NO_BREAK_SPACE}]+")
_THOUSANDS = re.compile(
    rf"[1-9][0-9]{{0,2}}(?:(?:,[0-9]{{3}})+|(?:'[0-9]{{3}})+|(?:{NO_BREAK_SPACE}[0-9]{{3}})+)(?:\.[0-9]+)?"
    r"|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}(?:\.[0-9]+)?"  # "12,34,567", as in India
)
# Here the point parts thousands. One alone ("1.200") is read as a decimal, three may be an address.
_POINTED_THOUSANDS = re.compile(
    rf"[1-9][0-9]{{0,2}}(?:(?:\.[0-9]{{3}})+,[0-9]+|(?:\.[0-9]{{3}}){{2}}|(?:{NO_BREAK_SPACE}[0-9]{{3}})+,[0-9]+)"
)
_DECIMAL = re.compile(r"([0-9]*)[.,]([0-9]+)")
_YEARS = re.compile(r"[0-9]{4}[-\u2014/,][0-9]{4}")


def spell_number(text: str) -> tuple[str, ...]:
    """A number as it is compared; several for a list ("1,2,3") and for a range of years.

    What has a sign or separator that is neither of thousands nor of decimals keeps it: times, fractions,
    dates, versions, telephone numbers.
    """
    if _YEARS.fullmatch(text):
        return text[:4], text[5:]
    if text.count(",") > 1 and re.fullmatch("[0-9,]+", text) and not _THOUSANDS.fullmatch(text):
        return tuple(text.split(","))
    joined = re.sub(" (?=[0-9]{3})", NO_BREAK_SPACE, text).replace(" ", "+").replace("\u2014", "-")
    return ("".join(_spell_part(part) for part in _PART.findall(joined)),)


def _spell_part(part: str) -> str:
    if _THOUSANDS.fullmatch(part):
        part = re.sub(rf"[,'{NO_BREAK_SPACE}]", "", part)
    elif _POINTED_THOUSANDS.fullmatch(part):
        part = re.sub(rf"[.{NO_BREAK_SPACE}]", "", part)
    decimal = _DECIMAL.fullmatch(part)
    if decimal:
        whole, fraction = decimal[1] or "0", decimal[2].rstrip("0")
        return f"{whole}.{fraction}" if fraction else whole
    return {"e+": "e", "E+": "e"}.get(part, part.lower())
