"""One case: the image with its masks, sizes of structures, uncertainty in words, flags."""

from collections.abc import Mapping, Sequence

import streamlit as st

from app.dashboard import kept
from app.dashboard.case_table import Case, CaseTable, quantile_of
from app.dashboard.context import Context
from app.dashboard.escaping import line, markdown
from app.dashboard.images import CaseImages, NoImages, StructureSizes
from app.dashboard.screens.flagging import show_flags
from app.dashboard.viewer.component import show_volume
from app.dashboard.viewer.structures import Structure, structures_of
from app.dashboard.wording import NO_VALUE, Wording
from medfl.config.task import Segmentation
from medfl.errors import MedFLError
from medfl.governance.case_flags import FlagJournal

_HEIGHT = 400
_FEWEST = 10


def show_case(context: Context, table: CaseTable, case: Case, journal: FlagJournal) -> None:
    """Show one case of a run."""
    words = context.words
    st.markdown(f"#### {markdown(case.study)}")
    st.caption(_facts(case, words))
    st.markdown(_in_words(case, table, words))
    structures = _structures(context, table)
    images = _images(context, case, structures)
    if images is not None:
        for name in images.left_out:
            st.warning(words[f"mask left out {name}"])
        show_volume(
            images.prepared,
            key=f"viewer {case.site} {case.study}",
            structures=structures,
            words=words.viewer(),
            height=_HEIGHT,
        )
        if structures and (images.has_reference or images.has_model):
            st.table(_size_rows(case, images, structures, words), border="horizontal", hide_index=True)
            st.caption(words["sizes note"])
    if table.kind == "classification":
        _probabilities(case, table, words)
    show_flags(context, case, journal)


def _facts(case: Case, words: Wording) -> str:
    """Return what is known about the study in one line."""
    named = (
        ("site", case.site),
        ("subject", case.subject),
        ("sex", case.sex),
        ("age", case.age),
        ("scanner", case.scanner),
        ("visit_date", case.visit_date),
    )
    return " · ".join(f"{words[name]}: {markdown(value)}" for name, value in named if value)


def _in_words(case: Case, table: CaseTable, words: Wording) -> str:
    """Return how good and how certain the model is, in words and then numbers."""
    same = table.of_site(case.site)
    said = []
    if case.dice is not None:
        below = quantile_of(case.dice, [one.dice for one in same if one.dice is not None])
        said.append(words[_place("agreement", below)].format(dice=words.number(case.dice)))
    if table.kind == "classification":
        said.append(_verdict(case, table, words))
    doubt = case.numbers.get("entropy")
    if doubt is not None:
        below = quantile_of(doubt, [one.numbers["entropy"] for one in same if "entropy" in one.numbers])
        said.append(words["doubt is high" if below > 0.9 else "doubt is low" if below < 0.5 else "doubt is usual"])
        spread = case.numbers.get("spread")
        among = [one.numbers["spread"] for one in same if "spread" in one.numbers]
        if spread is not None and quantile_of(spread, among) > 0.9:
            said.append(words["spread is high"])
    return " ".join(said)


def _place(name: str, below: float) -> str:
    return f"{name} {'low' if below < 0.1 else 'below' if below < 0.4 else 'middle' if below <= 0.6 else 'above'}"


def _verdict(case: Case, table: CaseTable, words: Wording) -> str:
    said = named_class(case.numbers.get("predicted"), table)
    meant = named_class(case.numbers.get("label"), table)
    if said is None:
        return ""
    sentences = [words["model says"].format(name=markdown(said))]
    if meant is not None:
        sentences.append(words["reference says"].format(name=markdown(meant)))
        sentences.append(f"**{words['right'] if case.is_right else words['wrong']}.**")
    return " ".join(sentences)


def named_class(index: float | None, table: CaseTable) -> str | None:
    """Return the name of a class by its number in the table; None where there is none."""
    if index is None or not 0 <= index < len(table.classes) or index != int(index):
        return None
    return table.classes[int(index)]


def _structures(context: Context, table: CaseTable) -> tuple[Structure, ...]:
    """Return names, labels and colours; from the settings, else numbered as in the table."""
    if table.kind != "segmentation":
        return ()
    config = context.read(kept.config_of)
    if config is not None and isinstance(config.task, Segmentation):
        classes: Mapping[str, int] = config.task.classes
    else:
        classes = {name: number for number, name in enumerate(table.classes, start=1)}
    return structures_of({line(name): label for name, label in classes.items()})


def _images(context: Context, case: Case, structures: Sequence[Structure]) -> CaseImages | None:
    words = context.words
    labels = tuple(one.label for one in structures)
    try:
        with st.spinner(words["looking for images"]):
            images = kept.case_images(context.run, context.settings.site, case, labels)
    except NoImages as error:
        st.warning(words[f"no images {error.reason}"])
        return None
    except MedFLError:
        st.warning(words["image unreadable"])
        return None
    if images is None:
        st.warning(words["image missing"])
    return images


def _size_rows(case: Case, images: CaseImages, structures: Sequence[Structure], words: Wording) -> dict[str, list[str]]:
    """Return the table of structures, column by column."""
    sizes = {one.label: one for one in images.sizes}
    unit, digits = ("ml", 2) if images.prepared.is_volume else ("px", 0)
    rows = [(one.name, sizes[one.label]) for one in structures if one.label in sizes]

    def column(title: str, value: Sequence[str]) -> dict[str, list[str]]:
        return {title: list(value)}

    def amounts(of: Sequence[float | None]) -> list[str]:
        return [words.number(value, digits) for value in of]

    table = column(words["structure"], [markdown(name) for name, _ in rows])
    if images.has_reference:
        table |= column(f"{words['by reference']} ({unit})", amounts([size.reference for _, size in rows]))
    if images.has_model:
        table |= column(f"{words['by model']} ({unit})", amounts([size.model for _, size in rows]))
    if images.has_reference and images.has_model:
        table |= column(f"{words['missed']} ({unit})", _differences(rows, "missed", digits, words))
        table |= column(f"{words['false']} ({unit})", _differences(rows, "false", digits, words))
        table |= column("Dice", [words.number(case.numbers.get(f"dice/{name}")) for name, _ in rows])
        if images.prepared.is_volume:
            distance = [words.number(case.numbers.get(f"hd95_mm/{name}"), 1) for name, _ in rows]
            table |= column(words["hd95"], distance)
    return table


def _differences(rows: Sequence[tuple[str, StructureSizes]], kind: str, digits: int, words: Wording) -> list[str]:
    """Return how much was missed or made up, and in how many regions that the other mask does not touch."""
    said = []
    for _, size in rows:
        amount, regions = (size.missed, size.missed_regions) if kind == "missed" else (size.false, size.false_regions)
        whole = words["whole regions"].format(n=regions) if regions else ""
        said.append(f"{words.number(amount, digits)}{whole}" if amount is not None else NO_VALUE)
    return said


def _probabilities(case: Case, table: CaseTable, words: Wording) -> None:
    """Show how often the model was right with a confidence like this one; no bare per cent."""
    confidence = case.numbers.get("confidence")
    if confidence is None:
        return
    low = min(int(confidence * 10), 9) / 10
    alike = [
        one
        for one in table.cases
        if one.is_right is not None and low <= one.numbers.get("confidence", -1.0) <= low + 0.1
    ]
    place = {"low": words.number(low, 1), "high": words.number(low + 0.1, 1), "value": words.number(confidence)}
    if len({(one.site, one.subject) for one in alike}) < _FEWEST:
        st.markdown(words["confidence few"].format(**place))
        return
    right = sum(bool(one.is_right) for one in alike)
    st.markdown(words["confidence"].format(n=len(alike), right=right, **place))
