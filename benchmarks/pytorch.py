"""The tuned objective in PyTorch: modules, autograd and the fused Adam.

Written with the care of `plain_tf.py`: one clean pass serves the objective and VAT's
target, the search for VAT's direction asks for the images' gradient alone, and weights and
statistics stay in float32 under bfloat16. Its moving variances are unbiased where Keras's
are biased; nothing here reads them.
"""

import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import problem as problems
from benchmarks.problem import ADAM
from benchmarks.problem import BATCH_NORM_DECAY
from benchmarks.problem import BATCH_NORM_EPSILON
from benchmarks.problem import MAX_LOG_SCALE


def candidate(
    threads: int, problem: problems.Problem, batches: int
) -> dict[str, Callable[[int], float]]:
  """The harness's factory; `batches` batches lie in memory and are used in turn."""
  torch.set_num_threads(threads)
  step = Step(problem, problems.first_parameters(problem))
  images = list(torch.from_numpy(problems.images(problem, batches)))

  def run(steps: int) -> float:
    for i in range(steps):
      loss = step(images[i % batches])
    return loss.item()

  return {"pytorch": run}


class Autoencoder(torch.nn.Module):
  """Encoder, posterior and decoder of a `Problem`."""

  def __init__(self, problem: problems.Problem) -> None:
    super().__init__()
    layers = problem.layers
    self.dtype = torch.bfloat16 if problem.bfloat16 else torch.float32
    self.encoder = torch.nn.ModuleList(
        torch.nn.Linear(*sizes, bias=False) for sizes in layers["encoder"]
    )
    self.norms = torch.nn.ModuleList(
        torch.nn.BatchNorm1d(n, eps=BATCH_NORM_EPSILON, momentum=1.0 - BATCH_NORM_DECAY)
        for n in problem.encoder_units
    )
    self.z = torch.nn.Linear(*layers["z"])
    self.y = torch.nn.Linear(*layers["y"])
    self.decoder = torch.nn.ModuleList(torch.nn.Linear(*sizes) for sizes in layers["decoder"])

  def features(self, x: Tensor, update: bool) -> Tensor:
    h = x.to(self.dtype)
    for dense, norm in zip(self.encoder, self.norms):
      h = self._dense(h, dense)
      moving = (norm.running_mean, norm.running_var) if update else (None, None)
      h = F.batch_norm(
          h, *moving, norm.weight, norm.bias, training=True, momentum=norm.momentum, eps=norm.eps
      ).relu()
    return h.float()

  def log_y(self, x: Tensor) -> Tensor:
    return F.log_softmax(self.y(self.features(x, update=False)), dim=1)

  def decode(self, y: Tensor, z: Tensor) -> Tensor:
    h = torch.cat([y, z], dim=1).to(self.dtype)
    for dense in self.decoder[:-1]:
      h = self._dense(h, dense).relu()
    return self._dense(h, self.decoder[-1]).float()

  def _dense(self, x: Tensor, layer: torch.nn.Linear) -> Tensor:
    bias = None if layer.bias is None else layer.bias.to(self.dtype)
    return F.linear(x, layer.weight.to(self.dtype), bias)

  def ordered(self) -> Iterator[tuple[Tensor, bool]]:
    """(parameter, whether it is a kernel) in the order of `problem.parameters_of`."""
    for dense, norm in zip(self.encoder, self.norms):
      yield from ((dense.weight, True), (norm.weight, False), (norm.bias, False))
    for dense in (self.z, self.y, *self.decoder):
      yield from ((dense.weight, True), (dense.bias, False))


class Step:
  """The module, its optimizer and one training step.

  Args:
    problem: `Problem`.
    arrays: first parameters, in the order of `problem.parameters_of`.
  """

  def __init__(self, problem: problems.Problem, arrays: Iterable[np.ndarray]) -> None:
    self.problem = problem
    self.module = Autoencoder(problem)
    with torch.no_grad():
      for (parameter, is_kernel), array in zip(self.module.ordered(), arrays, strict=True):
        value = torch.from_numpy(array)
        parameter.copy_(value.T if is_kernel else value)
    self.optimizer = torch.optim.Adam(
        self.module.parameters(),
        lr=problem.learning_rate,
        betas=(ADAM["beta1"], ADAM["beta2"]),
        eps=ADAM["epsilon"],
        fused=True,
    )

  def __call__(self, x: Tensor) -> Tensor:
    """One step on images [B, D]; returns the loss."""
    return self.with_noise(x, self._draw(len(x)))

  def with_noise(self, x: Tensor, noise: Any) -> Tensor:
    """The same with given noise {"z": [B, K1] normal, "gumbel": [B, K2], "vat": [B, D]}."""
    self.optimizer.zero_grad(set_to_none=True)
    loss = self._loss(x, noise)
    loss.backward()
    self.optimizer.step()
    return loss.detach()

  def parameters(self) -> Iterator[np.ndarray]:
    """NumPy arrays in the order of `problem.parameters_of`."""
    for parameter, is_kernel in self.module.ordered():
      value = parameter.detach().numpy()
      yield value.T if is_kernel else value

  def _draw(self, size: int) -> dict[str, Tensor]:
    return {
        "z": torch.randn(size, self.problem.latent_dim),
        "gumbel": -torch.empty(size, self.problem.num_categories).exponential_().log(),
        "vat": torch.randn(size, self.problem.pixels),
    }

  def _loss(self, x: Tensor, noise: Any) -> Tensor:
    p = self.problem
    features = self.module.features(x, update=True)
    mean, raw = self.module.z(features).chunk(2, dim=1)
    log_scale = MAX_LOG_SCALE * torch.tanh(raw / MAX_LOG_SCALE)
    logits = self.module.y(features)
    log_y = F.log_softmax(logits, dim=1)
    z = mean + torch.exp(log_scale) * noise["z"]
    y = F.softmax((logits.detach() + noise["gumbel"]) / p.temperature, dim=1)
    decoded = self.module.decode(y, z)
    reconstruction = F.binary_cross_entropy_with_logits(decoded, x, reduction="none").sum(1)
    log_p_z, log_p_y, log_p_yz = log_marginals(z, mean, log_scale, log_y)
    prob = log_y.exp()
    kl_z = (log_p_z - _log_normal(z, torch.zeros(()), torch.zeros(()))).sum(1)
    correlation = (prob * (log_p_yz - log_p_y)).sum(1) - log_p_z.sum(1)
    entropy = -(prob * log_p_y).sum(1)
    conditional = -(prob * log_y).sum(1)
    vat = self._vat(x, prob.detach(), noise["vat"])
    l_y = p.entropy_weight * entropy - conditional - p.lam * vat
    terms = reconstruction + p.beta * kl_z - p.beta_y * l_y + p.gamma * correlation
    return terms.mean()

  def _vat(self, x: Tensor, target: Tensor, noise: Any) -> Tensor:
    start = (self.problem.vat_xi * _unit(noise)).requires_grad_()
    divergence = -(target * self.module.log_y(x + start)).sum()
    (gradient,) = torch.autograd.grad(divergence, start)
    r = _unit(gradient) * self._radius(x)[:, None]
    return -(target * self.module.log_y(x + r)).sum(1)

  @torch.no_grad()
  def _radius(self, x: Tensor) -> Tensor:
    norms = x.square().sum(1)
    squared = norms[:, None] + norms - 2.0 * (x @ x.T)
    nearest = squared.fill_diagonal_(math.inf).amin(1).clamp_min(0.0)
    return self.problem.neighbor_fraction * nearest.sqrt()


def log_marginals(
    z: Tensor, mean: Tensor, log_scale: Tensor, log_y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
  """(log p(z_k) [B, K1], log p(y) [K2], log p(y, z) [B, K2]), naive, eq (35)."""
  log_count = math.log(len(z))
  density = _log_normal(z[:, None], mean, log_scale)  # [B, B, K1]
  joint = density.sum(2)
  top = joint.detach().amax(1, keepdim=True)
  p_yz = (joint - top).exp() @ log_y.exp()
  return (
      density.logsumexp(1) - log_count,
      log_y.logsumexp(0) - log_count,
      p_yz.clamp_min(1e-37).log() + top - log_count,
  )


def _log_normal(z: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
  standardized = (z - mean) * torch.exp(-log_scale)
  return -0.5 * standardized.square() - log_scale - 0.5 * math.log(2.0 * math.pi)


def _unit(x: Tensor) -> Tensor:
  x = x / (x.abs().amax(1, keepdim=True) + 1e-37)
  return x * (x.square().sum(1, keepdim=True) + 1e-12).rsqrt()
