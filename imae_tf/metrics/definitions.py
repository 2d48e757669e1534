"""The one registry of measures: the name, unit, meaning and caution of each.

Its keys are the names in metrics.json, in figures.json of a search and in the logs of training.
Pages, plots, TensorBoard, model cards and the site take their words from here.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Definition:
  """The words for a measure.

  Attributes:
    name: its name for people, as plain text with Unicode subscripts.
    unit: unit of the value; empty for pure numbers.
    meaning: its definition.
    caution: when not to trust it.
  """

  name: str
  unit: str
  meaning: str
  caution: str = ""


# The second half of flattened names such as "mi_z.naive".
_ESTIMATORS = {"naive": "naive", "leave_one_out": "leave-one-out"}


def label(key: str) -> str:
  """The name of a measure for people.

  Args:
    key: a key of `DEFINITIONS`, also flattened ("mi_z.naive") or of held-out images ("val_mi_y");
      a key that the registry does not know is its own label.

  Returns:
    Plain text, subscripts in Unicode: "Σ I(x;zₖ)", "Σ I(x;zₖ), naive", "I(x;y), held out".
  """
  own, _, part = key.removeprefix("val_").partition(".")
  if own not in DEFINITIONS:
    return key
  parts = [DEFINITIONS[own].name]
  if part:
    parts.append(_ESTIMATORS.get(part, part))
  if key.startswith("val_"):
    parts.append("held out")
  return ", ".join(parts)


def axis(key: str) -> str:
  """`label` with the unit in brackets, for axes and columns: "I(x;y) [nats]", "Accuracy"."""
  own = key.removeprefix("val_").partition(".")[0]
  unit = DEFINITIONS[own].unit if own in DEFINITIONS else ""
  return f"{label(key)} [{unit}]" if unit else label(key)


DEFINITIONS: dict[str, Definition] = {
    "n": Definition("Images", "", "Number n of images that the figures here are computed on."),
    "codes": Definition(
        "Codes", "",
        "Number of codes that Σ I(x;zₖ), I(x;y,z), TC(y,z) and Σ KL average over, one for each of"
        " as many images drawn at random. Each code is compared with the posteriors of all n"
        " images.",
    ),
    "accuracy": Definition(
        "Accuracy", "",
        "Share of images whose category, argmax p(y|x), is matched to their true class, under"
        " the one-to-one matching with the most agreements (Hungarian method).",
        "Categories beyond the number of classes can only lower it. Random categories score above"
        " 1/classes, because the matching is chosen to fit.",
    ),
    "baselines": Definition(
        "Baseline accuracy", "",
        "The same accuracy for k-means, Ward's tree and a Gaussian mixture on principal"
        " components, fitted on the raw training pixels and applied to the same images. Images of"
        " more than 1,000 numbers are given to them by 100 principal components.",
        "Each is one draw: the mixture changes by several hundredths between seeds.",
    ),
    "simple_methods": Definition(
        "Simple methods", "",
        "Accuracy, NMI, ARI and what near images share, for the model's categories and for those of"
        " the baselines, on the same images.",
    ),
    "near_mi_y": Definition(
        "Near images share", "nats",
        "Information that the category of an image has about those of its nearest images, which"
        " are nearest in what the layers of y see: pixels, or edges.",
        "High for even categories that follow regions of alike images. Compare it on the same"
        " images and with the same K₂ alone; of very unequal classes it favours even splits.",
    ),
    "nmi": Definition(
        "NMI", "",
        "Normalised mutual information of category and class, 0 to 1.",
        "Not adjusted for chance: many small categories score high by luck.",
    ),
    "ari": Definition(
        "ARI", "",
        "Adjusted Rand index of category and class: 1 is agreement, 0 is chance.",
        "Favours balanced categories.",
    ),
    "mi_y_label": Definition(
        "I(y; label)", "nats",
        "Mutual information of the category argmax p(y|x) and the true class; at most the log"
        " of the number of classes.",
        "Too high when few images fall into each cell of the table of counts.",
    ),
    "mi_y": Definition(
        "I(x;y)", "nats",
        "Information that the category carries about the image, H(y) − H(y|x); at most ln K₂."
        " Exact on these n images.",
        "It is high for any balanced and confident split of the images, meaningful or not.",
    ),
    "entropy_y": Definition(
        "H(y)", "nats",
        "Entropy of the mean of p(y|x): ln K₂ when all categories are used equally.",
    ),
    "conditional_entropy_y": Definition(
        "H(y|x)", "nats", "Mean entropy of p(y|x): 0 when every image has one certain category.",
        "Low values say that the model is sure, not that it is right.",
    ),
    "mi_z": Definition(
        "Σ I(x;zₖ)", "nats",
        "Information of each continuous factor about the image, summed over the K₁ factors.",
        "Naive is biased down, and each factor is capped at ln n. Leave-one-out is biased up, and"
        " more so if the posteriors are narrow. On average the truth lies between. Factors that"
        " repeat each other count twice: see TC.",
    ),
    "mi_z_per_dimension": Definition(
        "I(x;zₖ)", "nats", "The same for each factor alone.", "As for the sum."
    ),
    "mi_z_joint": Definition(
        "I(x;z)", "nats",
        "Information of all continuous factors together about the image.",
        "Naive can never exceed ln n: near that cap it measures n, not the model.",
    ),
    "mi_joint": Definition(
        "I(x;y,z)", "nats",
        "Information of the whole code about the image, I(x;y) + Σ I(x;zₖ) − TC(y,z).",
        "Naive can never exceed ln n: near that cap it measures n, not the model.",
    ),
    "total_correlation": Definition(
        "TC(y,z)", "nats",
        "Dependence among category and factors, KL(p(y,z) ‖ p(y) Π p(zₖ)); 0 when they are"
        " independent.",
        "It is a difference of estimates, so the truth need not lie between the two. Leave-one-out"
        " may be negative, and naive is too high once I(x;y,z) reaches its cap. Trust it where"
        " both agree.",
    ),
    "total_correlation_floor": Definition(
        "TC floor", "nats",
        "The same two estimates of TC(y,z) for these factors made independent, each shuffled among"
        " the images on its own: the bias of the estimates at this n.",
        "Only the part of TC(y,z) above it indicates dependence.",
    ),
    "kl_z": Definition(
        "Σ KL(p(zₖ) ‖ N(0,1))", "nats",
        "How far the factors, over all images, are from the prior that images are generated"
        " from.",
        "A naive estimate, which errs upwards.",
    ),
    "reconstruction": Definition(
        "Reconstruction loss", "nats per image",
        "−log q(x|y,z), summed over pixels, from p(y|x) and the mean of z. Lower is better.",
        "Look only at its distance from the floor. Do not compare it between likelihoods or image"
        " sizes.",
    ),
    "reconstruction_floor": Definition(
        "Reconstruction floor", "nats per image",
        "The loss of a perfect copy. The Bernoulli cross-entropy of grey pixels is never 0: its"
        " floor is the entropy of the pixels themselves.",
    ),
    "neighbor_mi_y": Definition(
        "I(c;c′)", "nats",
        "Information that the category of an image shares with the category of one of its"
        " nearest images. It ranks runs without labels.",
        "Nearest means nearest in pixels. It is at most ln K₂, and higher where images lie densely:"
        " compare it only between runs on the same images with the same K₂.",
    ),
    "used_categories": Definition(
        "Categories used", "",
        "Number of categories in use. A category is in use if it is the likeliest one of at least"
        " 1% of an even share of the images. If there are fewer than K₂, the data supports fewer,"
        " or the run lost some.",
    ),
    "mig": Definition(
        "MIG", "",
        "Mutual information gap, mean over the known factors. For a factor, two parts of the code"
        " tell most about it; the gap is the difference of their information, as a share of the"
        " factor's entropy.",
    ),
    "mig_per_factor": Definition("MIG of each factor", "", "The same for each factor alone."),
    "dci_disentanglement": Definition(
        "DCI disentanglement", "", "1 when each part of the code serves one factor alone.",
        "Importances are of extremely randomised trees; other learners give other figures.",
    ),
    "dci_completeness": Definition(
        "DCI completeness", "", "1 when each factor is in one part of the code alone.",
        "As for DCI disentanglement.",
    ),
    "dci_informativeness": Definition(
        "DCI informativeness", "",
        "Mean accuracy of predicting the value of a factor from the code, on codes that the trees"
        " have not seen.",
        "Chance is one over the number of values.",
    ),
    "factor_vae_score": Definition(
        "FactorVAE score", "",
        "How often the part of the code that moves least tells which factor was held fixed.",
        "Chance is about one over the number of factors.",
    ),
    "category_overlap": Definition(
        "Overlap of categories", "",
        "Each category is drawn from the mean z of its images, while the most informative dimension"
        " moves from -2 to 2. The overlap is the share of these images that the encoder gives"
        " another category.",
        "A category that the decoder ignores overlaps with all others; so does a category to which"
        " the encoder gives no image.",
    ),
    "active_units": Definition(
        "Active units", "",
        "Number of factors zₖ with Var[µₖ] > 0.01: the posterior mean moves with the image.",
        "A variance does not tell how large the noise is: compare E[σₖ²], or read I(x;zₖ).",
    ),
    "var_mean_per_dimension": Definition(
        "Var[µₖ]", "", "Variance over images of the posterior mean of each factor."
    ),
    "mean_variance_per_dimension": Definition(
        "E[σₖ²]", "",
        "Mean over images of the posterior variance of each factor; 1 is the prior's.",
    ),
    "loss": Definition(
        "Objective", "nats per image",
        "What training minimises: the weighted sum of the terms, over the batches of an epoch.",
        "Losses of runs with different weights cannot be compared.",
    ),
    "reconstruction_loss": Definition(
        "Reconstruction loss", "nats per image",
        "−log q(x|y,z), summed over pixels, as training logs it: from samples of y and z.",
        "It is higher than the loss in the report, which uses p(y|x) and the mean of z.",
    ),
    "vat_loss": Definition(
        "VAT cross-entropy", "nats",
        "H(p(y|x), p(y|x+r)): how far p(y|x) moves when the image is perturbed in the direction"
        " that changes it most.",
        "It contains H(y|x), and depends on the run's own radius.",
    ),
    "consistency_loss": Definition(
        "Consistency cross-entropy", "nats",
        "H(p(y|x), p(y|T(x))): how far p(y|x) moves when the image is turned, scaled and shifted a"
        " little.",
        "It contains H(y|x), and depends on the run's own size of T.",
    ),
    "learning_rate": Definition(
        "Learning rate", "", "Learning rate of the optimizer at the end of the epoch."
    ),
    "seconds": Definition("Duration", "seconds per epoch", "Wall-clock of an epoch of training."),
    "train_seconds": Definition(
        "Training", "seconds", "Wall-clock of training, all starts included."
    ),
}
