"""ImageNet as it is handed out: two archives of images and one of labels, read where they lie."""

import io
import tarfile
from pathlib import Path

from softaug_lab.basics.errors import SoftaugError, one_line
from softaug_lab.data.sample import Slice
from softaug_lab.data.shards import OneFile
from softaug_lab.data.sources.found import Found

TRAIN_FILE, TEST_FILE = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
LABELS_FILE = "ILSVRC2012_devkit_t12.tar.gz"


def is_imagenet(root: Path) -> bool:
    return (root / TRAIN_FILE).exists()


def find(root: Path) -> Found:
    """The images of the two archives as parts of these files; nothing is unpacked.

    The classes are WordNet ids in their order, as torchvision and timm have them. Raises
    SoftaugError where a file is missing or broken.
    """
    missing = [name for name in (TEST_FILE, LABELS_FILE) if not (root / name).exists()]
    if missing:
        raise SoftaugError(f"{root}: has {TRAIN_FILE} but no {' and no '.join(missing)}")
    file = LABELS_FILE
    try:
        classes = _test_classes(root / file)
        file = TEST_FILE
        test = _test(root / file, classes)
        file = TRAIN_FILE
        train = _train(root / file)
    # Archives and MATLAB's files have no one error for what is broken in them.
    except Exception as error:
        reason = one_line(error)
        raise SoftaugError(f"{root / file}: not readable as ImageNet's ({reason})") from error
    return Found(train, test, sorted({shard.label for shard in train}))


def _train(path: Path) -> list[OneFile]:
    """An archive of archives, one for each class and named for it."""
    images = []
    with tarfile.open(path, "r:") as outer:
        for member in outer:
            inside = outer.extractfile(member)
            if inside is None:
                continue
            with tarfile.open(fileobj=inside, mode="r:") as inner:
                images += _images(path, inner, member.offset_data, Path(member.name).stem)
    return images


def _test(path: Path, classes: list[str]) -> list[OneFile]:
    """Images named ..._00000001.JPEG, whose classes stand in a list by these numbers."""
    with tarfile.open(path, "r:") as archive:
        images = _images(path, archive, 0, "")
    if len(images) != len(classes):
        raise ValueError(f"{path.name} has {len(images):,} images, expected {len(classes):,}")
    numbers = [int(image.name.rpartition("_")[2].partition(".")[0]) for image in images]
    return [
        OneFile(image.name, image.content, classes[number - 1])
        for image, number in zip(images, numbers, strict=True)
    ]


def _images(path: Path, archive: tarfile.TarFile, offset: int, label: str) -> list[OneFile]:
    return [
        OneFile(
            f"{path.name} {member.name}",
            Slice(path, offset + member.offset_data, member.size),
            label,
        )
        for member in archive
        if member.isreg()
    ]


def _test_classes(path: Path) -> list[str]:
    """The WordNet id of each test image, by the numbers of the development kit."""
    from scipy.io import loadmat

    with tarfile.open(path, "r:gz") as kit:
        contents = {
            Path(member.name).name: file.read()
            for member in kit
            if (file := kit.extractfile(member)) is not None
        }
    synsets = loadmat(io.BytesIO(contents["meta.mat"]), squeeze_me=True)["synsets"]
    ids = {int(one["ILSVRC2012_ID"]): str(one["WNID"]) for one in synsets}
    numbers = contents["ILSVRC2012_validation_ground_truth.txt"].split()
    return [ids[int(number)] for number in numbers]
