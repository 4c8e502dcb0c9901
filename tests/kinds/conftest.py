"""What the tests of ready-made agents share."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has a package look as if it were not installed."""

    def hide(name: str) -> None:
        for loaded in [each for each in sys.modules if each.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)

        class Hidden:
            def find_spec(self, fullname: str, path: object, target: object = None) -> None:
                if fullname.split(".")[0] == name:
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        monkeypatch.setattr(sys, "meta_path", [Hidden(), *sys.meta_path])

    return hide
