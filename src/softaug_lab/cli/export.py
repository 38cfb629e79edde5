"""softaug export"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from softaug_lab.cli.terminal import quoted, tell
from softaug_lab.recipes import panels


def export(
    run: Annotated[Path, Parameter(group=panels.MODEL)],
    /,
    *,
    to: Annotated[Literal["onnx", "torch", "timm", "hub"], Parameter(group=panels.RUN)],
    out: Annotated[Path | None, Parameter(group=panels.RUN)] = None,
) -> None:
    """Export the model of a run for use without softaug, with a serving example and a model card.

    The logits of the exported model are already divided by the temperature. They are compared with
    the model's before anything is written. evaluate reads what is written.

    Parameters
    ----------
    run
        A finished run folder of train, or of one run of compare.
    to
        onnx: a file for onnxruntime. torch: a program of torch.export. timm: a folder for timm.
        hub: a folder for the Hugging Face Hub, which is not uploaded.
    out
        Folder to write (default: RUN/export/FORM).
    """
    from softaug_lab.export import export_run
    from softaug_lab.runs import RunFolder

    exported = export_run(RunFolder(run), to, out)
    tell(f"export   {quoted(exported.folder)}")
    tell(f"checked  logits differ from the model's by at most {exported.difference:.1g}")
