"""Two questions in one message are answered as two messages would be."""

from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from medfl.federation.guard import BUDGET_EXHAUSTED, DATA_ERROR, INTERNAL_ERROR
from medfl.federation.paired import EVALUATE_ORDER, answering_pairs, pair, pair_replies, part, part_replies
from medfl.federation.records import EVALUATE, FINISH, MEASURES, MODEL, ORDER, REPORT, TRAIN, to_record

WEIGHTS = {"w": np.arange(6.0).reshape(2, 3)}
TRAIN_ORDER, EVALUATE_QUESTION = {"round": 3, "rounds": 5}, {"round": 2, "rounds": 5, "split": "val"}


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower makes messages only inside of a task."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def training() -> RecordDict:
    return RecordDict({MODEL: to_record(WEIGHTS), "control": to_record(WEIGHTS), ORDER: ConfigRecord(TRAIN_ORDER)})


def paired() -> RecordDict:
    return pair(training(), ConfigRecord(EVALUATE_QUESTION))


def trained() -> RecordDict:
    return RecordDict({MODEL: to_record(WEIGHTS), REPORT: MetricRecord({"subjects": 9, "loss": 0.5})})


def measured(suppressed: str = "") -> RecordDict:
    content = RecordDict({REPORT: ConfigRecord({"subjects": 4, "suppressed": suppressed})})
    content[MEASURES] = to_record({} if suppressed else WEIGHTS)
    return content


def reply_of(outcome: RecordDict | int) -> Message:
    asked = Message(RecordDict(), 5, TRAIN)
    if isinstance(outcome, int):
        return Message(Error(code=outcome, reason=""), reply_to=asked)
    return Message(outcome, reply_to=asked)


def outcome_of(message: Message) -> RecordDict | int:
    return message.error.code if message.has_error() else message.content


def test_a_paired_message_holds_what_two_messages_would() -> None:
    train, evaluate = part(TRAIN, paired())
    assert train == training()
    assert evaluate == RecordDict({MODEL: to_record(WEIGHTS), ORDER: ConfigRecord(EVALUATE_QUESTION)})


def test_a_message_with_one_question_stays_as_it_is() -> None:
    content = training()
    assert part(TRAIN, content) == (content, None)


@pytest.mark.parametrize("kind", [EVALUATE, FINISH])
def test_only_training_can_be_paired_and_another_message_keeps_the_record_for_the_checks(kind: str) -> None:
    content, before = part(kind, paired())
    assert before is None
    assert EVALUATE_ORDER in content


def test_a_message_without_a_model_asks_for_measures_of_none() -> None:
    content = pair(RecordDict({ORDER: ConfigRecord(TRAIN_ORDER)}), ConfigRecord(EVALUATE_QUESTION))
    assert part(TRAIN, content)[1] == RecordDict({ORDER: ConfigRecord(EVALUATE_QUESTION)})


@pytest.mark.parametrize("train", [trained(), BUDGET_EXHAUSTED])
@pytest.mark.parametrize("evaluate", [measured(), measured("too_few"), DATA_ERROR])
def test_both_outcomes_arrive_as_in_replies_of_their_own(train: RecordDict | int, evaluate: RecordDict | int) -> None:
    found = part_replies(reply_of(pair_replies(train, evaluate)))
    if isinstance(train, int) and isinstance(evaluate, int):
        assert [outcome_of(one) for one in found] == [train, train]
    else:
        assert [outcome_of(one) for one in found] == [train, evaluate]


def test_a_reply_to_one_question_lacks_the_measures_and_nothing_else() -> None:
    train, evaluate = part_replies(reply_of(trained()))
    assert outcome_of(train) == trained()
    assert outcome_of(evaluate) == RecordDict()


@pytest.mark.parametrize("codes", [{"train": "x"}, {"train": [1, 2]}, {"other": 5}, {"evaluate": True}])
def test_a_reply_with_other_codes_breaks_nothing(codes: dict[str, str | list[int] | int]) -> None:
    content = trained()
    content["refused"] = ConfigRecord(codes)
    train, evaluate = part_replies(reply_of(content))
    assert train.has_error() is ("train" in codes)
    assert evaluate.has_error() is ("evaluate" in codes)


def answering(told: list[str], train: RecordDict | int, evaluate: RecordDict | int) -> Callable[..., Message]:
    def call_next(message: Message, context: Context) -> Message:
        told.append(message.metadata.message_type)
        outcome = train if message.metadata.message_type == TRAIN else evaluate
        if isinstance(outcome, int):
            return Message(Error(code=outcome, reason=""), reply_to=message)
        return Message(outcome, reply_to=message)

    return call_next


def asked(content: RecordDict, told: list[str], train: RecordDict | int, evaluate: RecordDict | int) -> Message:
    context = Context(run_id=1, node_id=5, node_config={}, state=RecordDict(), run_config={})
    answer = answering(told, train, evaluate)
    return answering_pairs(answer)(Message(content, 5, TRAIN), context, answer)


def test_measures_are_answered_before_the_model_is_trained() -> None:
    told: list[str] = []
    train, evaluate = part_replies(asked(paired(), told, trained(), measured()))
    assert told == [EVALUATE, TRAIN]
    assert (outcome_of(train), outcome_of(evaluate)) == (trained(), measured())


def test_a_message_with_one_question_is_handed_on() -> None:
    told: list[str] = []
    reply = asked(training(), told, trained(), measured())
    assert told == [TRAIN]
    assert reply.content == trained()


def test_where_both_fail_the_reply_is_one_word() -> None:
    reply = asked(paired(), [], INTERNAL_ERROR, DATA_ERROR)
    assert reply.has_error()
    assert (reply.error.code, reply.error.reason) == (INTERNAL_ERROR, "internal_error")


def test_where_one_fails_the_other_still_counts() -> None:
    train, evaluate = part_replies(asked(paired(), [], BUDGET_EXHAUSTED, measured()))
    assert (outcome_of(train), outcome_of(evaluate)) == (BUDGET_EXHAUSTED, measured())
