"""A plan as lines of plain text for somebody who runs a hospital's computers."""

from collections.abc import Iterator
from typing import Any

_FIRST = 6
_SPLITS = {"train": "training", "val": "validation", "test": "test"}
_UNITS = ("bytes", "KB", "MB", "GB", "TB")


def plan_lines(summary: dict[str, Any], *, whole: bool) -> Iterator[str]:
    """Yield the lines.

    Parameters
    ----------
    summary : dict
        From `pipelines.plan_summary`, with what the site says about it.
    whole : bool
        List every array.
    """
    yield f"Plan '{summary['name']}'"
    yield f"sha256 {summary['sha256']}"
    yield from _part(
        "Why",
        [
            f"Purpose: {summary['purpose']}",
            f"Protocol: {summary['protocol']}",
            f"Legal basis: {summary['legal_basis']}",
            f"Questions to: {summary['contact']}",
            f"Hospitals: {', '.join(summary['sites'])}",
            f"Ends on: {summary['expires']}",
        ],
    )
    yield from _part("What will run on this site's computer", summary["runs"])
    yield from _part("On which data", list(_data(summary)))
    yield from _part("What leaves the site", [])
    for number, reply in enumerate(summary["replies"], start=1):
        yield from _reply(number, reply, whole=whole)
    totals = summary["totals"]
    yield ""
    yield f"  All together at most {size(totals['planned_bytes'])}."
    yield (
        "  A hub that had to be started again asks once more for what was in work: "
        f"{_repeats(summary['replies'])}; never more than {size(totals['highest_bytes'])} in all."
    )
    yield "  Any other reply, name, shape, type or size is refused at this site before it leaves."
    if summary.get("objections") is not None:
        yield from _of_site(summary)
    yield from _part("To approve this plan, and nothing else, at a site", [summary["approve"]])


def _repeats(replies: list[dict[str, Any]]) -> str:
    """Return what a hub may ask for again, such as "up to 10 times for 1 and 2, up to 3 times for 3"."""
    numbers: dict[int, list[str]] = {}
    for number, reply in enumerate(replies, start=1):
        numbers.setdefault(reply["repeats"], []).append(str(number))
    return ", ".join(f"up to {times} times for {' and '.join(of)}" for times, of in numbers.items())


def size(count: int) -> str:
    """Return a number of bytes in words, such as "310 KB"."""
    value = float(count)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def _part(title: str, lines: list[str]) -> Iterator[str]:
    yield ""
    yield title
    yield from (f"  {line}" for line in lines)


def _data(summary: dict[str, Any]) -> Iterator[str]:
    yield "The studies in this site's own list of images (its manifest)."
    subjects, studies = summary["subjects"], summary["studies"]
    if subjects is None:
        yield "How many there are is shown with --site STATE or --manifest FILE."
    else:
        parts = [f"{subjects[split]} subjects ({studies[split]} studies) for {_SPLITS[split]}" for split in subjects]
        yield f"{'; '.join(parts)}."
    yield f"These stay at the site: {', '.join(summary['stays'])}."


def _reply(number: int, reply: dict[str, Any], *, whole: bool) -> Iterator[str]:
    yield f"  {number}. {reply['when']}: {reply['about']}"
    splits = [_SPLITS[split] for split in reply["split"].split(" and ") if split]
    if splits:
        yield f"     about: {', '.join(splits)} studies; at least {reply['minimum_subjects']} subjects, else nothing"
    count = sum(array["most"] for record in reply["records"] for array in record["arrays"])
    if count:
        yield f"     size: {count:,} arrays, {reply['values']:,} numbers, at most {size(reply['max_bytes'])} each time"
    yield f"     protection: {reply['guarantee_words']}"
    for record in reply["records"]:
        yield from _arrays(record, whole=whole)
        if record["note"]:
            yield f"       {record['note']}"
    yield f"     and these values: {', '.join(one['name'] for one in reply['report'])}"


def _arrays(record: dict[str, Any], *, whole: bool) -> Iterator[str]:
    arrays = record["arrays"]
    shown = arrays if whole else arrays[:_FIRST]
    for array in shown:
        shape = " x ".join(str(extent) for extent in array["shape"]) or "one number"
        many = f", up to {array['most']:,} of them" if array["most"] > 1 else ""
        yield f"       {record['name']}/{array['name']}: {shape}, {array['dtype']}, {size(array['bytes'])}{many}"
    if len(arrays) > len(shown):
        yield f"       ... and {len(arrays) - len(shown)} more; all of them with --arrays"


def _of_site(summary: dict[str, Any]) -> Iterator[str]:
    found = summary["objections"]
    lines = [f"not allowed [{one['code']}]: {one['text']}" for one in found] or ["The plan is within the policy."]
    margins = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in summary["margins"].items())
    lines.append(f"Margins that an audit of the run is judged by: {margins}.")
    lines.append(
        "A run must pass the gate here before its model is released."
        if summary["gate"]
        else "No gate is asked for before the model is released."
    )
    yield from _part(f"What the policy of '{summary['site']}' says", lines)
