"""The commands of softaug: a module for each, imported when it is called or its help is shown."""

import re
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict

from softaug_lab.basics.errors import UsageError
from softaug_lab.cli.help import Help
from softaug_lab.recipes import (
    ARMS,
    DEFAULT_ARMS,
    FINE_TUNING,
    SELF_SUPERVISED,
    SUPERVISED,
    read_recipe,
)

PRETRAINING = "simsiam"  # the recipe with the defaults of pretraining
WITH_LABELS = ("--standard", "--end-epochs")
WITHOUT_LABELS = ("--blur",)
BLUR = "probability that a view is blurred (default: 0 for images up to 64 px, else 1/2)."


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"


# Lines of examples, arms to explain, and options of the shared recipe that the command lacks.
HELP = {
    "advise": Help(
        examples=(
            "softaug advise photos/",
            "softaug advise photos/ --test holiday/",
        )
    ),
    "train": Help(
        examples=(
            "softaug train photos/ --run runs/photos",
            "softaug train photos/ --model resnet18 --weights resnet18.safetensors",
            'softaug train cifar100 --recipe cifar100-resnet18 --arm "soft(k=1)"',
            'softaug train demo --augment "crop(0.2)+erase(0.2)" --epochs 5 --held-out 0.1',
        ),
        arms=SUPERVISED,
        hidden=WITHOUT_LABELS,
    ),
    "evaluate": Help(
        examples=(
            "softaug evaluate runs/photos",
            "softaug evaluate runs/photos --corruptions --json figures.json",
            "softaug evaluate timm:resnet50 imagenet/ --ood textures/",
        )
    ),
    "compare": Help(
        examples=(
            "softaug compare photos/ --size 64 --seeds 3",
            "softaug compare demo --arms standard harsh@0.15 soft@0.15 mixup --epochs 5",
            "softaug compare photos/ --size 64 --arms simsiam simsiam-harsh simsiam-soft",
        ),
        arms=tuple(ARMS),
        texts={"--blur": f"For the arms {', '.join(SELF_SUPERVISED)}: {BLUR}"},
        defaults={"--arms": " ".join(DEFAULT_ARMS)},
    ),
    "sweep": Help(
        examples=(
            "softaug sweep cifar100 --recipe cifar100-resnet18 --run runs/sweep",
            "softaug sweep demo --sigmas 0.1 0.2 --ks 1 2 --modes soft --epochs 5",
            "softaug sweep cifar10 --seeds 1 --dry-run",
        ),
        hidden=WITHOUT_LABELS,
    ),
    "tune": Help(
        examples=(
            "softaug tune photos/ --size 64 --minutes 30",
            "softaug tune demo --minutes 10 --run runs/tuned",
            "softaug tune cifar10 --minutes 60 --objective error",
        ),
        hidden=(*WITHOUT_LABELS, "--epochs", "--augment", "--sigma"),
    ),
    "preview": Help(
        examples=(
            "softaug preview demo",
            'softaug preview photos/ --size 64 --augment "crop(0.2)+erase(0.2)"',
            "softaug preview cifar10 --arm trivialaugment --images 32 --out trivial.png",
        ),
        arms=tuple(ARMS),
    ),
    "explore": Help(
        examples=(
            "softaug explore photos/ --size 64",
            "softaug explore photos/ runs/photos",
            "softaug explore demo --port 8000",
        )
    ),
    "predict": Help(
        examples=(
            "softaug predict runs/photos new/*.jpg",
            "softaug predict runs/photos new/ --json --unsure-below 0.8",
            "find new -name '*.jpg' | softaug predict model.safetensors - --top 3",
        )
    ),
    "export": Help(
        examples=(
            "softaug export runs/photos --to onnx",
            "softaug export runs/photos --to hub --out photos-classifier",
        )
    ),
    "pretrain": Help(
        examples=(
            "softaug pretrain photos/ --size 64 --run runs/features",
            "softaug pretrain cifar10 --arm simsiam-harsh --epochs 200",
            'softaug pretrain cifar10 --arm "simsiam-soft(pair=minimum)@0.2"',
        ),
        arms=SELF_SUPERVISED,
        hidden=WITH_LABELS,
        texts={
            "--optimizer": "sgd is SGD with plain momentum.",
            "--lr": "Peak learning rate for a batch of 256 images, scaled in proportion to the "
            "batch size: after the linear warm-up, before the cosine decay.",
            "--weight-decay": "Weight decay, applied to all parameters.",
            "--weights": "Start from these weights, with their normalisation: a file "
            "(.safetensors, .pth), local-dir:PATH or hf-hub:NAME, which is downloaded.",
        },
        defaults={_option(name): value for name, value in read_recipe(PRETRAINING)[0].items()},
    ),
    "probe": Help(
        examples=(
            "softaug probe runs/features",
            "softaug probe runs/features cifar100",
            "softaug probe runs/features photos/ --size 64 --json probe.json",
        )
    ),
}

FINDING = (("train",), ("compare",), ("tune",))  # commands that look for weights by themselves
# Options that say what to begin with, or that other machines train, which lack what is found here.
CHOSEN = {"--model", "--recipe", "--pretrained", "--on"}


def _from_recipe_file(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Take the options that the command line leaves open from the file of --recipe, if given.

    Options that are still open then take the defaults of the recipe `simsiam` for pretraining,
    and of `finetune` for training that begins with weights of others. Commands that may find
    weights by themselves are told which of the latter are open where no network is named.
    """
    typed = {argument.name for argument in arguments if argument.tokens}
    if {"--epochs", "--minutes"} <= typed:
        raise UsageError("--minutes chooses the number of epochs; leave out --epochs")
    recipes = [read_recipe(name) for name in _values(arguments, "--recipe")]
    for options, path in recipes if "--weights" not in typed else ():
        _refuse_download(options, path)
    stated = {_option(key): value for options, _ in recipes for key, value in options.items()}
    arms = _values(arguments, "--arms") or stated.get("--arms") or []
    named = [re.split(r"[(@]", str(arm))[0] for arm in arms]
    pretrained = _switch(arguments, "--pretrained", bool(stated.get("--pretrained")))
    if commands[-1:] == ("pretrain",) or not set(SELF_SUPERVISED).isdisjoint(named):
        recipes.append(read_recipe(PRETRAINING))
    elif pretrained or "--weights" in typed | set(stated):
        recipes.append(read_recipe(FINE_TUNING))
    elif commands[-1:] in FINDING and not typed & CHOSEN:
        left_open = [key for key in read_recipe(FINE_TUNING)[0] if _option(key) not in typed]
        Dict({"left-open": left_open}, use_commands_as_keys=False)(app, commands, arguments)
    for options, path in recipes:
        take = Dict(options, source=str(path), use_commands_as_keys=False, allow_unknown=True)
        take(app, commands, arguments)


def _values(arguments: ArgumentCollection, name: str) -> list[str]:
    """Return the values that the command line gives an option."""
    return [token.value for one in arguments if one.name == name for token in one.tokens]


def _switch(arguments: ArgumentCollection, name: str, default: bool) -> bool:
    """Return whether a switch is on: as the command line says, or else the default."""
    typed = [one for one in arguments if one.name == name and one.tokens]
    return bool(typed[0].convert()) if typed else default


def _refuse_download(options: dict[str, Any], path: Path) -> None:
    """Recipes may come from strangers, and only the user decides what is downloaded."""
    weights = str(options.get("weights") or "")
    if weights.startswith("hf-hub:"):
        raise UsageError(
            f"{path}: weights: {weights} would be downloaded; name them on the command line, with "
            "--weights"
        )


app = App(
    name="softaug",
    help="Soft augmentation: strong augmentation, with targets softened by how much of each image "
    "it hides.",
    version=metadata.version("softaug"),
    config=_from_recipe_file,
    help_epilogue="softaug COMMAND --help lists the options of a command; "
    "--debug shows the traceback of an error.",
)
for order, (name, shown) in enumerate(HELP.items()):
    app.command(f"softaug_lab.cli.{name}:{name}", help_formatter=shown, sort_key=order)
app.register_install_completion_command(
    help="Install completion of commands and options for bash, zsh or fish."
)


def import_commands() -> None:
    """Import the modules of all commands."""
    for name in HELP:
        _ = app[name]
