"""Every annotated shape of the method is checked on every call, under pytest only."""

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

METHOD = ("transforms", "maps", "curves", "targets", "augment")
install_import_hook([f"softaug.{name}" for name in METHOD], "checker.check")
pytest.register_assert_rewrite("contract")

torch.set_num_threads(1)
settings.register_profile("softaug", deadline=None, derandomize=True)
settings.load_profile("softaug")
