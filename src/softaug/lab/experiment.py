"""One experiment from recipe to figures: train, evaluate, keep; done once, however often asked."""

from collections.abc import Callable
from typing import Any

from softaug.lab.data import Data
from softaug.lab.engine import Engine
from softaug.lab.evaluate import Fill, evaluate
from softaug.lab.files import read_json, write_json
from softaug.lab.models import load_model
from softaug.lab.recipe import Recipe
from softaug.lab.run import Run
from softaug.lab.train import Progress, pixel_statistics, train


def perform(
    recipe: Recipe,
    data: Data,
    run: Run,
    engine: Engine,
    watch: Callable[[Progress], None],
) -> dict[str, Any]:
    """Train and evaluate what is not yet, and return the record of the run.

    A finished run is not touched; a trained one is only evaluated; a begun one goes on.
    """
    if not run.finished:
        if not run.model_file.exists():
            train(recipe, data, run, engine, watch)
        model = load_model(run.model_file).to(engine.device)
        fills = occlusion_fills(data)
        evaluation, predictions = evaluate(model, data.test, fills=fills, engine=engine)
        if engine.main:
            predictions.save(run.predictions_file)
            write_json(run.evaluation_file, evaluation.as_dict())
            run.remove_checkpoints()
        engine.wait()
    return record(run)


def occlusion_fills(data: Data) -> dict[str, Fill]:
    """What hides a part of the test images: two colours and noise, since it matters which.

    The mean colour of the training images is met by no arm; black is the fill of the crops, so
    that an arm with harsh crops has learned to look past it; noise has the edges and the contrast
    that a plain colour lacks.
    """
    mean, _ = pixel_statistics(data.train.images)
    return {"mean": mean, "black": (0,), "noise": "noise"}


def record(run: Run) -> dict[str, Any]:
    """What is known of a finished run: arm, seed, speed, history, evaluation."""
    recipe, history = run.recipe(), run.history()
    return {
        "arm": recipe.arm,
        "seed": recipe.seed,
        "seconds": history[-1]["seconds"],
        "images_per_second": history[-1]["images_per_second"],
        "history": history,
        "evaluation": read_json(run.evaluation_file),
    }
