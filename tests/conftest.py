"""One torch thread: several collapse when another process competes, and results must not depend on their number."""

import hypothesis
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis.settings.load_profile("tests")
