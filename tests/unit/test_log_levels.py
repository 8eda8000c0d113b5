"""`is_logged` returns the same as `logging`, but without its locks."""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_identity._platform.log import is_logged, log, log_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVELS = st.sampled_from([0, 1, 9, 10, 11, 20, 30, 50, 60])


@pytest.fixture(autouse=True)
def restore_levels() -> Iterator[None]:
    logger, root = logging.getLogger("imds_identity"), logging.getLogger()
    before = logger.level, logger.disabled, root.level, root.manager.disable
    yield
    root.manager.loggerDict["imds_identity"] = logger
    logger.disabled = before[1]
    logger.setLevel(before[0])
    root.setLevel(before[2])
    logging.disable(before[3])


@given(own=LEVELS, roots=LEVELS, disabled_below=LEVELS, disabled=st.booleans())
def test_result_equals_that_of_logging(
    own: int, roots: int, disabled_below: int, disabled: bool
) -> None:
    logger = logging.getLogger("imds_identity")
    logger.setLevel(own)
    logger.disabled = disabled
    logging.getLogger().setLevel(roots)
    logging.disable(disabled_below)
    for level in ("DEBUG", "INFO", "WARNING"):
        assert is_logged(level) == logger.isEnabledFor(getattr(logging, level))


@pytest.mark.parametrize("existing", [None, logging.PlaceHolder(logging.getLogger("elsewhere"))])
def test_missing_logger_has_the_level_of_the_root_logger(existing: Any) -> None:
    known = logging.getLogger().manager.loggerDict
    del known["imds_identity"]
    if existing is not None:
        known["imds_identity"] = existing
    for level in (logging.DEBUG, logging.INFO):
        logging.getLogger().setLevel(level)
        assert is_logged() == (level == logging.DEBUG)
        assert is_logged("INFO")


def test_partially_imported_logging_does_not_log(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "logging", ModuleType("logging"))
        assert not is_logged()
        patched.delitem(sys.modules, "logging")
        assert not is_logged()


def test_traceback_is_logged_only_on_request(caplog: pytest.LogCaptureFixture) -> None:
    """A traceback shows code and texts of the caller."""
    with caplog.at_level(logging.DEBUG, "imds_identity"):
        try:
            raise LookupError("text")  # noqa: TRY301 - a log call in its handler
        except LookupError:
            log("WARNING", "%s text", "one")
            log_in_thread("WARNING", "another %s", "text")
            log("WARNING", "the last text", exc_info=True)
    assert caplog.messages == ["one text", "another text", "the last text"]
    assert [bool(record.exc_info) for record in caplog.records] == [False, False, True]
