"""What a loaded data set holds, in a few lines for a terminal."""

from softaug_lab.data.dataset import Data

MOST_CLASSES = 10  # that are listed one by one


def summary(data: Data) -> list[str]:
    """Return the size of a data set, and the images of each class by part, in at most 12 lines.

    Of more than 10 classes those with the fewest training images are listed.
    """
    held = {"train": data.train, "held out": data.held_out, "test": data.test}
    parts = {
        name: images.labels.bincount(minlength=data.num_classes)
        for name, images in held.items()
        if images is not None
    }
    if data.stream is not None:  # `train` is a sample of it
        parts["train"] = data.stream.part.per_class
    channels, height, width = data.image_shape
    counts = ", ".join(f"{int(n.sum()):,} {name}" for name, n in parts.items())
    colour = "grey" if channels == 1 else "RGB"
    first = f"{data.name}: {data.num_classes} classes, {width} x {height} px {colour}; {counts}"
    listed = parts["train"].argsort(stable=True)[:MOST_CLASSES]
    if len(listed) == data.num_classes:
        listed = listed.sort().values
    rows = [
        f"  {data.classes[i]}: " + ", ".join(f"{int(n[i]):,} {name}" for name, n in parts.items())
        for i in listed.tolist()
    ]
    rest = data.num_classes - len(listed)
    if rest:
        rows.append(
            f"  {rest:,} more classes with at least {int(parts['train'][listed[-1]]):,} train"
        )
    return [first, *rows]
