"""The page of a search for a strength: what it chose and why, its fit, and every short run."""

from pathlib import Path
from typing import Any

import numpy as np

from softaug_lab.basics.storage import write_atomically
from softaug_lab.report.templates import template

# How one step away from the rule reads, by direction.
STEPS = {
    "sigma": "strength of the crop, in factors of 1.6 of the rule's sigma",
    "erase": "rectangles hidden, in steps of 15 of 100 images",
}


def write_tuning_report(record: dict[str, Any], path: Path) -> None:
    """Write one self-contained HTML page from the content of tuning.json.

    Raises SoftaugError where the page cannot be written.
    """
    page = template("tuning.html.jinja").render(
        record=record,
        sentences=tuning_sentences(record),
        panels=[_panel(direction, record) for direction in record["directions"]],
        trials=[_row(trial, record) for trial in record["trials"]],
    )
    write_atomically(path, page)


def tuning_sentences(record: dict[str, Any]) -> list[str]:
    """Say what a search chose and how sure it is, in a sentence for each direction."""
    plan = record["plan"]
    return [
        _choice(record) if record["check"] else _rule_won(record),
        *(_sentence(direction, record) for direction in record["directions"]),
        f"A short run of {plan['trial_epochs']} epochs has a noise of "
        f"{_value(record['noise'], record)}; the last runs have {plan['epochs']} epochs, and one "
        "seed, which supports no claim of its own.",
    ]


def _rule_won(record: dict[str, Any]) -> str:
    return (
        f"Use auto, the rule: in {len(record['trials'])} short runs no step away from it gained "
        f"more than its standard error in the {record['about']}."
    )


def _choice(record: dict[str, Any]) -> str:
    """Say what short runs found, and whether runs of full length agree."""
    taken = [direction for direction in record["directions"] if direction["taken"]]
    gains = ", ".join(f"{d['direction']} {_value(d['gain'], record)}" for d in taken)
    check, passed = record["check"], record["winner"] == record["found"]
    gain, error = (_value(abs(check[key]), record) for key in ("gain", "error"))
    found, n = record["found"], len(record["trials"])
    return (
        (f"Use {found}. By the fit to {n} short runs it" if passed else
         f"Use auto, the rule. By the fit to {n} short runs {found}")
        + f" gains in the {record['about']}: {gains}. At full length it "
        + (f"gains {gain} on" if check["gain"] >= 0 else f"loses {gain} to")
        + f" the rule, with a standard error of {error} on {check['images']:,} held-out images, so "
        + ("it is taken." if passed else "the rule stays.")
    )  # fmt: skip


def _sentence(direction: dict[str, Any], record: dict[str, Any]) -> str:
    gain, error = (_value(direction[key], record) for key in ("gain", "error"))
    if not direction["tried"]:
        return (
            f"{direction['direction']}: not tried, because the time was too short; "
            "the rule's value stays."
        )
    if round(direction["best"], 2) == 0:
        return f"{direction['direction']}: the rule's value is the best."
    verdict = (
        "tried at full length"
        if direction["taken"]
        else "no more than that, so the rule's value stays"
    )
    if direction["gain"] > direction["error"] and not direction["taken"]:
        verdict = "not tried, since another step has that price already"
    price = direction["price"]
    paid = f", at {100 * price:+.1f} points of error on whole images" if price is not None else ""
    return (
        f"{direction['direction']}: {direction['best']:+.2f} steps gain {gain} with a standard "
        f"error of {error}{paid}; {verdict}."
    )


def _value(value: float, record: dict[str, Any]) -> str:
    return f"{100 * value:.2f} points" if record["percent"] else f"{value:.3f}"


def _row(trial: dict[str, Any], record: dict[str, Any]) -> dict[str, str]:
    """A short run as a line of the table; steps of 0 are left blank."""
    score = f"{100 * trial['score']:.2f} %" if record["percent"] else f"{trial['score']:.4f}"
    steps = {name: f"{x:+.2g}" if x else "" for name, x in trial["point"].items()}
    return {**steps, "arm": trial["arm"], "seed": str(trial["seed"]), "score": score}


def _panel(direction: dict[str, Any], record: dict[str, Any]) -> dict[str, str]:
    """The drawing of one direction: the fit with its standard error, and the short runs."""
    # matplotlib is imported here: commands that write no report need not wait for it.
    from softaug_lab.report.drawings import plot_direction

    factor = 100 if record["percent"] else 1
    curve = {name: np.asarray(values) for name, values in direction["curve"].items()}
    name = direction["direction"]
    return {
        "title": name,
        "says": f"{name}: score against steps away from the rule, with the fit; best at "
        f"{direction['best']:+.2f} steps",
        "svg": plot_direction(
            curve["x"],
            factor * curve["difference"],
            factor * curve["error"],
            [(x, factor * y) for x, y in direction["tried"]],
            direction["best"] if direction["taken"] else 0.0,
            f"tuning-{name}",
            STEPS[name],
        ),
    }
