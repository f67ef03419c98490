"""Messages to a site's program and back."""

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from medfl.errors import FederationError
from medfl.federation.program import EvaluateReply, FeatureSiteProgram, Order, SiteMemory, SiteProgram
from medfl.federation.records import (
    CONTROL,
    MEASURES,
    MODEL,
    ORDER,
    REPORT,
    SEALED,
    arrays_in,
    from_record,
    to_record,
)

_MEMORY = "memory"
_RESERVED = frozenset({"round", "rounds"})


def describe(message: Message, program: SiteProgram) -> Message:
    """Answer with the site's name and counts."""
    facts = program.describe()
    report = ConfigRecord({"site": facts.site})
    for split in facts.subjects:
        report[f"subjects-{split}"] = facts.subjects[split]
        report[f"studies-{split}"] = facts.studies[split]
    return Message(RecordDict({REPORT: report}), reply_to=message)


def train(message: Message, context: Context, program: SiteProgram) -> Message:
    """Answer with the trained model."""
    memory = _recalled(context)
    reply = program.train(_order(message), memory)
    _remember(context, memory)
    content = RecordDict({MODEL: to_record(reply.model)})
    if reply.control:
        content[CONTROL] = to_record(reply.control)
    report = MetricRecord({"subjects": reply.subjects, "studies": reply.studies})
    for name, told in (("loss", reply.loss), ("seconds", reply.seconds)):
        if told is not None:
            report[name] = told
    content[REPORT] = report
    return Message(content, reply_to=message)


def evaluate(message: Message, context: Context, program: SiteProgram) -> Message:
    """Answer with additive measures of one split."""
    return _measured(message, program.evaluate(_order(message), _recalled(context)))


def finish(message: Message, context: Context, program: SiteProgram) -> Message:
    """Judge the final model, keep what stays at the site, answer with additive measures."""
    memory = _recalled(context)
    reply = program.finish(_order(message), memory)
    _remember(context, memory)
    return _measured(message, reply)


def sums(message: Message, program: SiteProgram) -> Message:
    """Answer with sums over features."""
    return _measured(message, _sharing_features(program).sums(_order(message)))


def choose(message: Message, context: Context, program: SiteProgram) -> Message:
    """Answer with counts for each candidate of a bottleneck."""
    memory = _recalled(context)
    reply = _sharing_features(program).choose(_order(message), memory)
    _remember(context, memory)
    return _measured(message, reply)


def release(message: Message, context: Context, program: SiteProgram) -> Message:
    """Answer with sealed envelopes of protected features."""
    memory = _recalled(context)
    reply = _sharing_features(program).release(_order(message), memory)
    _remember(context, memory)
    report = ConfigRecord(
        {"subjects": reply.subjects, "studies": reply.studies, "seconds": reply.seconds, "key-id": reply.key_id}
    )
    return Message(RecordDict({SEALED: to_record(reply.sealed), REPORT: report}), reply_to=message)


def _sharing_features(program: SiteProgram) -> FeatureSiteProgram:
    if not isinstance(program, FeatureSiteProgram):
        raise FederationError(
            "Only a run with sharing 'features' may ask a site for features; this one shares weights."
        )
    return program


def _measured(message: Message, reply: EvaluateReply) -> Message:
    report = ConfigRecord({"subjects": reply.subjects, "studies": reply.studies, "suppressed": reply.suppressed})
    return Message(RecordDict({MEASURES: to_record(reply.measures), REPORT: report}), reply_to=message)


def _order(message: Message) -> Order:
    config = message.content.config_records[ORDER]
    options = {
        name: value
        for name, value in config.items()
        if name not in _RESERVED and isinstance(value, int | float | str | bool | list)
    }
    return Order(
        round=int(str(config["round"])),
        rounds=int(str(config["rounds"])),
        model=arrays_in(message, MODEL),
        control=arrays_in(message, CONTROL),
        options={
            name: [str(item) for item in value] if isinstance(value, list) else value for name, value in options.items()
        },
    )


def _recalled(context: Context) -> SiteMemory:
    record = context.state.array_records.get(_MEMORY)
    return SiteMemory() if record is None else SiteMemory(from_record(record))


def _remember(context: Context, memory: SiteMemory) -> None:
    if memory.arrays:
        context.state[_MEMORY] = to_record(memory.arrays)
    elif _MEMORY in context.state:
        context.state[_MEMORY] = ArrayRecord()
