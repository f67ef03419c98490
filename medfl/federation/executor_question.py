"""What a message asks, after it was compared with the plan: one thing, or two where it is paired."""

from dataclasses import dataclass

from flwr.app import RecordDict

from medfl.federation.executor_task import Task, TaskLostError, TooManyBytesError
from medfl.federation.inbound import RequestError, RequestRule, Requests, check_request
from medfl.federation.packing import unpack
from medfl.federation.paired import part
from medfl.federation.records import EVALUATE

_SLACK = 1 << 20


@dataclass(frozen=True)
class Question:
    """One thing that the plan has.

    Attributes
    ----------
    kind : str
    content : RecordDict
    round : int
        0 before the first.
    """

    kind: str
    content: RecordDict
    round: int


def questions_of(task: Task, kind: str, requests: Requests) -> tuple[Question, Question | None]:
    """Fetch a message and return what it asks; nothing of it is answered where one part is not in the plan.

    Parameters
    ----------
    task : Task
    kind : str
        Type of the message.
    requests : Requests
        Of the plan.

    Returns
    -------
    tuple
        What the message is named after, and what has to be answered before it, if anything.

    Raises
    ------
    RequestError
    TaskLostError
    """
    content, before = part(kind, _fetched(task, requests.rule(kind)))
    question = _checked(requests, kind, content)
    return question, None if before is None else _checked(requests, EVALUATE, before)


def _checked(requests: Requests, kind: str, content: RecordDict) -> Question:
    return Question(kind, content, check_request(content, requests.rule(kind)))


def _fetched(task: Task, rule: RequestRule) -> RecordDict:
    try:
        return unpack(task.content(rule.max_bytes + _SLACK))
    except TooManyBytesError as error:
        raise RequestError("message_bytes", str(error)) from error
    except TaskLostError:
        raise
    except Exception as error:
        raise RequestError("unreadable", "A message must be records of Flower; it is not.") from error
