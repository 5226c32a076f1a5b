"""How the tests are shared out among the processes of `make test`."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling

# The tests of these files use one server and one browser.
PAGE = ("tests/e2e/test_page", "tests/e2e/test_docs_page")


class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """The tests of a file run in one process, and so do those of the page.

    `testpaths` begins with those that wait for processes and ends with those that compute. Every second process takes
    them from the end, so that one kind uses the time of the other.
    """

    def __init__(self, config: pytest.Config, log: object) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _assign_work_unit(self, node: object) -> None:
        if self.nodes.index(node) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        return "the page" if nodeid.startswith(PAGE) else str(super()._split_scope(nodeid))
