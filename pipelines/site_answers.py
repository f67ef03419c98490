"""What a site's worker does with a question: the same app that a simulation runs, on the site's own data."""

import hashlib
from collections.abc import Mapping
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from medfl.config.reading import parse_config
from medfl.federation.frames import Frame
from medfl.federation.guard import INTERNAL_ERROR
from medfl.federation.record_bytes import records_from_bytes, records_to_bytes
from pipelines.client_app import app
from pipelines.plan_requests import requests_of
from pipelines.run_config import PLAN


class Answers:
    """Answers questions of the executor, one after the other.

    Parameters
    ----------
    node : mapping of str to str
        The site's name, manifest, state folder, keys and ledger, as in a node configuration.
    """

    def __init__(self, node: Mapping[str, Any]) -> None:
        self._node = {name: str(value) for name, value in node.items()}

    def answer(self, question: Frame) -> Frame:
        """Return an answer; an error is a number, without text."""
        try:
            if question.head.get("ask") == "requests":
                config = parse_config(str(question.head["settings"]), source=PLAN)
                sites = tuple(str(site) for site in question.head["sites"])
                return Frame({"requests": requests_of(config, sites).model_dump(mode="json")})
            return self._computed(question)
        except Exception:  # the text may quote a patient's data
            return Frame({"error": INTERNAL_ERROR})

    def _computed(self, question: Frame) -> Frame:
        head, settings = question.head, str(question.head["settings"])
        content, kept = question.parts
        number = plan_number(settings)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, number, 1
        message = Message(records_from_bytes(content), int(head["node"]), str(head["kind"]))
        context = Context(
            run_id=number,
            node_id=int(head["node"]),
            node_config=dict(self._node),
            state=records_from_bytes(kept) if kept else RecordDict(),
            run_config={PLAN: settings},
        )
        reply = app(message, context)
        if reply.has_error():
            return Frame({"error": reply.error.code})
        return Frame({"error": 0}, (records_to_bytes(reply.content), records_to_bytes(context.state)))


def plan_number(settings: str) -> int:
    """Return the number that a plan's run has at a site: the same for every run of it, so that its folder goes on."""
    return int.from_bytes(hashlib.sha256(settings.encode()).digest()[:4], "big")
