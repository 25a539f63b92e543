"""The explainer's texts say all that they must and nothing borrowed; claims stand in them only while they are true."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from scheduler import cli, words
from scheduler.clock import FixedClock
from scheduler.db import reading, transaction
from scheduler.errors import Invalid
from scheduler.models import ExplainerVersion, Location
from scheduler.services import claims, explainer
from scheduler.services.explainer import Wording, WordingChanged
from scheduler.web import schemas
from tests.clinic import EXPLAINER, HOUR, Clinic, rows

TEXTS = {wording.language: wording for wording in cli.wordings() if wording.version == EXPLAINER}
ENGLISH, SPANISH = TEXTS["en"], TEXTS["es"]
CLAIMS = ("licensed", "everywhere", "within_goal")
BLOCKS = ("p", "li", "caption", "th", "td")
ALLOWED = {"p", "ul", "li", "strong", "em", "a", "table", "caption", "thead", "tbody", "tr", "th", "td"}
FIXED_TERMS = {
    "en": ("trigger point", "meridian", "Qi", "2,000 years", "vary by state", "bruising", "nerve injury"),
    "es": (
        "punto gatillo",
        "meridiano",
        "Qi",
        "2,000 años",
        "variar según el estado",
        "moretones",
        "lesión de un nerv",
    ),
}
BORROWED = Path(__file__).with_name("article_fingerprints.txt")
RUN = 8
in_both_languages = pytest.mark.parametrize("text", [ENGLISH, SPANISH], ids=["en", "es"])
on_sqlite = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)

# The claims that always stand, by their numbers in the list that the clinic's article was taken apart into: what one
# paragraph, item or cell must say of each, hedges included, in English and in Spanish. "…" stands for other words.
ALWAYS: dict[int, tuple[str, str]] = {
    1: ("both use needles, and both may relieve pain", "usan agujas, y las dos pueden aliviar el dolor"),
    2: ("They differ in their origin … purpose … placement", "Se distinguen por su origen … propósito … colocación"),
    3: (
        "used in physical therapy and in other fields … pain and dysfunction in muscles and joints",
        "se usa en la terapia física y en otros campos … dolor y la disfunción de los músculos y las articulaciones",
    ),
    4: (
        "trained therapist puts thin, sterile, single-filament needles into trigger points … tight knots of muscle",
        "terapeuta capacitado coloca agujas finas, estériles y de un solo filamento … puntos gatillo … nudos tensos",
    ),
    5: (
        "ease pain … improve how the muscle works … range of motion",
        "aliviar el dolor … mejorar el funcionamiento del músculo … rango de movimiento",
    ),
    6: (
        "needle stimulates the trigger point, which can release tension",
        "aguja estimula el punto gatillo, lo que puede liberar la tensión",
    ),
    7: ("can bring less pain and more mobility", "puede traer menos dolor y más movilidad"),
    8: (
        "can also lead to fewer muscle spasms and more blood flow, and it can help you heal",
        "puede llevar a menos espasmos musculares y más flujo de sangre, y puede ayudarle a sanar",
    ),
    9: ("Pain relief. It can ease pain", "Alivio del dolor. Puede aliviar el dolor"),
    10: ("Range of motion. … a joint can move further", "Rango de movimiento. … articulación puede moverse más"),
    11: (
        "Muscle function. Muscles can work better. That may help athletes and people who are recovering from an injury",
        "Función muscular. Los músculos pueden trabajar mejor. Esto puede ayudar a los deportistas … de una lesión",
    ),
    12: ("Fewer knots. The needle can help to loosen knots", "Menos nudos. La aguja puede ayudar a soltar los nudos"),
    13: ("It may speed up recovery", "Puede acelerar la recuperación"),
    14: ("No drugs. … without drugs", "Sin medicamentos. … sin medicamentos"),
    15: (
        "popular lately. Research goes on … chronic pain … sports injuries … musculoskeletal disorders",
        "popular en los últimos años. Se sigue investigando … dolor crónico … deportivas … musculoesqueléticos",
    ),
    16: (
        "works differently for different people, and more research is needed",
        "Funciona de manera distinta en cada persona y hace falta más investigación",
    ),
    17: ("Only qualified, trained professionals should", "Solo deben hacerla profesionales calificados y capacitados"),
    18: ("Sterile needles and good hygiene are essential", "agujas estériles y una buena higiene son esenciales"),
    19: (
        "Common and temporary effects are soreness, bruising and bleeding where the needle went",
        "efectos comunes y pasajeros son las molestias, los moretones y el sangrado donde entró la aguja",
    ),
    20: (
        "In rare cases … infection or a nerve injury. That is why a skilled practitioner matters",
        "En casos poco frecuentes … infección o la lesión de un nervio. Por eso importa … profesional con experiencia",
    ),
    21: ("traditional … ancient China … thousands of years", "tradicional … antigua China … miles de años"),
    22: (
        "Thin needles, usually of stainless steel, go into chosen points … at various depths",
        "agujas finas, por lo general de acero inoxidable, en puntos elegidos … a distintas profundidades",
    ),
    23: (
        'the points are held to be linked by pathways of Qi (say "chee")',
        'se considera que los puntos están unidos por caminos del Qi (se pronuncia "chi")',
    ),
    24: ("restore the balance of Qi", "restablecer el equilibrio del Qi"),
    25: (
        "practitioners believe … musculoskeletal … headaches. They also believe … digestive and respiratory … stress",
        "la practican creen … musculoesquelético … cabeza. También creen … digestivos y respiratorios … estrés y la",
    ),
    26: (
        "believed to release endorphins and to promote circulation",
        "Se cree que libera endorfinas y favorece la circulación",
    ),
    27: (
        "Reports vary … Many people report less pain, less stress, better sleep … headaches and migraines … well-being",
        "varía … Muchas personas cuentan … menos dolor, menos estrés, mejor sueño … cabeza y migrañas … bienestar",
    ),
    28: (
        "Research goes on. Some benefit has been seen, and more research is needed",
        "Se sigue investigando. Se ha visto algún beneficio y hace falta más investigación",
    ),
    29: (
        "generally safe with trained, licensed acupuncturists, sterile needles and good hygiene",
        "En general … segura con acupunturistas capacitados y con licencia, agujas estériles y buena higiene",
    ),
    30: (
        "Serious effects are rare. Minor effects can be pain, bruising or bleeding",
        "Los efectos graves son poco frecuentes. Los efectos leves pueden ser dolor, moretones o sangrado",
    ),
    31: (
        "complementary … never be the only treatment, above all for a serious or life-threatening condition",
        "complementaria … Nunca debe ser el único tratamiento, sobre todo si … grave o pone en peligro la vida",
    ),
    32: (
        "Origin | Dry needling: Recent. … Western medicine … anatomy … neurophysiology",
        "Origen | Punción seca: Reciente. … medicina occidental … anatomía … neurofisiología",
    ),
    33: (
        "Origin | Acupuncture: China, over 2,000 years ago. … energy pathways",
        "Origen | Acupuntura: China, hace más de 2,000 años. … caminos de energía",
    ),
    34: (
        "Philosophy | Dry needling: A Western view of muscles and bones. … trigger points … myofascial pain",
        "Filosofía | Punción seca: Una visión occidental de los músculos y los huesos. … gatillo … dolor miofascial",
    ),
    35: ("Philosophy | Acupuncture: … yin and yang … Qi", "Filosofía | Acupuntura: … yin y el yang … Qi"),
    36: (
        "Scope | Dry needling: Narrow: muscle pain and muscle function in one area",
        "Alcance | Punción seca: Limitado: el dolor y la función de los músculos en una zona",
    ),
    37: (
        "Scope | Acupuncture: Holistic: believed … from the body to the emotions",
        "Alcance | Acupuntura: Holístico: se cree … desde el cuerpo hasta las emociones",
    ),
    38: (
        "Training | Dry needling: … physical therapists are trained in this technique. Licensing may vary by state",
        "Formación | Punción seca: Profesionales como los fisioterapeutas … técnica. Las licencias pueden variar según",
    ),
    39: (
        "Training | Acupuncture: … traditional medicine … diagnosis … points. They may need a license or certification",
        "Formación | Acupuntura: … tradicional … diagnóstico … puntos. Pueden necesitar una licencia o certificación",
    ),
    40: (
        "placement | Dry needling: Into trigger points, often in or near … chosen by a physical examination",
        "agujas | Punción seca: En puntos gatillo, a menudo en el lugar que duele o cerca … mediante un examen físico",
    ),
    41: (
        "placement | Acupuncture: Into points on a meridian … may be distant … an individual diagnosis",
        "agujas | Acupuntura: En puntos de un meridiano … Pueden estar lejos … diagnóstico individual",
    ),
    42: (
        "part of some treatment plans … together with exercise, manual therapy and other kinds of physical therapy",
        "parte de algunos planes … junto con el ejercicio, la terapia manual y otras formas de terapia física",
    ),
    46: (
        "learn more, or make an appointment? Contact a physical therapist",
        "saber más o hacer una cita? Comuníquese con un fisioterapeuta",
    ),
}


def tree(html: str) -> ET.Element:
    """Parse strictly: what is not closed is an error."""
    return ET.fromstring(f"<div>{html}</div>")  # noqa: S314 our own texts


def words_in(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


def table_of(text: Wording) -> list[list[str]]:
    """The rows of the one table, its head first."""
    tables = [table for section in text.sections for table in tree(section["html"]).iter("table")]
    assert len(tables) == 1
    return [[words_in(cell) for cell in row] for row in tables[0].iter("tr")]


def blocks(text: Wording) -> Iterator[str]:
    """Every paragraph, item and cell that always stands; a cell with the heads of its row and column before it."""
    for section in text.sections:
        for element in tree(section["html"]).iter():
            if element.tag in {"p", "li"}:
                yield words_in(element)
    head, *body = table_of(text)
    for row in body:
        yield from (f"{row[0]} | {column}: {cell}" for column, cell in zip(head[1:], row[1:], strict=True))


def cases(claim: dict[str, str]) -> dict[str, str]:
    """The sentences of a claim by the case that each is for."""
    return {case: sentence for case, sentence in claim.items() if case != "id"}


def everything_in(text: Wording) -> list[str]:
    """Every piece of prose, with each sentence of each claim."""
    pieces = [text.title]
    for section in text.sections:
        told = [sentence for claim in section.get("claims", ()) for sentence in cases(claim).values()]
        found = (element for html in (section["html"], *told) for element in tree(html).iter())
        pieces += [section["heading"], *(words_in(element) for element in found if element.tag in BLOCKS)]
    return pieces


def says(block: str, phrase: str) -> bool:
    return re.search(".*".join(map(re.escape, phrase.split(" … "))), block) is not None


def test_the_list_of_what_always_stands_is_whole() -> None:
    assert set(ALWAYS) == {*range(1, 43), 46}
    assert len(ALWAYS) == 43


@pytest.mark.parametrize("number", ALWAYS)
def test_what_always_stands_is_said_in_both_languages(number: int) -> None:
    for text, phrase in zip((ENGLISH, SPANISH), ALWAYS[number], strict=True):
        assert any(says(block, phrase) for block in blocks(text)), phrase


@in_both_languages
def test_the_fixed_terms_are_kept(text: Wording) -> None:
    told = " ".join(everything_in(text))
    assert [term for term in FIXED_TERMS[text.language] if term not in told] == []


@in_both_languages
def test_the_comparison_is_a_table_that_can_be_read_aloud(text: Wording) -> None:
    (table,) = (table for section in text.sections for table in tree(section["html"]).iter("table"))
    assert [part.tag for part in table] == ["caption", "thead", "tbody"]
    assert words_in(table[0])
    rows_of = [[(cell.tag, cell.get("scope")) for cell in row] for row in table.iter("tr")]
    assert rows_of == [[("th", "col")] * 3] + [[("th", "row"), ("td", None), ("td", None)]] * 5
    assert all(cell for row in table_of(text) for cell in row)


@in_both_languages
def test_the_html_is_plain(text: Wording) -> None:
    for section in text.sections:
        told = [sentence for claim in section.get("claims", ()) for sentence in cases(claim).values()]
        elements = [element for html in (section["html"], *told) for element in tree(html).iter()]
        assert {element.tag for element in elements} - {"div"} <= ALLOWED
        assert {name for element in elements for name in element.attrib} <= {"scope"}
        assert all(tree(sentence)[0].tag == "p" and len(tree(sentence)) == 1 for sentence in told)


@in_both_languages
def test_the_short_form_stands_first_and_is_short(text: Wording) -> None:
    short = text.sections[0]
    told = words_in(tree(short["html"]))
    assert short["id"] == "in-short"
    assert "claims" not in short
    assert 80 <= len(told.split()) <= 120
    needed = {
        "en": ("common", "rare", "no needles, or talk first", "is not consent to treatment", "in the clinic"),
        "es": ("comunes", "poco frecuentes", "no quiere agujas, o que", "no significa", "se da en la clínica"),
    }
    assert [phrase for phrase in needed[text.language] if phrase not in told] == []


def skeleton(html: str) -> list[tuple[str, dict[str, str]]]:
    return [(element.tag, element.attrib) for element in tree(html).iter()]


def test_both_languages_are_built_alike() -> None:
    def shape(text: Wording) -> list[Any]:
        return [
            (
                section["id"],
                skeleton(section["html"]),
                [
                    (claim["id"], {case: skeleton(sentence) for case, sentence in cases(claim).items()})
                    for claim in section.get("claims", ())
                ],
            )
            for section in text.sections
            if section["id"] != "review"
        ]

    assert shape(ENGLISH) == shape(SPANISH)
    ids = [section["id"] for section in ENGLISH.sections]
    assert len(set(ids)) == len(ids)
    assert all(section["heading"] for text in TEXTS.values() for section in text.sections)


def test_the_spanish_text_says_that_it_awaits_its_review() -> None:
    assert [section["id"] for section in ENGLISH.sections if "review" in section] == []
    (section,) = (section for section in SPANISH.sections if "review" in section)
    assert (section["id"], section["review"]) == ("review", "awaiting review by a clinician who speaks Spanish")
    assert section == SPANISH.sections[-1]
    assert "espera la revisión" in section["html"]


@in_both_languages
def test_the_texts_make_the_claims_that_have_a_rule(text: Wording) -> None:
    made = [claim["id"] for section in text.sections for claim in section.get("claims", ())]
    assert made == list(CLAIMS) == list(claims.RULES)


@in_both_languages
def test_no_number_is_in_a_claim_but_the_clinics_goal(text: Wording) -> None:
    told = {claim["id"]: claim for section in text.sections for claim in section.get("claims", ())}
    assert not re.search(r"\d", str(told))
    assert [claim for claim in told if "{hours}" in told[claim]["holds"]] == ["within_goal"]
    assert not any("{" in told[claim]["fails"] for claim in told)


def fingerprints(text: str) -> set[str]:
    """Short hashes of every sentence of three words and more, and of every run of eight words."""

    def words(part: str) -> list[str]:
        return re.findall(r"\w+", part.lower().replace("’", "'").replace("'", ""))

    sentences = [words(sentence) for sentence in re.split(r"[.!?:•\n]", text)]
    everything = words(text)
    runs = [everything[n : n + RUN] for n in range(len(everything) - RUN + 1)]
    found = [" ".join(part) for part in (*runs, *(sentence for sentence in sentences if len(sentence) > 2))]
    return {sha256(part.encode()).hexdigest()[:10] for part in found}


def test_nothing_is_taken_from_the_article_word_for_word() -> None:
    """The article is the clinic's: what is kept of it here is `fingerprints` of it, enough to know its words again."""
    article = set(BORROWED.read_text().split())
    own = "We differ. Both involve the insertion of needles and can be used for pain relief. So we say."
    assert fingerprints(own) & article, "a sentence of the article must be known again"
    for piece in everything_in(ENGLISH):
        assert not fingerprints(piece) & article, piece
    assert not fingerprints(" ".join(everything_in(ENGLISH))) & article


def grade(text: str) -> float:
    """Flesch and Kincaid's grade; a syllable is a vowel or two, endings that are silent left out."""
    sentences = [part for part in re.split(r"[.!?]+(?:\s|$)", text) if part.strip()]
    words = re.findall(r"[a-z]+", text.lower().replace("'", ""))
    spoken = (re.sub(r"(?:[^laeiouy]es|ed|[^laeiouy]e)$|^y", "", word) for word in words)
    syllables = sum(max(1, len(re.findall(r"[aeiouy]{1,2}", word))) for word in spoken)
    return 0.39 * len(words) / len(sentences) + 11.8 * syllables / len(words) - 15.59


def test_the_grade_is_that_of_flesch_and_kincaid() -> None:
    assert grade("The cat sat on the mat.") == pytest.approx(-1.45, abs=0.01)
    assert grade("The Australian platypus is seemingly a hybrid of a mammal and reptilian creature.") == pytest.approx(
        11.3, abs=1
    )


def test_the_english_is_plain_enough_for_the_ninth_grade() -> None:
    for section in ENGLISH.sections:
        prose = [words_in(block) for block in tree(section["html"]).iter() if block.tag in {"p", "li", "td"}]
        assert grade(" ".join(prose)) <= 9, section["id"]
    assert grade(" ".join(everything_in(ENGLISH))) <= 9


FORMER = Wording(
    "2026-11-22",
    "en",
    "Dry needling at our clinic",
    "The clinic's article of 29 January 2024, retold in short",
    [
        {
            "id": "what",
            "heading": "What it is",
            "html": "<p>Dry needling is one of the tools of physical therapy for painful muscles and joints. A trained "
            "therapist places thin, sterile needles into a trigger point, a tight knot in a muscle. This may ease pain "
            "and help you move.</p>",
        },
        {
            "id": "effects",
            "heading": "What you may notice",
            "html": "<p>Some soreness, bruising or bleeding where the needle went is common and passes. Infection or "
            "nerve injury is rare; that is why only trained professionals should do it. It works differently for "
            "different people, and more research is needed.</p>",
        },
        {
            "id": "choice",
            "heading": "Your choice",
            "html": "<p>It is part of some treatment plans, beside manual therapy and exercise. You can always say "
            "that you want no needles, or that you want to talk about it first.</p>",
        },
    ],
)
SHORT = Wording("1", "es", "Punción", "a test", [{"id": "a", "heading": "¿Qué?", "html": "<p>–</p>"}])
CLAIMING = Wording(
    "2026-12-01",
    "en",
    "New words",
    "a test",
    [
        {
            "id": "a",
            "heading": "A",
            "html": "<p>{hours} {id}</p>",
            "claims": [
                {"id": "licensed", "holds": "<p>{hours} {id} {hours.real}</p>", "fails": "<p>No</p>"},
                {"id": "best_in_town", "holds": "<p>The best</p>", "fails": "<p>One of {hours}</p>"},
            ],
        }
    ],
)


def test_what_was_published_before_hashes_as_it_did() -> None:
    assert FORMER.content_sha256 == "f58f3f207417e8b21bf47f5c0087096b55278c3f418cccc4dcbc8377cfc62d13"
    assert SHORT.content_sha256 == "b5961143e8693a1e48a07cbd57cbe29e8d2828a8d3f1e482d16da9c683437b92"


def test_the_version_before_claims_had_words_in_between_hashes_as_it_did() -> None:
    """The one of 2026-11-23, as databases hold it: of the claim of the wait it had only two sentences."""
    holds = "<p>New patients are typically seen within {hours} hours.</p>"
    fails = (
        "<p>Right now, the wait for a first visit is longer than our goal at one or more locations. When you book, "
        "you see the soonest times that are open.</p>"
    )
    *others, clinic, next_step = ENGLISH.sections
    before = {"id": "within_goal", "holds": holds, "fails": fails}
    then = clinic | {"claims": [*clinic["claims"][:2], before]}
    old = replace(ENGLISH, version="2026-11-23", sections=[*others, then, next_step])
    assert old.content_sha256 == "014a1c9a9ee4bb07caab66ded73ba789391faf2ac86f6787248ff9b3c5370287"


def test_the_hash_covers_every_word_that_may_be_shown() -> None:
    section = CLAIMING.sections[0]
    first, second = section["claims"]
    others = [
        section | {"claims": [first]},
        section | {"claims": [second, first]},
        section | {"claims": []},
        section | {"review": "awaiting review"},
        section | {"claims": [first | {"soonest": "other"}, second]},
        section | {"claims": [first | {"working_days": "other"}, second]},
        *(section | {"claims": [first | {part: "other"}, second]} for part in first),
        *(section | {part: "other"} for part in ("id", "heading", "html")),
    ]
    hashes = {replace(CLAIMING, sections=[other]).content_sha256 for other in (section, *others)}
    assert len(hashes) == len(others) + 1


def start_of(sentence: str) -> str:
    """A sentence up to what is filled in."""
    return sentence.partition("{")[0]


def publish(engine: Engine, wordings: Sequence[Wording], clock: FixedClock) -> None:
    with transaction(engine) as session:
        explainer.publish(session, wordings, now=clock.now())


def told(clinic: Clinic, language: str = "en") -> dict[str, str]:
    """The current explainer as it is to be shown now: the html of its sections by their ids."""
    with reading(clinic.engine) as session:
        version = explainer.current(session, language)
        shown = explainer.sections(version, claims.present(session, now=clinic.clock.now()))
    assert {tuple(section) for section in shown} == {("id", "heading", "html")}
    return {section["id"]: section["html"] for section in shown}


def test_the_rows_keep_the_texts_as_they_were_published(engine: Engine, clock: FixedClock) -> None:
    publish(engine, [FORMER, CLAIMING], clock)
    with reading(engine) as session:
        stored = {(row.version, row.language): row for row in rows(session, ExplainerVersion)}
        assert all(explainer.unchanged(row) for row in stored.values())
        for text in (ENGLISH, SPANISH, FORMER, CLAIMING):
            assert stored[text.version, text.language].sections == text.sections
            assert stored[text.version, text.language].content_sha256 == text.content_sha256
    assert len(stored) == 4


def test_a_database_keeps_the_version_that_this_one_replaces(engine: Engine, clock: FixedClock) -> None:
    published = clock.now()
    clock.at = published - timedelta(days=1)
    publish(engine, [FORMER], clock)
    clock.at = published + HOUR
    publish(engine, cli.wordings(), clock)
    with reading(engine) as session:
        assert explainer.current(session, "en").version == EXPLAINER
        assert explainer.shown(session, FORMER.version, "en", now=clock.now()).title == FORMER.title
        with pytest.raises(Invalid):
            explainer.shown(session, FORMER.version, "en", now=published + 24 * HOUR)


def test_a_claim_that_is_reworded_needs_a_new_version(engine: Engine, clock: FixedClock) -> None:
    publish(engine, [CLAIMING], clock)
    publish(engine, [CLAIMING], clock)
    section = CLAIMING.sections[0]
    reworded = section | {"claims": [section["claims"][0] | {"fails": "<p>Hardly</p>"}, section["claims"][1]]}
    with pytest.raises(WordingChanged, match="2026-12-01"):
        publish(engine, [replace(CLAIMING, sections=[reworded])], clock)


def test_only_the_hours_of_a_claim_are_filled_in(clinic: Clinic, clock: FixedClock) -> None:
    clinic.policy(access_goal_hours=72)
    publish(clinic.engine, [CLAIMING], clock)
    assert told(clinic) == {"a": "<p>{hours} {id}</p><p>72 {id} {hours.real}</p><p>One of 72</p>"}


def test_the_wait_is_told_in_the_strongest_words_that_are_true(clinic: Clinic) -> None:
    fill_two_days(clinic)
    assert "seen within two working days at each of our locations." in told(clinic)["our-clinic"]
    assert "en un plazo de dos días hábiles en cada una" in told(clinic, "es")["our-clinic"]
    fill_the_week(clinic)
    with transaction(clinic.engine) as session:
        session.get_one(Location, 1).name = "{hours} & {place} <b>"
    soonest = "is Thursday, November 26, 10:00 AM Central Standard Time, at {hours} &amp; {place} &lt;b&gt;.</p>"
    assert soonest in told(clinic)["our-clinic"]
    assert "es ahora jueves 26 de noviembre, 10:00 a. m., hora" in told(clinic, "es")["our-clinic"]
    assert [words.working_days(number, "en") for number in (1, 2, 14)] == [
        "one working day",
        "two working days",
        "14 working days",
    ]


def test_a_text_from_before_has_no_words_in_between(clinic: Clinic, clock: FixedClock) -> None:
    claim = {"id": "within_goal", "holds": "<p>Within {hours}</p>", "fails": "<p>Later</p>"}
    section = CLAIMING.sections[0] | {"claims": [claim]}
    publish(clinic.engine, [replace(CLAIMING, sections=[section])], clock)
    assert told(clinic)["a"].endswith("<p>Within 48</p>")
    fill_two_days(clinic)
    assert told(clinic)["a"].endswith("<p>Later</p>")


def test_a_text_without_claims_is_shown_as_it_stands(clinic: Clinic, clock: FixedClock) -> None:
    publish(clinic.engine, [replace(FORMER, version="2026-12-01")], clock)
    assert told(clinic) == {section["id"]: section["html"] for section in FORMER.sections}


def hire_somebody_unlicensed(clinic: Clinic) -> None:
    clinic.add_hours(clinic.add_therapist("Ben Brown", kinds=("pt",)), 1)


def open_without_staff(clinic: Clinic) -> None:
    clinic.add_location("Chatham")


def fill_two_days(clinic: Clinic) -> None:
    while (offer := clinic.offers(limit=1)[0]).slot.starts_at <= clinic.clock.now() + 48 * HOUR:
        clinic.book(str(offer.slot))


def fill_the_week(clinic: Clinic) -> None:
    while (offer := clinic.offers(limit=1)[0]).slot.starts_at <= clinic.clock.now() + 72 * HOUR:
        clinic.book(str(offer.slot))


def offer_nothing(clinic: Clinic) -> None:
    clinic.policy(booking_notice_minutes=89 * 1440, booking_horizon_days=1)


BROKEN: dict[str, tuple[str, Callable[[Clinic], None], str]] = {
    "licensed": ("licensed", hire_somebody_unlicensed, "fails"),
    "everywhere": ("everywhere", open_without_staff, "fails"),
    "two days": ("within_goal", fill_two_days, "working_days"),
    "a week": ("within_goal", fill_the_week, "soonest"),
    "no end": ("within_goal", offer_nothing, "fails"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_claim_is_shown_while_it_is_true_and_never_when_it_is_not(
    client: FlaskClient, clinic: Clinic, broken: str
) -> None:
    claim_id, spoil, says = BROKEN[broken]

    def shown_and_not(text: Wording) -> tuple[bool, bool]:
        answer = client.get(f"/api/v1/explainer?language={text.language}").get_json()
        schemas.ExplainerOut.model_validate(answer)
        (html,) = (section["html"] for section in answer["sections"] if section["id"] == "our-clinic")
        (claim,) = (c for s in text.sections for c in s.get("claims", ()) if c["id"] == claim_id)
        true, otherwise = start_of(claim["holds"].replace("{hours}", "48")), start_of(claim[says])
        assert (otherwise in str(answer)) == (otherwise in html)
        assert "{" not in str([section["html"] for section in answer["sections"]])
        return true in html, otherwise in html

    assert [shown_and_not(text) for text in (ENGLISH, SPANISH)] == [(True, False)] * 2
    spoil(clinic)
    assert [shown_and_not(text) for text in (ENGLISH, SPANISH)] == [(False, True)] * 2


@on_sqlite
def test_what_is_shown_is_the_text_with_its_claims_behind(clinic: Clinic) -> None:
    shown = told(clinic)
    for section in ENGLISH.sections:
        true = "".join(claim["holds"] for claim in section.get("claims", ())).replace("{hours}", "48")
        assert shown[section["id"]] == section["html"] + true
    assert "{" not in str(list(shown.values()))
    clinic.policy(access_goal_hours=24)
    assert "within 24 hours" in told(clinic)["our-clinic"]
    fill_two_days(clinic)
    assert "hours" not in told(clinic)["our-clinic"]
