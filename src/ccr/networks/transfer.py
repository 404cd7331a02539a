"""From the CPU's memory to the device's."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def to_device(array: np.ndarray | Tensor, device: Any) -> Tensor:
    """The array on the device. A GPU gets it through pinned memory, without waiting for the copy."""
    tensor = torch.as_tensor(array)
    if torch.device(device).type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
