"""DeepSpeed under ``install()``, put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from xtc_ds.compat.deepspeed import install, uninstall


@pytest.fixture
def installed(single_process_group: None) -> Iterator[None]:
    install()
    yield
    uninstall()
