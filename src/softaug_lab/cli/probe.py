"""softaug probe"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from softaug_lab.basics.errors import UsageError
from softaug_lab.cli.evaluation_inputs import (
    recorded_data,
    require_no_address,
    without_training_images,
)
from softaug_lab.cli.options import READ, Device, ReadOptions, Source, load_data, require_place
from softaug_lab.cli.terminal import quoted, show, tell
from softaug_lab.recipes import panels


def probe(
    run: Annotated[Path, Parameter(group=panels.MODEL)],
    data: Source | None = None,
    /,
    *,
    read: ReadOptions = READ,
    json: Annotated[Path | None, Parameter(group=panels.RUN)] = None,
    device: Device = "auto",
) -> None:
    """Measure the frozen features of a run with a linear probe and with nearest neighbours.

    The same is measured for the backbone before training. Figures and features are saved in the
    run folder.

    Parameters
    ----------
    run
        A run folder of pretrain or train.
    data
        Data to fit and test the probe on (default: the data of the run). Sources are those of
        train.
    json
        Also write the figures to this file.
    """
    from softaug_lab.basics.processes import Processes, choose_device
    from softaug_lab.basics.storage import write_json
    from softaug_lab.cli.tables import evaluation_table
    from softaug_lab.evaluation import (
        Predictions,
        cached_features,
        probe_errors,
        probe_run,
        require_one_backbone,
        summarise,
    )
    from softaug_lab.runs import RunFolder

    require_place(json)
    folder = RunFolder(run)
    require_one_backbone(folder)
    if data is None:
        if read != READ:
            raise UsageError(f"{run}: how images are read goes with DATA; name it after the run")
        data, read = recorded_data(folder)
        require_no_address(run, data, read.test)
        read = replace(read, stream=False, objects=None)  # a probe needs all its images in memory
    loaded = without_training_images(load_data(data, read), folder)
    features = partial(cached_features, processes=Processes(choose_device(device)), folder=run)
    found, before = probe_run(folder, loaded, features)
    linear = summarise(Predictions(loaded.test.labels, found.logits))
    figures = replace(linear, probe=probe_errors(found, before, loaded)).as_dict()
    file = run / f"probe-{loaded.name}.json"
    show(evaluation_table(figures))
    for path in (file, *([json] if json else [])):
        write_json(path, figures)
    tell(f"figures  {quoted(file)}")
