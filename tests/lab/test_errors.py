"""The wording of errors: lists that end, counts with their noun, suggestions."""

import pytest

from softaug_lab.basics.errors import SoftaugError, listed, plural, report_faults, unknown_name


def test_long_lists_are_counted() -> None:
    assert listed(["a", "b", "c"], 3) == "a, b, c"
    assert listed(["a", "b", "c", "d"], 3) == "a, b, c, and 1 more"
    assert listed(range(1235), 1, "; ") == "0; and 1,234 more"
    assert listed([]) == ""


def test_counts_have_their_noun() -> None:
    assert [plural(n, "fault") for n in (0, 1, 1200)] == ["0 faults", "1 fault", "1,200 faults"]


def test_faults_are_one_error_or_none() -> None:
    report_faults("pets", [])
    with pytest.raises(SoftaugError, match=r"^pets: 1 fault: no cat$"):
        report_faults("pets", ["no cat"])
    with pytest.raises(SoftaugError, match=r"^pets: 12 faults: 0; .*9; and 2 more$"):
        report_faults("pets", [str(i) for i in range(12)])


def test_unknown_names_suggest_known_ones() -> None:
    assert str(unknown_name("arm", "sofd", ["soft", "none"])).endswith("; did you mean soft?")
    assert str(unknown_name("arm", "x", ["soft", "none"])) == (
        "unknown arm 'x'; known are none, soft"
    )
    assert str(unknown_name("path", "x", [])) == "unknown path 'x'"
