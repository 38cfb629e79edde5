"""Augmentations as text: every transform can be written, and what is wrong is pointed at."""

from pathlib import Path

import pytest
import torch
from torch import Generator

from softaug import Chain, Crop, Cutout, Erase, Flip, Hard, RandomResizedCrop, ResizedCrop, Still
from softaug_lab.basics.errors import UsageError
from softaug_lab.recipes.expression import TRANSFORMS, from_file, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("crop(0.3)", Crop(sigma=0.3)),
        ("crop", Crop()),
        (" crop( sigma = 0.3 ) ", Crop(sigma=0.3)),
        ("crop((0.1, 0.2), fill=(1, 2, 3))", Crop(sigma=(0.1, 0.2), fill=(1, 2, 3))),
        ("crop(0.3)+erase(0.2)", Chain([Crop(0.3), Erase(area=0.2)])),
        ("[flip, crop(.1), still]", Chain([Flip(), Crop(0.1), Still()])),
        ("erase(fill=noise)+erase(fill='mean')", Chain([Erase(fill="noise"), Erase(fill="mean")])),
        ("crop(0.1,fill=mixed)", Crop(0.1, fill="mixed")),
        ("cutout(8, fill=other)", Cutout(8, fill="other")),
        ("resized_crop(0.2, fill=reflect)", ResizedCrop((20, 24), 0.2, fill="reflect")),
        ("resized_crop(0.2)", ResizedCrop((20, 24), sigma=0.2)),
        ("resized_crop(min_size=9)", ResizedCrop((20, 24), min_size=9)),
        ("random_resized_crop", RandomResizedCrop((20, 24))),
        ("random_resized_crop((0.2, 1))", RandomResizedCrop((20, 24), scale=(0.2, 1))),
        ("hard(crop)+erase", Chain([Hard(Crop()), Erase()])),
        ("hard(flip+crop(0.1))", Hard(Chain([Flip(), Crop(0.1)]))),
    ],
)
def test_text_stands_for_its_transform(text: str, expected: object) -> None:
    assert parse(text, 20, 24) == expected


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_transform_can_be_written_and_used(name: str) -> None:
    transform = parse(name, 20, 24)
    images = torch.randint(0, 256, (4, 3, 20, 24), generator=Generator().manual_seed(0))
    drawn = transform.draw(4, 20, 24, Generator().manual_seed(0))
    out, seen = transform.apply(images.to(torch.uint8), None, drawn)
    assert out.shape == images.shape
    assert seen.shape == (4, 1, 20, 24)


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("crop(0.3)+erese(0.2)", "'erese(0.2)'", "unknown transform 'erese'; did you mean erase?"),
        ("crop(9.6)", "'crop(9.6)'", "Crop: sigma is a share of the image side"),
        ("crop(0.3)+erase(2)", "'erase(2)'", "Erase: area must be shares of the image"),
        ("crop(power=1)", "'crop(power=1)'", "keyword argument 'power'; it takes sigma, fill"),
        ("crop(1, 2, 3)", "'crop(1, 2, 3)'", "too many positional arguments; it takes sigma, fill"),
        ("crop(0.3", "'(0.3'", "not readable ('(' was never closed)"),
        ("crop(0.3)+", "", "not readable (invalid syntax)"),
        ("", "", "not readable (invalid syntax)"),
        ("3", "'3'", "expected a transform, such as crop(0.3)"),
        ("crop(open(3))", "'open(3)'", "expected a number, a pair or a word"),
        ("__import__(os).system(x)", "'__import__(os).system(x)'", "expected a transform"),
        ("[]", "", "needs at least one part"),
        ("resized_crop(size=8)", "", "makes images of 8 x 8 px from 24 x 20"),
        ("hard(resized_crop(size=8))", "", "makes images of 8 x 8 px from 24 x 20"),
        ("hard", "'hard'", "hard takes parts, such as hard(randaugment+flip)"),
        ("hard(crop, flip)", "'hard(crop, flip)'", "hard takes parts"),
        ("hard(3)", "'3'", "expected a transform"),
        ("harde(crop)", "'harde(crop)'", "did you mean hard"),
    ],
)
def test_what_is_wrong_is_pointed_at(text: str, where: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text, 20, 24)
    said = str(error.value)
    assert message in said
    assert (f"at {where}:" if where else "") in said
    assert "\n" not in said


def test_a_yaml_list_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "augment.yaml"
    path.write_text("- crop(0.3)\n- erase: {area: [0.1, 0.2], fill: noise}\n- cutout: 8\n- flip\n")
    text = from_file(str(path))
    expected = "crop(0.3)+erase(area=(0.1, 0.2), fill=noise)+cutout(8)+flip"
    assert parse(text, 20, 24) == parse(expected, 20, 24)
    assert from_file("crop(0.3)") == "crop(0.3)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("crop: 0.3", "expected a list of parts"),
        ("- [1, 2]", r"expected parts such as .* got \[1, 2\]"),
        ("- {", "no YAML"),
        (None, "not readable"),
    ],
)
def test_bad_files_are_named(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "augment.yml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=message) as error:
        from_file(str(path))
    assert str(path) in str(error.value)
