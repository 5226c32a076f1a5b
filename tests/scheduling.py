"""How the tests are shared out among the processes of `make test`."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling

# The tests of these files use one server and one browser.
PAGE = ("tests/e2e/test_page", "tests/e2e/test_docs_page")


class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """The tests of a file run in one process, and so do those of the page.

    They begin in the order of `testpaths`: first those that wait for processes, last the small ones, which even out.
    """

    def __init__(self, config: pytest.Config, log: object) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return "the page" if nodeid.startswith(PAGE) else str(super()._split_scope(nodeid))
