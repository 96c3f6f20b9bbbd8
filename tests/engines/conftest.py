"""So that the contract's assertions tell what they compared."""

import pytest

pytest.register_assert_rewrite("nbgrid.testing")
