"""Which data suit fine-tuning: few photos, as large as the weights of ImageNet know them."""

MANY = 5_000  # training images from which a network may well be trained from scratch
PHOTO_SIDE = 128  # pixels of images that weights of ImageNet are good for


def are_few_photos(images: int, side: int, streamed: bool) -> bool:
    """Whether training images are so few and so large that fine-tuning suits them.

    images: to train on, without those held out. side: the shorter one of the images, in pixels.
    """
    return images < MANY and side >= PHOTO_SIDE and not streamed
