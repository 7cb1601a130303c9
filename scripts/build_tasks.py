# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "babel==2.18.0",
#     "countryinfo==1.0.1",
#     "inflect==7.6.0",
#     "lemminflect==0.2.3",
#     "numpy==2.4.6",
# ]
# ///
"""Build the tasks that ship with the package, one JSON file each, and their SOURCES.md.

    python scripts/build_tasks.py           # write src/instruction_vectors/tasks/data/
    python scripts/build_tasks.py --check   # build in memory and compare with what is there

Rows come from the packages pinned above and from the lists in scripts/tasks/words/, wording from
scripts/tasks/wording.toml: the same versions give the same bytes. Every task is validated before anything is
written, and a failed check stops the build.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import random
import re
import sys
import tomllib
import unicodedata
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import babel
import inflect
import lemminflect
from babel import Locale
from babel.languages import get_official_languages
from babel.numbers import get_territory_currencies
from countryinfo import CountryInfo

HERE = Path(__file__).resolve().parent
TASKS = HERE / "tasks"
DATA = HERE.parent / "src" / "instruction_vectors" / "tasks" / "data"

Row = tuple[str, str]
Rows = list[Row]

# Sources that are packages, by the name wording.toml gives them, with the licence of what is taken from them.
PACKAGE_LICENSE = {
    "babel (CLDR)": "Unicode-3.0",
    "countryinfo": "MIT",
    "inflect": "MIT",
    "lemminflect": "MIT",
}
OWN_LICENSE = "Apache-2.0"

# Lists that the tasks about form and position draw from.
FORM_LISTS = (
    *("animals", "objects", "concepts", "fruits", "vegetables"),
    *("positive", "negative", "adjectives", "verbs"),
)
CHOOSE_ROWS = 360
FORM_ROWS = 400

ENGLISH = Locale("en")
INFLECT = inflect.engine()


@dataclass(frozen=True)
class Task:
    """One task as it is shipped."""

    name: str
    kind: str
    instructions: tuple[str, ...]
    knowledge: tuple[str, ...]
    options: tuple[str, ...] | None
    sources: tuple[str, ...]
    rule: str
    rows: Rows


# --- Reading: the pins above, the word lists ---------------------------------------------------------------


def pinned_versions() -> dict[str, str]:
    """Package versions as pinned in this file's header."""
    header = Path(__file__).read_text("utf-8").split("# ///\n")[0]
    return dict(re.findall(r'"([\w-]+)==([\w.]+)"', header))


def require_pinned_versions(pins: dict[str, str]) -> None:
    """Stop when an installed package is not the pinned one: other data would give other files."""
    installed = {name: importlib.metadata.version(name) for name in pins}
    wrong = [f"{name} {installed[name]}, not {pin}" for name, pin in pins.items() if installed[name] != pin]
    if wrong:
        raise SystemExit(f"build_tasks: install the versions pinned in the header; found {'; '.join(wrong)}")


def list_lines(name: str) -> list[str]:
    """The lines of a word list without comments and blanks."""
    text = (TASKS / "words" / f"{name}.txt").read_text("utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def listed_forms(name: str) -> dict[str, str]:
    """Each word of a list and the irregular form after its colon, or ""; "_" stands for a space."""
    pairs = [word.replace("_", " ").partition(":") for line in list_lines(name) for word in line.split()]
    repeated = [word for word, count in Counter(pair[0] for pair in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"words/{name}.txt: repeated {repeated}")
    return {word: form for word, _, form in pairs}


def words(*names: str) -> list[str]:
    """The words of one or more lists, each once."""
    return list(dict.fromkeys(word for name in names for word in listed_forms(name)))


def form_words() -> list[str]:
    """Every plain lower-case word of at least three letters, for the tasks that only look at form."""
    return [word for word in words(*FORM_LISTS) if re.fullmatch(r"[a-z]{3,}", word)]


def without_accents(text: str) -> str:
    """Brasília → Brasilia, as English texts mostly write it."""
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


# --- Countries ---------------------------------------------------------------------------------------------

EVERYDAY_NAMES = {
    "CD": "Democratic Republic of the Congo",
    "CG": "Republic of the Congo",
    "CI": "Ivory Coast",
    "MM": "Myanmar",
    "TR": "Turkey",
}
CAPITAL_CORRECTIONS = {"KZ": "Astana", "US": "Washington, D.C.", "YE": "Sanaa"}
# Two capitals, a disputed one, or a seat of government elsewhere.
NO_SINGLE_CAPITAL = {"BJ", "BO", "CI", "IL", "LK", "TZ", "ZA"}
# On two continents, or counted to either one.
NO_SINGLE_CONTINENT = {"AM", "AZ", "CY", "GE", "KZ", "RU", "TR"}
SOUTH_AMERICA = {"AR", "BO", "BR", "CL", "CO", "EC", "GY", "PE", "PY", "SR", "UY", "VE"}
# Bulgaria left the lev for the euro in 2026: texts disagree.
NO_SINGLE_CURRENCY = {"BG"}
# CLDR names one language, but the law changed lately (Burkina Faso, Mali, Niger) or knows more than one
# (Ethiopia, Iraq, New Zealand, South Africa), or the language goes by several names (Maldives, Montenegro).
NO_SINGLE_LANGUAGE = {"BF", "ET", "IQ", "ME", "ML", "MV", "NE", "NZ", "ZA"}
LANGUAGE_CORRECTIONS = {"BD": "Bengali", "NO": "Norwegian"}


def country_name(code: str) -> str:
    """A country's everyday English name."""
    return EVERYDAY_NAMES.get(code) or str(ENGLISH.territories[code]).replace(" & ", " and ")


def country_rows(answer: Callable[[str], str | None]) -> Rows:
    """A row for each listed country that has one answer."""
    return [(country_name(code), found) for code in words("countries") if (found := answer(code))]


def distinct_country_rows(answer: Callable[[str], str | None]) -> Rows:
    """The same without rows where one name holds the other: scoring would credit copying (Mexico City)."""
    rows = [(row, row[0].casefold(), row[1].casefold()) for row in country_rows(answer)]
    return [row for row, name, found in rows if name not in found and found not in name]


def capital(code: str) -> str | None:
    """The capital, written without accents."""
    if code in NO_SINGLE_CAPITAL:
        return None
    return CAPITAL_CORRECTIONS.get(code) or without_accents(str(CountryInfo(code).capital()))


def continent(code: str) -> str | None:
    """The continent; Central America and the Caribbean count as North America."""
    if code in NO_SINGLE_CONTINENT:
        return None
    if code in SOUTH_AMERICA:
        return "South America"
    return str(CountryInfo(code).region()).replace("Americas", "North America")


def currency(code: str) -> str | None:
    """The unit of the only legal tender, without the adjective that repeats the country ("lira")."""
    current = get_territory_currencies(code)
    if len(current) != 1 or code in NO_SINGLE_CURRENCY:
        return None
    return without_accents(str(ENGLISH.currencies[current[0]]).split()[-1]).lower()


def language(code: str) -> str | None:
    """The only official language; "uz_Cyrl" is a second script, not a second language."""
    if code in LANGUAGE_CORRECTIONS:
        return LANGUAGE_CORRECTIONS[code]
    official = [tag for tag in get_official_languages(code) if "_" not in tag]
    if len(official) != 1 or code in NO_SINGLE_LANGUAGE:
        return None
    return str(ENGLISH.languages[official[0]])


# --- Translation -------------------------------------------------------------------------------------------

TRANSLATED_COUNTRIES = [
    "AU",
    "BE",
    "BR",
    "CA",
    "CH",
    "DE",
    "DK",
    "EG",
    "ES",
    "FI",
    "FR",
    "GB",
    "GR",
    "HU",
    "IE",
    "IN",
    "IS",
    "IT",
    "JP",
    "KE",
    "KR",
    "MA",
    "MX",
    "NL",
    "NO",
    "NZ",
    "PE",
    "PH",
    "PL",
    "RU",
    "SE",
    "SY",
    "TH",
    "TN",
    "TR",
    "UA",
    "US",
]
# Without Dutch, which Spanish calls neerlandés and holandés.
TRANSLATED_LANGUAGES = [
    "ar",
    "cs",
    "da",
    "de",
    "el",
    "en",
    "es",
    "fi",
    "fr",
    "he",
    "hu",
    "it",
    "ja",
    "ko",
    "la",
    "no",
    "pl",
    "pt",
    "ru",
    "sv",
    "tr",
    "uk",
    "zh",
]


def month_names(locale: Locale) -> list[str]:
    """January to December."""
    return [str(locale.months["stand-alone"]["wide"][month]) for month in range(1, 13)]


def day_names(locale: Locale) -> list[str]:
    """Monday to Sunday."""
    return [str(locale.days["stand-alone"]["wide"][day]) for day in range(7)]


def translation_rows(tag: str) -> Rows:
    """Names from CLDR and listed words, without those equal to the English, which would reward copying."""
    locale = Locale(tag)
    rows = [(country_name(code), str(locale.territories[code])) for code in TRANSLATED_COUNTRIES]
    rows += [(str(ENGLISH.languages[code]), str(locale.languages[code])) for code in TRANSLATED_LANGUAGES]
    rows += zip(month_names(ENGLISH), month_names(locale), strict=True)
    rows += zip(day_names(ENGLISH), day_names(locale), strict=True)
    column = {"es": 1, "fr": 2}[tag]
    for line in list_lines("translations"):
        cells = [cell.strip() for cell in line.split("|")]
        if cells[column] != "-":
            rows.append((cells[0], cells[column]))
    return [row for row in rows if row[0].casefold() != row[1].casefold()]


# --- Inflection and opposites ------------------------------------------------------------------------------

# The dictionary lists a rare second form for these (bended, flied, …); the first is the usual one.
RARE_SECOND_PAST = {"bend", "fly", "overcome", "pay", "stay", "tear"}
# Two plurals in use: scarfs and scarves, banjos and banjoes.
TWO_PLURALS = {"banjo", "scarf"}


def past_tense(verb: str) -> str:
    """The verb's past form according to lemminflect's dictionary."""
    forms = lemminflect.getInflection(verb, tag="VBD", inflect_oov=False)
    if not forms or (len(forms) > 1 and verb not in RARE_SECOND_PAST):
        raise ValueError(f"words/verbs.txt: {verb} has the past forms {forms}, not exactly one")
    return str(forms[0])


def regular_pasts(verb: str) -> set[str]:
    """The verb plus -ed under English spelling rules; a final consonant may be doubled or not."""
    if verb.endswith("e"):
        return {verb + "d"}
    if re.search(r"[^aeiou]y$", verb):
        return {verb[:-1] + "ied"}
    return {verb + "ed", verb + verb[-1] + "ed"}


def regular_plurals(noun: str) -> set[str]:
    """The noun plus -s or -es under English spelling rules."""
    if re.search(r"[^aeiou]y$", noun):
        return {noun[:-1] + "ies"}
    return {noun + ("es" if re.search(r"(s|x|z|ch|sh|[^aeiou]o)$", noun) else "s")}


def inflected(forms: dict[str, str], inflect_word: Callable[[str], str], regular: Callable[[str], set[str]]) -> Rows:
    """Word → the package's form: the listed irregular one, or else one that follows the spelling rules."""
    rows = [(word, inflect_word(word)) for word in forms]
    wrong = [row for row in rows if row[1] not in ({forms[row[0]]} if forms[row[0]] else regular(row[0]))]
    if wrong:
        raise ValueError(f"neither the listed irregular form nor a regular one: {wrong}")
    return rows


def past_rows() -> Rows:
    """Verb → simple past."""
    return inflected(listed_forms("verbs"), past_tense, regular_pasts)


def plural_rows() -> Rows:
    """Noun → plural."""
    forms = listed_forms("objects") | listed_forms("nouns")
    kept = {noun: form for noun, form in forms.items() if noun not in TWO_PLURALS}
    return inflected(kept, lambda noun: str(INFLECT.plural_noun(noun)), regular_plurals)


def antonym_rows() -> Rows:
    """The listed pairs; a word in two pairs would let one row answer another."""
    rows = [(left, right) for left, right in map(str.split, list_lines("antonyms"))]
    repeated = [word for word, count in Counter(word for row in rows for word in row).items() if count > 1]
    if repeated:
        raise ValueError(f"words/antonyms.txt: in two pairs {repeated}")
    return rows


# --- Sequences ---------------------------------------------------------------------------------------------

GREEK = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "pi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
]
PLANETS = ["Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune"]
SEASONS = ["spring", "summer", "autumn", "winter"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def number_words(stop: int) -> list[str]:
    """zero, one, … below stop."""
    return [str(INFLECT.number_to_words(str(number))) for number in range(stop)]


def digits(stop: int) -> list[str]:
    """0, 1, … below stop."""
    return [str(number) for number in range(stop)]


def ordinals(numbers: Iterable[str]) -> list[str]:
    """one → first, 1 → 1st."""
    return [str(INFLECT.ordinal(number)) for number in numbers]


def roman(number: int) -> str:
    """A number up to 89 in Roman numerals."""
    text = ""
    for value, sign in ((50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")):
        text += sign * (number // value)
        number %= value
    return text


def ring(items: Sequence[str]) -> Iterator[Row]:
    """Each item with the next, the last with the first."""
    return pairwise([*items, items[0]])


def next_number_rows() -> Rows:
    """zero to ninety-nine in words, 0 to 199 in digits."""
    return [*pairwise(number_words(101)), *pairwise(digits(201))]


def next_item_rows() -> Rows:
    """Well-known sequences, without the items that could stand in two of them."""
    months, days = month_names(ENGLISH), day_names(ENGLISH)
    short_months = ring([month[:3] for month in months])
    romans = pairwise([roman(number) for number in range(2, 51)])
    doubled = pairwise([letter * 2 for letter in LETTERS])
    return [
        *ring(months),
        *ring(days),
        *ring(SEASONS),
        # "May" is the same in full and in short: it stands once, in full.
        *(row for row in short_months if "May" not in row),
        *ring([day[:3] for day in days]),
        *pairwise(LETTERS),
        *pairwise(number_words(51)),
        *pairwise(digits(51)),
        *pairwise(ordinals(number_words(31)[1:])),
        *pairwise(ordinals(digits(31)[1:])),
        *pairwise(PLANETS),
        # V could be a letter, "cc" a numeral, "xi" either a Greek letter or a numeral.
        *(row for row in romans if len(row[0]) > 1),
        *(row for row in doubled if row[0][0] not in "cdilmvx"),
        *(row for row in pairwise(GREEK) if row[0] != "xi"),
    ]


# --- Classes, form and position ----------------------------------------------------------------------------


def labelled(**lists: str) -> Rows:
    """Rows (word, label) from one list a label, cut to the shortest."""
    groups = {label: words(name) for label, name in lists.items()}
    size = min(map(len, groups.values()))
    return [(word, label) for label, group in groups.items() for word in group[:size]]


def form_rows(name: str, change: Callable[[str], Row]) -> Rows:
    """Words drawn by the task's name, so that each form task has its own."""
    return [change(word) for word in random.Random(name).sample(form_words(), FORM_ROWS)]


def endless(rng: random.Random, items: Sequence[str]) -> Iterator[str]:
    """The items in random order again and again, so that all are used about equally often."""
    while True:
        yield from rng.sample(items, len(items))


def drawn_triples(rng: random.Random, key: Callable[[str], str]) -> Iterator[list[str]]:
    """Three words with different keys, again and again."""
    stream = endless(rng, form_words())
    while True:
        triple = list(islice(stream, 3))
        if len(set(map(key, triple))) == 3:
            yield triple


def position_rows(name: str, position: int) -> Rows:
    """The answer is the word at the position, whatever the words are."""
    triples = islice(drawn_triples(random.Random(name), str), CHOOSE_ROWS)
    return [(", ".join(triple), triple[position]) for triple in triples]


def balanced_positions(rng: random.Random) -> list[int]:
    """0, 1 and 2 equally often, in random order."""
    return rng.sample([index % 3 for index in range(CHOOSE_ROWS)], CHOOSE_ROWS)


def placed(answer: str, others: Sequence[str], position: int) -> Row:
    """A row "a, b, c" → answer, with the answer at the position."""
    shown = [*others[:position], answer, *others[position:]]
    return ", ".join(shown), answer


def alphabetical_rows(name: str) -> Rows:
    """Different initials, so that the first letter decides."""
    rng = random.Random(name)
    triples = drawn_triples(rng, lambda word: word[0])
    rows = []
    for position in balanced_positions(rng):
        triple = next(triples)
        rows.append(placed(min(triple), [word for word in triple if word != min(triple)], position))
    return rows


def one_of_a_kind_rows(name: str, targets: Sequence[str], others: Sequence[str]) -> Rows:
    """One target beside two others, at each position equally often."""
    if both := set(targets) & set(others):
        raise ValueError(f"{name}: in both lists {sorted(both)}")
    rng = random.Random(name)
    answers, rest = endless(rng, targets), endless(rng, others)
    rows = []
    for position in balanced_positions(rng):
        first = next(rest)
        second = next(word for word in rest if word != first)
        rows.append(placed(next(answers), (first, second), position))
    return rows


def verb_rows(name: str) -> Rows:
    """Verbs beside adjectives, without the words that the dictionary lists as both (clean, boring)."""
    adjectives = words("positive", "negative", "adjectives")
    return one_of_a_kind_rows(
        name,
        [word for word in words("verbs") if "ADJ" not in lemminflect.getAllLemmas(word)],
        [word for word in adjectives if "VERB" not in lemminflect.getAllLemmas(word)],
    )


def kind_rows(name: str, target_list: str, other_list: str) -> Rows:
    """One word of the first list beside two of the second."""
    return one_of_a_kind_rows(name, words(target_list), words(other_list))


ROW_MAKERS: dict[str, Callable[[], Rows]] = {
    "country-capital": partial(distinct_country_rows, capital),
    "country-currency": partial(distinct_country_rows, currency),
    "country-continent": partial(distinct_country_rows, continent),
    "country-language": partial(country_rows, language),
    "english-spanish": partial(translation_rows, "es"),
    "english-french": partial(translation_rows, "fr"),
    "present-past": past_rows,
    "singular-plural": plural_rows,
    "antonym": antonym_rows,
    "next-number": next_number_rows,
    "next-item": next_item_rows,
    "animal-or-object": partial(labelled, animal="animals", object="objects"),
    "fruit-or-vegetable": partial(labelled, fruit="fruits", vegetable="vegetables"),
    "sentiment-word": partial(labelled, positive="positive", negative="negative"),
    "capitalize": partial(form_rows, "capitalize", lambda word: (word, word.capitalize())),
    "lowercase-first-letter": partial(form_rows, "lowercase-first-letter", lambda word: (word.capitalize(), word[0])),
    "capitalize-first-letter": partial(form_rows, "capitalize-first-letter", lambda word: (word, word[0].upper())),
    "choose-first-of-3": partial(position_rows, "choose-first-of-3", 0),
    "choose-middle-of-3": partial(position_rows, "choose-middle-of-3", 1),
    "choose-last-of-3": partial(position_rows, "choose-last-of-3", 2),
    "animal-v-object-3": partial(kind_rows, "animal-v-object-3", "animals", "objects"),
    "verb-v-adjective-3": partial(verb_rows, "verb-v-adjective-3"),
    "object-v-concept-3": partial(kind_rows, "object-v-concept-3", "objects", "concepts"),
    "fruit-v-animal-3": partial(kind_rows, "fruit-v-animal-3", "fruits", "animals"),
    "alphabetically-first-3": partial(alphabetical_rows, "alphabetically-first-3"),
}


def mixed(name: str, rows: Rows) -> Rows:
    """Rows ordered by a hash: no class or list comes first, and a new row does not move the others."""
    return sorted(rows, key=lambda row: hashlib.sha256(f"{name}\0{row[0]}".encode()).hexdigest())


def all_tasks() -> list[Task]:
    """Wording and rows joined; every task has both."""
    wording = tomllib.loads((TASKS / "wording.toml").read_text("utf-8"))
    if wording.keys() != ROW_MAKERS.keys():
        raise ValueError(f"wording.toml and ROW_MAKERS differ: {sorted(wording.keys() ^ ROW_MAKERS.keys())}")
    return [
        Task(
            name=name,
            kind=text["kind"],
            instructions=tuple(text["instructions"]),
            knowledge=tuple(text["knowledge"]),
            options=tuple(text["options"]) if "options" in text else None,
            sources=tuple(text["sources"]),
            rule=text["rule"],
            rows=mixed(name, ROW_MAKERS[name]()),
        )
        for name, text in wording.items()
    ]


# --- Checks ------------------------------------------------------------------------------------------------


def problems_of_rows(task: Task) -> Iterator[str]:
    """Repeated, empty, padded or unanswerable rows."""
    inputs = Counter(row[0].casefold() for row in task.rows)
    yield from (f"input twice: {text}" for text, count in inputs.items() if count > 1)
    for text, answer in task.rows:
        if not text or not answer or text != text.strip() or answer != answer.strip():
            yield f"empty or padded: {text!r} -> {answer!r}"
        if unicodedata.normalize("NFC", text + answer) != text + answer:
            yield f"not in Unicode form C: {text!r} -> {answer!r}"
        if text == answer:
            yield f"answer equals the input: {text!r}"
        if task.options and answer not in task.options:
            yield f"answer is no option: {text!r} -> {answer!r}"


def problems_of_wording(task: Task) -> Iterator[str]:
    """Too few instructions or rows, broken templates, options that do not fit."""
    if not 4 <= len(task.instructions) <= 6 or len(set(task.instructions)) != len(task.instructions):
        yield "needs 4 to 6 different instructions"
    if len(task.knowledge) not in (0, 2, 3):
        yield "needs 2 to 3 knowledge templates, or none"
    for template in task.knowledge:
        if template.count("{input}") != 1 or template != template.strip():
            yield f"template: {template!r}"
    if task.kind not in ("generate", "choose", "classify") or (task.kind == "classify") != bool(task.options):
        yield f"kind {task.kind} does not fit the options"
    if task.options and {answer for _, answer in task.rows} != set(task.options):
        yield "options and answers are not the same set"
    if len(task.rows) < 100:
        yield f"only {len(task.rows)} rows"


def problems_of_choices(task: Task) -> Iterator[str]:
    """Tasks that pick one of three words: the answer stands once, at no place more often than at another."""
    if task.kind != "choose":
        return
    places: Counter[int] = Counter()
    for text, answer in task.rows:
        shown = text.split(", ")
        if len(set(shown)) != 3 or shown.count(answer) != 1:
            yield f"not three different words with the answer among them: {text!r} -> {answer!r}"
        else:
            places[shown.index(answer)] += 1
    by_position = task.name.startswith("choose-")
    if len(places) != (1 if by_position else 3) or len(set(places.values())) != 1:
        yield f"answers stand at {dict(places)}"


def validate(tasks: Sequence[Task]) -> None:
    """Raise with every problem found in any task."""
    checks = (problems_of_rows, problems_of_wording, problems_of_choices)
    found = [f"{task.name}: {problem}" for task in tasks for check in checks for problem in check(task)]
    if found:
        raise ValueError("tasks are not fit to ship:\n  " + "\n  ".join(found))


# --- Writing -----------------------------------------------------------------------------------------------


def license_of(task: Task) -> str:
    """The licences of the sources in one SPDX expression."""
    return " AND ".join(sorted({PACKAGE_LICENSE.get(source, OWN_LICENSE) for source in task.sources}))


def source_names(task: Task, versions: dict[str, str]) -> list[str]:
    """Packages with their version, lists with their path."""
    names = []
    for source in task.sources:
        package, *rest = source.split()
        in_package = " ".join([package, versions.get(package, ""), *rest])
        names.append(in_package if source in PACKAGE_LICENSE else f"scripts/tasks/words/{source}.txt")
    return names


def dumped(value: object) -> str:
    """JSON on one line, letters as they are."""
    return json.dumps(value, ensure_ascii=False)


def listed(values: Sequence[object]) -> str:
    """A JSON array with one value a line."""
    return "[\n" + ",\n".join(f"    {dumped(value)}" for value in values) + "\n  ]" if values else "[]"


def task_json(task: Task, versions: dict[str, str]) -> str:
    """The task's file: one row a line, so that a change shows as one line."""
    fields = {
        "name": dumped(task.name),
        "instructions": listed(task.instructions),
        "knowledge": listed(task.knowledge),
        "options": dumped(task.options),
        "kind": dumped(task.kind),
        "sources": dumped(source_names(task, versions)),
        "license": dumped(license_of(task)),
        "rows": listed([{"input": text, "output": answer} for text, answer in task.rows]),
    }
    return "{\n" + ",\n".join(f"  {dumped(key)}: {value}" for key, value in fields.items()) + "\n}\n"


def sources_md(tasks: Sequence[Task], versions: dict[str, str]) -> str:
    """Where every task comes from, by which rule, under which licence, and the notices that asks for."""
    unicode_license = Path(babel.__file__).parent / "locale-data" / "LICENSE.unicode"
    parts = [
        "# Sources of the shipped tasks",
        "Written by `scripts/build_tasks.py`; do not edit by hand.",
        "| task | rows | knowledge form | sources | licence | rule |\n|---|---|---|---|---|---|\n"
        + "\n".join(
            f"| {task.name} | {len(task.rows)} | {'yes' if task.knowledge else 'no'} "
            f"| {', '.join(source_names(task, versions))} | {license_of(task)} | {task.rule} |"
            for task in tasks
        ),
        (TASKS / "notices.md").read_text("utf-8").strip().format(**versions),
        unicode_license.read_text("utf-8").strip(),
    ]
    return "\n\n".join(parts) + "\n"


def build() -> dict[str, str]:
    """File name → text, validated."""
    versions = pinned_versions()
    require_pinned_versions(versions)
    tasks = all_tasks()
    validate(tasks)
    files = {f"{task.name}.json": task_json(task, versions) for task in tasks}
    return files | {"SOURCES.md": sources_md(tasks, versions)}


def differences(files: dict[str, str]) -> list[str]:
    """Names of files that are missing, different, or there without being built."""
    there = {path.name: path.read_bytes() for path in (*DATA.glob("*.json"), *DATA.glob("SOURCES.md"))}
    built = {name: text.encode() for name, text in files.items()}
    return sorted(name for name in there.keys() | built.keys() if there.get(name) != built.get(name))


def main() -> int:
    """Build, then write or compare."""
    parser = argparse.ArgumentParser(description="Build the shipped tasks.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the files differ")
    arguments = parser.parse_args()
    # lemminflect calls parts of numpy that newer versions deprecate; the result is the same.
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    files = build()
    stale = differences(files)
    if arguments.check:
        sys.stdout.write(f"differs: {', '.join(stale)}\n" if stale else f"{len(files)} files up to date\n")
        return 1 if stale else 0
    DATA.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (DATA / name).write_bytes(text.encode())
    sys.stdout.write(f"wrote {len(files)} files, {len(stale)} changed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
