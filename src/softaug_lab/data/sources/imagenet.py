"""ImageNet as distributed: two archives of images and one of labels, read without unpacking."""

import io
import tarfile
from pathlib import Path

from softaug_lab.basics.errors import SoftaugError, one_line
from softaug_lab.data.sample import Slice
from softaug_lab.data.shards import OneFile
from softaug_lab.data.sources.listing import Listing

TRAIN_FILE, TEST_FILE = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
LABELS_FILE = "ILSVRC2012_devkit_t12.tar.gz"


def is_imagenet(root: Path) -> bool:
    """Return whether a folder has ImageNet's archive of training images."""
    return (root / TRAIN_FILE).exists()


def list_imagenet(root: Path) -> Listing:
    """List the images of the two archives as byte ranges of these files; nothing is unpacked.

    The classes are the sorted WordNet ids, as in torchvision and timm. Raises SoftaugError where
    a file is missing or broken.
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
    # Broken archives and MATLAB files raise errors of many types.
    except Exception as error:
        reason = one_line(error)
        raise SoftaugError(f"{root / file}: not readable as ImageNet's ({reason})") from error
    return Listing(train, test, sorted({str(shard.label) for shard in train}))


def _train(path: Path) -> list[OneFile]:
    """List the training images: an archive that holds one archive per class, named by the class."""
    images = []
    with tarfile.open(path, "r:") as outer:
        for member in outer:
            class_file = outer.extractfile(member)
            if class_file is None:
                continue
            with tarfile.open(fileobj=class_file, mode="r:") as inner:
                images += _images(path, inner, member.offset_data, Path(member.name).stem)
    return images


def _test(path: Path, classes: list[str]) -> list[OneFile]:
    """List the test images, named ..._00000001.JPEG; classes: by these numbers, from 1."""
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
    """List the files of an archive that begins at `offset` bytes of the file `path`."""
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
    """Read the WordNet id of each test image from the development kit."""
    from scipy.io import loadmat

    with tarfile.open(path, "r:gz") as kit:
        contents = {
            Path(member.name).name: file.read()
            for member in kit
            if (file := kit.extractfile(member)) is not None
        }
    synsets = loadmat(io.BytesIO(contents["meta.mat"]), squeeze_me=True)["synsets"]
    ids = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets}
    numbers = contents["ILSVRC2012_validation_ground_truth.txt"].split()
    return [ids[int(number)] for number in numbers]
