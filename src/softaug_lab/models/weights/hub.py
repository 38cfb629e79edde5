"""Files of the Hugging Face Hub: from its cache, or downloaded once somebody has asked for it."""

import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import torch

from softaug_lab.basics.errors import SoftaugError, one_line

TIMM_FILES = ("model.safetensors", "pytorch_model.bin")
SECONDS = 8.0  # to wait for an answer before the network counts as absent


def cached_file(repository: str, name: str) -> Path | None:
    """Return a repository's file where the cache has it; uses no network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    place, _, revision = repository.partition("@")
    try:
        found = try_to_load_from_cache(place, name, revision=revision or None)
    except HFValidationError as error:
        raise SoftaugError(f"hf-hub:{repository}: no name of a repository") from error
    return Path(found) if isinstance(found, str) else None


def download(repository: str, names: tuple[str, ...]) -> Path:
    """Download the first of the named files that a repository has, into the cache.

    Raises SoftaugError where the Hub does not answer, or has none of them.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    place, _, revision = repository.partition("@")
    require_reachable(constants.ENDPOINT, f"hf-hub:{repository}: not in the cache")
    for name in names:
        try:
            return Path(hf_hub_download(place, name, revision=revision or None))
        except LocalEntryNotFoundError as error:  # of the network, though a kind of the next one
            raise SoftaugError(f"hf-hub:{repository}: {one_line(error)}") from error
        except EntryNotFoundError:
            continue
        except (HfHubHTTPError, OSError) as error:
            raise SoftaugError(f"hf-hub:{repository}: {one_line(error)}") from error
    raise SoftaugError(f"hf-hub:{repository}: has no {' or '.join(names)}")


def require_pretrained(config: Any) -> None:
    """Raise SoftaugError where the weights of a configuration of timm are neither here nor there.

    Without it timm would try again for more than a minute before it fails.
    """
    from huggingface_hub import constants

    place, address = config.hf_hub_id, config.url
    if config.file or not (place or address):
        return
    names = (config.hf_hub_filename,) if config.hf_hub_filename else TIMM_FILES
    what = f"hf-hub:{place}" if place else address
    here = (
        any(cached_file(place, name) for name in names)
        if place
        else (Path(torch.hub.get_dir()) / "checkpoints" / Path(address).name).exists()
    )
    if not here:
        require_reachable(constants.ENDPOINT if place else address, f"{what}: not in the cache")


def require_reachable(address: str, what: str) -> None:
    """Raise SoftaugError, after a few seconds at most, where an address does not answer."""
    fault: list[str] = ["no answer"]

    def ask() -> None:
        request = urllib.request.Request(address, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=SECONDS).close()
        except urllib.error.HTTPError:
            pass  # an answer
        except (OSError, ValueError) as error:
            fault[0] = one_line(error)
            return
        fault.clear()

    # A thread, since looking up a name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(SECONDS)
    if fault:
        raise SoftaugError(
            f"{what}, and {address} cannot be reached ({fault[0]}); download the weights "
            "elsewhere and name their file: --weights FILE"
        )
