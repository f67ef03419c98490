"""Two questions in one message: how good is the model that a round starts from, and train it.

A hub that asked for the measures of a round's model in a message of their own would make every site wait for two
messages in a round. Nothing else changes: each end takes a paired message apart before it looks at anything, so that
both questions and both replies pass the same checks as alone, in the order of "evaluate, then train".
"""

from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Error, Message, RecordDict

from medfl.federation.guard import Handler, refusal
from medfl.federation.records import EVALUATE, MEASURES, MODEL, ORDER, REPORT, TRAIN

EVALUATE_ORDER, EVALUATE_REPORT, REFUSED = "evaluate-order", "evaluate-report", "refused"

Outcome = RecordDict | int
"""What a site answers to one question: records, or the code of an error."""


def pair(train: RecordDict, evaluate_order: ConfigRecord) -> RecordDict:
    """Return the content of a message that asks for measures of the model in it before it is trained.

    Parameters
    ----------
    train : RecordDict
        Of the training message.
    evaluate_order : ConfigRecord
        What the order of the other message would be.
    """
    paired = RecordDict(dict(train.items()))
    paired[EVALUATE_ORDER] = evaluate_order
    return paired


def part(kind: str, content: RecordDict) -> tuple[RecordDict, RecordDict | None]:
    """Return the questions of a message: the one it is named after, and the measures to answer with before it.

    Parameters
    ----------
    kind : str
        Type of the message. Only a training message can hold two questions; any other is returned as it is.
    content : RecordDict
    """
    order = content.config_records.get(EVALUATE_ORDER)
    if kind != TRAIN or order is None:
        return content, None
    train = RecordDict({name: record for name, record in content.items() if name != EVALUATE_ORDER})
    evaluate = RecordDict({ORDER: order})
    if MODEL in content.array_records:
        evaluate[MODEL] = content.array_records[MODEL]
    return train, evaluate


def pair_replies(trained: Outcome, evaluated: Outcome) -> Outcome:
    """Return what a paired message is answered with; the code of the training where both failed."""
    if isinstance(trained, int) and isinstance(evaluated, int):
        return trained
    paired, refused = RecordDict(), ConfigRecord()
    if isinstance(trained, int):
        refused[TRAIN] = trained
    else:
        paired = RecordDict(dict(trained.items()))
    if isinstance(evaluated, int):
        refused[EVALUATE] = evaluated
    else:
        paired[EVALUATE_REPORT] = evaluated[REPORT]
        if MEASURES in evaluated:
            paired[MEASURES] = evaluated[MEASURES]
    if refused:
        paired[REFUSED] = refused
    return paired


def part_replies(reply: Message) -> tuple[Message, Message]:
    """Return the replies to both questions of a paired message, the training first; each may lack its report."""
    if reply.has_error():
        return reply, reply
    content = reply.content
    codes = content.config_records.get(REFUSED, ConfigRecord())
    evaluated, trained = RecordDict(), RecordDict()
    for name, record in content.items():
        if name == EVALUATE_REPORT:
            evaluated[REPORT] = record
        elif name == MEASURES:
            evaluated[MEASURES] = record
        elif name != REFUSED:
            trained[name] = record
    return _message(reply, trained, codes.get(TRAIN)), _message(reply, evaluated, codes.get(EVALUATE))


def answering_pairs(ask: Handler) -> Callable[[Message, Context, Handler], Message]:
    """Return a mod that answers both questions of a paired message, one after the other.

    Parameters
    ----------
    ask : callable
        The whole app: Flower chooses a handler before any mod can change the type of a message.

    Returns
    -------
    callable
        For outside of `guard`, which then looks at each reply by itself.
    """

    def answer(message: Message, context: Context, call_next: Handler) -> Message:
        content = message.content if message.has_content() else RecordDict()
        train, evaluate = part(message.metadata.message_type, content)
        if evaluate is None:
            return call_next(message, context)
        evaluated = _outcome(ask(Message(evaluate, message.metadata.dst_node_id, EVALUATE), context))
        message.content = train
        paired = pair_replies(_outcome(call_next(message, context)), evaluated)
        return refusal(message, paired) if isinstance(paired, int) else Message(paired, reply_to=message)

    return answer


def _outcome(reply: Message) -> Outcome:
    return reply.error.code if reply.has_error() else reply.content


def _message(reply: Message, content: RecordDict, code: object) -> Message:
    made = Message(content, reply.metadata.src_node_id, reply.metadata.message_type)
    if code is None:
        return made
    return Message(Error(code=code if isinstance(code, int) else 0, reason=""), reply_to=made)
