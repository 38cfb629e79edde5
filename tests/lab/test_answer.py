"""The first sentences of a report: which arm, by how much, how sure."""

from typing import Any

import pytest

from softaug_lab.report.answer import answer, recommended_arm


def arm(error: float, nll: float, mix: float) -> dict[str, float]:
    return {"top1_error": error, "nll": nll, "mix_nll": mix}


@pytest.mark.parametrize(
    ("figures", "chosen", "near"),
    [
        # Near in both: the lowest NLL of the mix.
        ({"a": arm(0.20, 0.60, 1.9), "b": arm(0.204, 0.609, 1.2)}, "b", ["a", "b"]),
        # Too far in error, too far in NLL: not to be chosen for its mix.
        ({"a": arm(0.20, 0.60, 1.9), "b": arm(0.206, 0.60, 1.2)}, "a", ["a"]),
        ({"a": arm(0.20, 0.60, 1.9), "b": arm(0.20, 0.611, 1.2)}, "a", ["a"]),
        # None is near in both: the lowest error.
        ({"a": arm(0.20, 0.70, 1.9), "b": arm(0.30, 0.60, 1.2)}, "a", []),
    ],
)
def test_the_rule(figures: dict[str, Any], chosen: str, near: list[str]) -> None:
    assert recommended_arm(figures) == (chosen, near)


def evaluation(error: float, mix: float, cut: float, temperature: bool = True) -> dict[str, Any]:
    levels = [{"share": 0.4, "top1_error": cut}]
    return {
        "top1_error": error,
        "nll": 5.0 if temperature else 0.6,
        "scaled": {"nll": 0.6} if temperature else None,
        "mix": {"nll": mix},
        "cut_off": {"unseen": levels},
        "hidden": {"unseen": levels},
    }


def results(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "arms": [{"name": name} for name in runs],
        "runs": [
            {"arm": name, "seed": seed, "evaluation": one}
            for name, found in runs.items()
            for seed, one in enumerate(found)
        ],
        "seeds": list(range(max(map(len, runs.values())))),
        "comparisons": [],
        "samples": [],
        "softening": [],
    }


def test_three_seeds() -> None:
    said = answer(
        results(
            {
                "standard": [evaluation(0.24, 1.8, 0.58 + d) for d in (0.0, 0.01, 0.02)],
                "auto": [evaluation(0.24, 1.5, 0.45) for _ in range(3)],
            }
        )
    )
    assert said[0] == (
        "Use auto: of the 2 arms that are within 0.5 points of the lowest top-1 error and within "
        "0.01 of the lowest NLL on whole images, it has the lowest NLL of the mix of whole, "
        "cut-off and hidden images, 1.500; standard has 1.800."
    )
    # -14 points, a standard deviation of 1, t(0.975, 2) / root 3 = 2.484
    assert "+0.0 (+0.0 to +0.0) on whole images" in said[1]
    assert (
        "\N{MINUS SIGN}14.0 (\N{MINUS SIGN}16.5 to \N{MINUS SIGN}11.5) with 40 % cut off"
        in (said[1])
    )


def test_an_answer_by_the_means_alone_says_so() -> None:
    found = results(
        {
            "standard": [evaluation(0.24, 1.8, 0.58) for _ in range(2)],
            "auto": [evaluation(0.24, 1.5, 0.45) for _ in range(2)],
        }
    )
    tested = {"arm": "auto", "against": "standard", "larger_than_chance": False}
    found["comparisons"] = [dict(tested), dict(tested)]
    assert answer(found)[0].startswith(
        "No difference of auto from another arm is larger than chance with 2 seeds; by the means, "
        "use auto: of the 2 arms"
    )
    found["comparisons"][1]["larger_than_chance"] = True
    assert answer(found)[0].startswith("Use auto: of the 2 arms")


def test_one_seed_claims_nothing() -> None:
    runs = {
        "standard": [evaluation(0.24, 1.8, 0.58, temperature=False)],
        "soft": [evaluation(0.22, 1.5, 0.5, temperature=False)],
    }
    assert answer(results(runs))[1].endswith("One seed cannot tell these differences from chance.")


@pytest.mark.parametrize("missing", ["mix", "top1_error"])
def test_without_its_figures_there_is_no_answer(missing: str) -> None:
    old = evaluation(0.24, 1.8, 0.58)
    del old[missing]
    assert answer(results({"standard": [old], "soft": [evaluation(0.2, 1.0, 0.3)]})) == []
