from __future__ import annotations

import re
from graphlib import TopologicalSorter

from difuso.app.routers.page import STATIC

IMPORT = re.compile(r"""(?:from |import\()["'](\.[^"'$]+)""")  # also of modules that are loaded later


def test_no_modules_of_the_page_import_each_other_in_a_circle() -> None:
    imports = {
        path: {(path.parent / name).resolve() for name in IMPORT.findall(path.read_text("utf-8"))}
        for path in STATIC.resolve().rglob("*.js")
    }
    assert len(imports[STATIC.resolve() / "page.js"]) > 20
    TopologicalSorter(imports).prepare()  # raises for a circle
