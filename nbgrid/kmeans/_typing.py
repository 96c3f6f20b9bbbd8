"""The arrays that k-means speaks of."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[Any]
"""float32 or float64, C-contiguous."""

Float64s: TypeAlias = NDArray[np.float64]

Labels: TypeAlias = NDArray[np.int32]

Indices: TypeAlias = NDArray[np.intp]
