"""One torch thread: more of them collapse when another process competes, and results must not depend on their
number."""

import torch

torch.set_num_threads(1)
