"""The one registry of methods: their names, weights and references; it needs no Keras.

Flags, pages and recipes take from here what they know of a method. A method has an entry here, a
class in `methods` and a weighted sum in `objective`.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Method:
  """What can be said of a method without its class.

  Attributes:
    name: its name for people.
    class_name: the name of its class in `methods`.
    weights: the weights of this method: settings of `recipes.Recipe` and arguments of its class.
      `lam`, the weight of VAT, is left out because every method has it.
    maximises: its objective, by the numbers of terms in `objective` (the paper's figure 1).
    reference: the publication that the method comes from.
  """

  name: str
  class_name: str
  weights: tuple[str, ...]
  maximises: str
  reference: str


# In the order in which a comparison shows them.
METHODS: dict[str, Method] = {
    "imae": Method(
        "IMAE", "IMAE",
        ("beta", "gamma", "beta_y", "entropy_weight", "consistency", "transform_size",
         "ease_smoothing"),
        "1 + beta (L(z) + L_D(y)) - gamma TC(y,z), eq (11)",
        "Information Maximization Autoencoder, figure 4 and eq (11), (12)",
    ),
    "vae": Method(
        "VAE", "VAE", (),
        "1 - (2 + 3) - (4 + 5), the ELBO",
        "Kingma and Welling, 2014, arXiv:1312.6114",
    ),
    "betavae": Method(
        "β-VAE", "BetaVAE", ("beta",),
        "1 - beta (2 + 3) - beta (4 + 5)",
        "Higgins et al., 2017",
    ),
    "infovae": Method(
        "InfoVAE", "InfoVAE", ("beta", "alpha"),
        "1 - (1 - alpha) (2 + 4) - beta (3 + 5); alpha = 1, the default, is WAE's objective too,"
        " with the KL divergence as its penalty",
        "Zhao et al., 2017, arXiv:1706.02262; Tolstikhin et al., 2018, arXiv:1711.01558",
    ),
    "jointvae": Method(
        "JointVAE", "JointVAE", ("beta", "capacity_y", "capacity_z", "capacity_steps"),
        "1 - beta abs(2 + 3 - C_y) - beta abs(4 + 5 - C_z), the capacities raised over training",
        "Dupont, 2018, arXiv:1804.00104",
    ),
    "betatcvae": Method(
        "β-TCVAE", "BetaTCVAE", ("beta",),
        "1 - I(x;y,z) - beta TC(y,z) - KL(p(y) || r(y)) - sum_k KL(p(z_k) || r(z_k))",
        "Chen et al., 2018, arXiv:1802.04942",
    ),
}


def name_of(method: str) -> str:
  """The name of a method for people; the id itself if the registry does not know it."""
  return METHODS[method].name if method in METHODS else method


def methods_with(weight: str) -> tuple[str, ...]:
  """The ids of the methods that have a weight; () for a setting that every method has."""
  return tuple(key for key, method in METHODS.items() if weight in method.weights)
