"""Assertions of the machine tell what they found, as those of tests do."""

import pytest

pytest.register_assert_rewrite("tests.state.machine", "tests.state.stage")
