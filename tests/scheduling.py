"""How the tests are divided among the processes of `make test`."""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadFileScheduling

# The tests of each group of files use one server, and those of the page one browser. The first group has all quick
# tests of the page; one group of all its slow tests would take longer than all other tests. The files that compare with
# diffusers import it once, in three seconds.
GROUPS = {
    "diffusers": tuple(
        f"tests/unit/model/test_{name}.py"
        for name in (
            *("clipping", "diffusers", "flow", "formats_diffusers", "formats_diffusers_network"),
            *("inversion", "schedule", "sigmas", "spacing"),
        )
    ),
    "the page": tuple(
        f"tests/e2e/test_{name}"
        for name in ("docs_page", "page.py", "page_access", "page_conditions", "page_research", "page_tools")
    ),
    "the page and its gallery": tuple(f"tests/e2e/test_page_{name}" for name in ("first", "forms", "gallery", "learn")),
    "the page and its pictures": ("tests/e2e/test_page_",),
    "small models": tuple(
        f"tests/e2e/test_{name}.py"
        for name in ("bulk", "client", "conditions", "generated_client", "moments", "shapes", "surfaces")
    ),
}


class Scheduling(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
    """The tests of a file run in one process, and so do those of a group.

    `testpaths` begins with the tests that wait for processes and ends with those that compute. Every second process
    takes tests from the end, so that one kind uses the waiting time of the other.
    """

    def __init__(self, config: pytest.Config, log: object) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _assign_work_unit(self, node: object) -> None:
        if self.nodes.index(node) % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        groups = (group for group, files in GROUPS.items() if nodeid.startswith(files))
        return next(groups, str(super()._split_scope(nodeid)))
