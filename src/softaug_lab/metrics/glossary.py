"""The terms that reports and documentation use, each explained in two sentences."""

GLOSSARY = {
    "arm": "A named way to train: an augmentation with its targets and its loss. The arms of a "
    "comparison share the data and their order, the initial weights, the schedule and the budget.",
    "visibility": "The share of the original image that can still be seen after an augmentation, "
    "from 0 (nothing) to 1 (all of it). It is computed from where the augmentation moves and "
    "covers pixels, or from how much noise or blur it adds.",
    "confidence": "Of a target: the probability that soft augmentation leaves on the true class, "
    "which a curve computes from the visibility; 1 is a hard label. Of a prediction: the largest "
    "of the model's class probabilities.",
    "top-1 error": "The share of test images whose most probable class under the model is not the "
    "true one. Lower is better.",
    "ECE": "Expected calibration error: predictions are sorted into bins by confidence, and the "
    "distance between mean confidence and accuracy in each bin is averaged, weighted by the number "
    "of predictions. It is 0 for a calibrated model with endless data; with few images compare it "
    "with its noise floor.",
    "noise floor": "The ECE that a perfectly calibrated model with the same confidences would "
    "measure on average on this number of images. An ECE near its noise floor, and a difference "
    "smaller than it, say nothing about calibration.",
    "gap": "Mean confidence minus accuracy, in points of percent. Above 0 the model is "
    "over-confident, below 0 under-confident.",
    "NLL": "Negative log-likelihood: the mean of minus the logarithm of the probability that the "
    "model gives to the true class. It falls with better accuracy and with better calibration, "
    "and a confident wrong prediction costs most.",
    "Brier": "Brier score: the mean squared distance between the vector of class probabilities and "
    "the one-hot label, from 0 to 2. Like the NLL it measures accuracy and calibration together, "
    "but a single wrong prediction costs at most 2.",
    "AURC": "Area under the risk-coverage curve: the mean error over all shares of images that the "
    "model answers when it keeps its most confident predictions and refuses the others. It is low "
    "where the model errs little and where its errors have low confidence.",
    "cut off": "A test image of which a part is out of the frame: what is left keeps its size and "
    "lies in a corner, and the rest of the picture shows a fill. Each side loses the same share, "
    "in a direction drawn for each image, the same for all models.",
    "hidden": "A test image of which a part is covered by a rectangle of the image's aspect at a "
    "place drawn for each image, the same for all models. The rectangle shows a fill.",
    "unseen fills": "What stands in the place of the missing part and is in no arm's training: "
    "checkerboards, white, ellipses in random colours, a generated texture, and clothes in random "
    "colours where the data are others than the demo. An arm that has learned one fill, such as "
    "black, gains nothing from it here.",
    "mix": "Every test image once under one confidence: a quarter of them whole, three eighths cut "
    "off and three eighths hidden, with 20, 40, 60 or 80 % lost (equally often) and unseen fills "
    "in turn. Its ECE, AURC and NLL say how far the confidence can be trusted when it is not known "
    "how much of an object is in the picture.",
    "temperature": "A number by which the logits are divided before the softmax, fitted on "
    "training images that were held out (5 % of them, where that gives 200 or more). It changes "
    "the confidences and not the predicted classes, so it corrects over- or under-confidence at no "
    "cost in accuracy.",
}
