"""Match tensors to the keys of a network: by name, else by their order, kind and shape."""

from collections.abc import Mapping

from torch import Tensor

from softaug_lab.basics.errors import SoftaugError, listed

COUNTER = "num_batches_tracked"  # of batch norm; files of old versions of torch lack it


Head = frozenset[str]  # keys of the layers whose shape depends on the number of classes


def fitted(
    network: Mapping[str, Tensor], weights: Mapping[str, Tensor], head: Head, fault: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Rename weights to the keys of a network, whose own tensors replace a head of another size.

    network: its state dict. Weights of an image with 3 channels are summed for one with 1. Keys of
    another spelling are matched by their order, where at each place the last word (weight, bias,
    running_mean, ...) and the shape agree. Returns the state dict to load, and notes on what was
    changed. Raises SoftaugError, which begins with `fault` and counts the keys, where nothing fits.
    """
    notes = []
    named = dict(weights)
    ours, theirs = _without_counters(network), _without_counters(weights)
    if set(ours) - head - set(theirs) and (ordered := _by_order(network, weights, head)):
        named = ordered
        notes.append(f"{len(named)} keys of another spelling ({theirs[0]}, ...) matched by order")
    named = {key: _summed(value, network.get(key)) for key, value in named.items()}
    own = {key for key in network if key.endswith(COUNTER)} - named.keys()
    if head and head.isdisjoint(named):
        own |= head
        notes.append("it has no head; a new one is trained")
    elif other := [key for key in head & named.keys() if _is_resized(named[key], network[key])]:
        own |= head
        there, here = (len(tensors[other[0]]) for tensors in (named, network))
        notes.append(f"its head of {there:,} classes is replaced by a new one of {here:,}")
    state = named | {key: network[key] for key in own}
    _require_fit(network, state, fault)
    return {key: state[key] for key in network}, notes


def _is_resized(there: Tensor, here: Tensor) -> bool:
    """Whether two tensors of a head differ by their number of classes alone."""
    return there.shape != here.shape and there.shape[1:] == here.shape[1:]


def _by_order(
    network: Mapping[str, Tensor], weights: Mapping[str, Tensor], head: Head
) -> dict[str, Tensor] | None:
    """Give weights the names of the network's keys at their places; None where one does not fit."""
    ours, theirs = _without_counters(network), _without_counters(weights)
    # A sorted file, as safetensors writes, has lost the order of the layers.
    if len(ours) != len(theirs) or theirs == sorted(theirs):
        return None
    for our, their in zip(ours, theirs, strict=True):
        there, here = _summed(weights[their], network[our]), network[our]
        fits = there.shape == here.shape or (our in head and _is_resized(there, here))
        if our.rpartition(".")[2] != their.rpartition(".")[2] or not fits:
            return None
    return {our: weights[their] for our, their in zip(ours, theirs, strict=True)}


def _without_counters(tensors: Mapping[str, Tensor]) -> list[str]:
    return [key for key in tensors if not key.endswith(COUNTER)]


def _summed(weight: Tensor, here: Tensor | None) -> Tensor:
    """Sum the first layer's weights over RGB where the network takes grey images."""
    if here is None or weight.ndim != 4 or (weight.shape[1], *here.shape[1:2]) != (3, 1):
        return weight
    return weight.sum(dim=1, keepdim=True)


def _require_fit(network: Mapping[str, Tensor], weights: Mapping[str, Tensor], fault: str) -> None:
    """Raise SoftaugError that counts the keys that do not fit and names three of each kind."""
    wrong = {
        "missing": [key for key in network if key not in weights],
        "unknown": [key for key in weights if key not in network and not key.endswith(COUNTER)],
        "of another shape": [
            f"{key} {list(weights[key].shape)} for {list(network[key].shape)}"
            for key in network
            if key in weights and weights[key].shape != network[key].shape
        ],
    }
    if any(wrong.values()):
        counts = [f"{len(keys)} {how} ({listed(keys, 3)})" for how, keys in wrong.items() if keys]
        raise SoftaugError(f"{fault}; of their keys {', '.join(counts)}")
