import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.logger import FLOWER_LOGGER

from medfl.errors import FederationError
from medfl.federation.hub import Hub, Limits, Trained
from medfl.federation.loopback import LoopbackGrid
from medfl.federation.program import Arrays, EvaluateReply, Order, SiteFacts, SiteMemory, TrainReply
from medfl.federation.records import MODEL, REPORT, to_record
from medfl.federation.strategies.fedavg import FedAvg
from medfl.federation.strategies.fedbn import FedBN
from medfl.federation.strategies.strategy import Strategy
from pipelines.client_app import make_client_app

PLANTED = "Zzyzx^Quillfeather"
START: Arrays = {"w": np.zeros((2, 2), np.float32), "n": np.array(1, np.int64)}
LIMITS = Limits(minimum_replies=1, round_timeout_s=30, join_timeout_s=0.01)
SPLITS = ("train", "val", "test")


@dataclass
class Site:
    """A site that answers with a constant model."""

    name: str
    value: float = 1.0
    studies: int = 10
    orders: list[Order] = field(default_factory=list)

    def describe(self) -> SiteFacts:
        return SiteFacts(self.name, dict.fromkeys(SPLITS, self.studies), dict.fromkeys(SPLITS, self.studies))

    def good(self) -> TrainReply:
        model = {"w": np.full((2, 2), self.value, np.float32), "n": np.array(2, np.int64)}
        return TrainReply(model, {}, self.studies, self.studies, 0.5, 0.1)

    def train(self, order: Order, memory: SiteMemory) -> TrainReply:
        self.orders.append(order)
        reply = self.good()
        return replace(reply, model={name: reply.model[name] for name in order.model})

    def evaluate(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        self.orders.append(order)
        return EvaluateReply({"sums": np.ones(3)}, self.studies, self.studies)

    def finish(self, order: Order, memory: SiteMemory) -> EvaluateReply:
        return self.evaluate(order, memory)


@dataclass
class BadSite(Site):
    """A site whose reply to training is changed on its way."""

    change: Callable[[TrainReply], TrainReply] = replace

    def train(self, order: Order, memory: SiteMemory) -> TrainReply:
        return self.change(self.good())


def app_of(site: Site) -> ClientApp:
    return make_client_app(lambda context: site)


def grid_of(*sites: Site, **more: ClientApp) -> LoopbackGrid:
    return LoopbackGrid({site.name: app_of(site) for site in sites} | more, {})


def trained(grid: LoopbackGrid, *, minimum: int = 1, count: int = 2, strategy: Strategy | None = None) -> Trained:
    hub = Hub(grid, strategy or FedAvg(), replace(LIMITS, minimum_replies=minimum))
    with grid.open():
        hub.gather(count)
        return hub.train(1, 3, START)


def unguarded(handler: Callable[[Message], Message], site: Site) -> ClientApp:
    """An app without a guard that introduces itself properly, then does as it likes."""
    app = ClientApp()
    proper = app_of(site)

    @app.query("describe")
    def describe(message: Message, context: Context) -> Message:
        return proper(message, context)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return handler(message)

    return app


def test_the_mean_is_weighted_by_the_sites_studies() -> None:
    result = trained(grid_of(Site("a", 1.0, 10), Site("b", 2.0, 20)))
    np.testing.assert_array_equal(result.model["w"], np.full((2, 2), np.float32(50 / 30)))
    assert result.model["n"].dtype == np.int64
    assert result.skipped == ""
    assert [(site.site, site.studies, site.loss, site.refused) for site in result.sites] == [
        ("a", 10, 0.5, ""),
        ("b", 20, 0.5, ""),
    ]
    assert all(site.bytes_up > 16 and site.bytes_down == 24 for site in result.sites)


BAD: dict[str, tuple[Callable[[TrainReply], TrainReply], str]] = {
    "nan": (lambda r: replace(r, model=r.model | {"w": np.full((2, 2), np.nan, np.float32)}), "not_finite"),
    "infinity": (lambda r: replace(r, model=r.model | {"w": np.full((2, 2), np.inf, np.float32)}), "not_finite"),
    "shape": (lambda r: replace(r, model=r.model | {"w": np.zeros(4, np.float32)}), "shape"),
    "dtype": (lambda r: replace(r, model=r.model | {"w": np.zeros((2, 2))}), "dtype"),
    "missing key": (lambda r: replace(r, model={"w": r.model["w"]}), "names"),
    "unknown key": (lambda r: replace(r, model=r.model | {PLANTED: np.ones(1)}), "names"),
    "no model": (lambda r: replace(r, model={}), "names"),
    "extra control": (lambda r: replace(r, control={"w": np.ones(1)}), "names"),
    "no studies": (lambda r: replace(r, studies=0), "count"),
    "too many studies": (lambda r: replace(r, studies=10**9), "count"),
    "one study too many": (lambda r: replace(r, studies=11), "count"),
    "negative studies": (lambda r: replace(r, studies=-5), "count"),
    "studies not a number": (lambda r: replace(r, studies=float("nan")), "count"),
    "too many subjects": (lambda r: replace(r, subjects=10**9), "count"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_reply_is_dropped_with_its_reason_and_never_changes_the_model(kind: str) -> None:
    change, reason = BAD[kind]
    result = trained(grid_of(Site("a", 1.0), BadSite("b", 100.0, change=change)))
    np.testing.assert_array_equal(result.model["w"], np.ones((2, 2), np.float32))
    good, bad = result.sites
    assert good.refused == ""
    assert bad.refused == reason
    assert bad.detail
    assert bad.loss is None
    assert PLANTED not in str(result)


def raise_planted(reply: TrainReply) -> TrainReply:
    raise ValueError(f"cannot read /data/{PLANTED}/scan.nii.gz")


def test_an_exception_at_a_site_reaches_the_hub_as_one_word(caplog: pytest.LogCaptureFixture) -> None:
    FLOWER_LOGGER.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO):
            result = trained(grid_of(Site("a"), BadSite("b", change=raise_planted)))
    finally:
        FLOWER_LOGGER.removeHandler(caplog.handler)
    assert result.sites[1].refused == "site_error"
    assert "internal_error" in result.sites[1].detail
    assert PLANTED not in str(result)
    assert PLANTED not in caplog.text


def answer(content: Mapping[str, object], message: Message) -> Message:
    return Message(RecordDict(dict(content)), reply_to=message)


def report(**values: float) -> MetricRecord:
    return MetricRecord({"subjects": 10, "studies": 10, "loss": 0.5, "seconds": 0.1} | values)


MODEL_RECORD = to_record({"w": np.ones((2, 2), np.float32), "n": np.array(2, np.int64)})
FORGED: dict[str, tuple[Callable[[Message], Message], str]] = {
    "error with words": (lambda m: Message(_error(PLANTED), reply_to=m), "site_error"),
    "nothing": (lambda m: answer({}, m), "no_report"),
    "no report": (lambda m: answer({MODEL: MODEL_RECORD}, m), "no_report"),
    "empty report": (lambda m: answer({MODEL: MODEL_RECORD, REPORT: MetricRecord({})}, m), "count"),
    "words for numbers": (
        lambda m: answer({MODEL: MODEL_RECORD, REPORT: ConfigRecord({"studies": PLANTED, "subjects": "1"})}, m),
        "count",
    ),
    "list for a number": (
        lambda m: answer({MODEL: MODEL_RECORD, REPORT: ConfigRecord({"studies": [1, 2]})}, m),
        "count",
    ),
    "report in place of a model": (lambda m: answer({MODEL: report(), REPORT: report()}, m), "names"),
    "no array": (lambda m: answer({MODEL: _junk(b"junk"), REPORT: report()}, m), "not_an_array"),
    "zip archive": (lambda m: answer({MODEL: _junk(b"PK\x03\x04" + b"\0" * 30), REPORT: report()}, m), "not_an_array"),
}


def _error(words: str) -> Error:
    return Error(code=1, reason=words)


def _junk(data: bytes) -> ArrayRecord:
    return ArrayRecord({"w": Array(dtype="float32", shape=(2, 2), stype="numpy.ndarray", data=data)})


@pytest.mark.parametrize("kind", FORGED)
def test_a_site_without_a_guard_can_do_no_more(kind: str) -> None:
    handler, reason = FORGED[kind]
    result = trained(grid_of(Site("a"), b=unguarded(handler, Site("b"))))
    assert result.sites[1].refused == reason
    assert PLANTED not in str(result)
    np.testing.assert_array_equal(result.model["w"], np.ones((2, 2), np.float32))


def test_a_loss_that_is_no_number_is_left_out_of_the_history() -> None:
    result = trained(grid_of(Site("a"), BadSite("b", change=lambda r: replace(r, loss=float("nan")))))
    assert result.sites[1].refused == ""
    assert result.sites[1].loss is None


class DroppingGrid(LoopbackGrid):
    """Loses what comes from the last node."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        replies = super().send_and_receive(messages, timeout=timeout)
        lost = max(self.nodes)
        return (r for r in replies if r.metadata.src_node_id != lost or r.metadata.message_type != "train")


def test_a_site_that_does_not_answer_is_recorded() -> None:
    sites = Site("a"), Site("b", 9.0)
    result = trained(DroppingGrid({site.name: app_of(site) for site in sites}, {}))
    assert result.sites[1].refused == "no_reply"
    np.testing.assert_array_equal(result.model["w"], np.ones((2, 2), np.float32))


class DoublingGrid(LoopbackGrid):
    """Hands every reply out twice."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        for reply in super().send_and_receive(messages, timeout=timeout):
            yield from (reply, reply)


def test_a_reply_that_comes_twice_counts_once() -> None:
    sites = Site("a", 1.0, 10), Site("b", 2.0, 20)
    result = trained(DoublingGrid({site.name: app_of(site) for site in sites}, {}))
    assert len(result.sites) == 2
    np.testing.assert_array_equal(result.model["w"], np.full((2, 2), np.float32(50 / 30)))


def test_too_few_good_replies_leave_the_model_as_it_was() -> None:
    result = trained(grid_of(Site("a"), BadSite("b", change=raise_planted)), minimum=2)
    assert result.skipped == "1 good replies, 2 needed"
    assert result.model is START


def test_every_site_is_heard_as_its_reply_comes() -> None:
    grid, heard = grid_of(Site("a"), BadSite("b", change=raise_planted)), []
    hub = Hub(grid, FedAvg(), LIMITS)
    with grid.open():
        hub.gather(2)
        hub.train(1, 3, START, heard.append)
    assert [(reply.site, reply.refused) for reply in heard] == [("a", ""), ("b", "site_error")]


def test_sites_learn_round_model_and_options_and_local_arrays_stay() -> None:
    site = Site("a")
    trained(grid_of(site), count=1, strategy=FedBN(["n"]))
    (order,) = site.orders
    assert (order.round, order.rounds) == (1, 3)
    assert order.options == {"local-names": ["n"]}
    assert list(order.model) == ["w"]


def test_too_few_sites_end_with_an_error_and_no_hang() -> None:
    grid = grid_of(Site("a"))
    with grid.open(), pytest.raises(FederationError, match="2 sites must be connected"):
        Hub(grid, FedAvg(), LIMITS).gather(2)


def test_two_sites_of_one_name_are_refused() -> None:
    with pytest.raises(FederationError, match="own name"):
        trained(grid_of(Site("a"), b=app_of(Site("a"))))


class Liar(Site):
    facts: SiteFacts

    def describe(self) -> SiteFacts:
        return self.facts


@pytest.mark.parametrize(
    "facts",
    [
        SiteFacts("", {}, {}),
        SiteFacts("../up", {}, {}),
        SiteFacts("a\nb", {}, {}),
        SiteFacts("<script>", {}, {}),
        SiteFacts("x" * 65, {}, {}),
        SiteFacts("b", {"train": -1}, {"train": 1}),
        SiteFacts("b", {"train": 1}, {"train": 10**9}),
        SiteFacts("b", {"train": float("nan")}, {"train": 1}),
        SiteFacts("b", {"train": "many"}, {"train": 1}),
        SiteFacts("b", {"train": [1]}, {"train": 1}),
    ],
)
def test_a_site_that_introduces_itself_badly_is_not_let_in(facts: SiteFacts) -> None:
    liar = Liar("b")
    liar.facts = facts
    with pytest.raises(FederationError, match="2 sites must introduce themselves, 1 did"):
        trained(grid_of(Site("a"), liar))


def test_a_site_that_cannot_introduce_itself_says_no_more_than_that() -> None:
    class Broken(Site):
        def describe(self) -> SiteFacts:
            raise OSError(PLANTED)

    with pytest.raises(FederationError) as caught:
        trained(grid_of(Site("a"), Broken("b")))
    assert PLANTED not in str(caught.value)
    assert PLANTED not in str(caught.value.__context__)


def test_measures_are_collected_per_site_and_missing_ones_are_named() -> None:
    class Shy(Site):
        def evaluate(self, order: Order, memory: SiteMemory) -> EvaluateReply:
            return EvaluateReply({}, 0, 0, suppressed="fewer than 5 subjects" + "x" * 1000)

    class Failing(Site):
        def evaluate(self, order: Order, memory: SiteMemory) -> EvaluateReply:
            raise ValueError(PLANTED)

    class Boasting(Site):
        def evaluate(self, order: Order, memory: SiteMemory) -> EvaluateReply:
            return EvaluateReply({"sums": np.ones(3)}, 10**6, 10**6)

    grid = grid_of(Site("a"), Shy("b"), Failing("c"), Boasting("d"))
    hub = Hub(grid, FedAvg(), LIMITS)
    with grid.open():
        hub.gather(4)
        measured = hub.evaluate(1, 3, START, "val")
        finished = hub.finish(3, 3, START, "test")
    assert list(measured.measures) == ["a"]
    assert measured.subjects == {"a": 10}
    assert measured.suppressed.keys() == {"b", "c", "d"}
    assert measured.suppressed["c"] == "refused: site_error"
    assert measured.suppressed["d"] == "refused: count"
    assert len(measured.suppressed["b"]) <= 80
    assert PLANTED not in str(measured)
    assert finished.measures.keys() == measured.measures.keys()


def test_what_a_site_remembers_stays_at_the_site_and_comes_back() -> None:
    class Counting(Site):
        seen: list[float]

        def train(self, order: Order, memory: SiteMemory) -> TrainReply:
            before = float(memory.arrays.get("rounds", np.zeros(()))) if memory.arrays else 0.0
            self.seen.append(before)
            memory.arrays["rounds"] = np.array(before + 1)
            return self.good()

    first, second = Counting("a"), Counting("b")
    first.seen, second.seen = [], []
    grid = grid_of(first, second)
    hub = Hub(grid, FedAvg(), LIMITS)
    with grid.open():
        hub.gather(2)
        model = START
        for number in (1, 2, 3):
            model = hub.train(number, 3, model).model
    assert first.seen == second.seen == [0.0, 1.0, 2.0]
    assert model.keys() == START.keys()
