"""The harness asserts, too, and should say what it compared."""

import pytest

pytest.register_assert_rewrite("harness")
