"""Predictions for any number of image files, decoded on several threads ahead of the model.

n images, k classes.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from jaxtyping import Float32
from torch import Tensor

from softaug_lab.basics.errors import SoftaugError
from softaug_lab.data import Decoded, Sample, Unreadable, decode_all, decoders
from softaug_lab.evaluation.ensembles import Ensemble
from softaug_lab.models import Classifier, predict_logits

BATCH = 64  # images; larger batches are no faster on a CPU, and their results come later


@dataclass(frozen=True, eq=False)
class FileProbabilities:
    """Class probabilities float32 [N,K] of the readable files of a batch, after the temperature.

    names: of the readable files, in order. unreadable: the other files of the batch.
    """

    names: list[str]
    probabilities: Float32[Tensor, "n k"]
    unreadable: list[Unreadable]


def predict_files(
    model: Classifier | Ensemble, samples: Iterable[Sample | Unreadable], batch: int = BATCH
) -> Iterator[FileProbabilities]:
    """Predict image files batch by batch, in their order; each batch is yielded once it is done.

    Files are decoded to the size in the model's card while the model computes the batch before.
    At most two batches are held. Raises SoftaugError where logits are not finite.
    """
    card, remaining = model.card, iter(samples)
    shape = (card.channels, card.height, card.width)
    with decoders() as pool, ThreadPoolExecutor(1, "ahead") as ahead:

        def decode_next() -> Future[Decoded] | None:
            # Read here, where Ctrl-C reaches it: `samples` may wait for another program.
            chunk = list(islice(remaining, batch))
            return ahead.submit(decode_all, chunk, len(chunk), shape, pool) if chunk else None

        waiting = decode_next()
        while waiting is not None:
            current, waiting = waiting, decode_next()
            yield _predict(model, current.result())


def _predict(model: Classifier | Ensemble, decoded: Decoded) -> FileProbabilities:
    if not decoded.names:
        empty = decoded.images.new_empty((0, len(model.card.classes))).float()
        return FileProbabilities([], empty, decoded.unreadable)
    logits = predict_logits(model, decoded.images)
    finite = logits.isfinite().all(dim=1)
    if not finite.all():
        name = decoded.names[int(finite.int().argmin())]
        raise SoftaugError(
            f"{name}: the model's logits are not finite; training has probably diverged"
        )
    probabilities = (logits / model.card.temperature).softmax(dim=1)
    return FileProbabilities(decoded.names, probabilities, decoded.unreadable)
