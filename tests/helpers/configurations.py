"""The table of configurations that is run through every behaviour: arguments of a model."""

GOLDEN = {
    "paper": {},
    "tuned": dict(beta_y=20.0, entropy_weight=4.0, detach_y=True, vat_radius="neighbor", lam=3.0),
    "no_vat": dict(lam=0.0),
    "towers": dict(
        view="edges", detach_y=True, vat_radius="neighbor", vat_xi="neighbor", consistency=2.0,
        transform_size=0.5, ease_smoothing=True,
    ),
    "gaussian": dict(likelihood="gaussian"),
    "literal": dict(vat_detach=False, marginals="second_batch"),
    "other_sizes": dict(num_categories=3, latent_dim=1, temperature=0.3),
    "vae": dict(method="vae"),
    "betavae": dict(method="betavae", beta=2.0, lam=0.0),
    "infovae": dict(method="infovae", beta=3.0, alpha=0.5),
    "jointvae": dict(method="jointvae", beta=4.0, capacity_z=3.0, capacity_steps=7),
    "betatcvae": dict(method="betatcvae", beta=2.0),
}


def networks_of(settings, units=32):
  """(encoder, decoder) on 8x8 images for a row; takes what is the networks' out of `settings`."""
  from imae_tf import networks

  sizes = {name: settings[name] for name in ("num_categories", "latent_dim") if name in settings}
  units = {"encoder_units": (units,), "decoder_units": (units,)}
  if settings.pop("view", None):
    view = networks.EdgeEnergies(signed=True, name="view")
    return networks.two_towers((8, 8, 1), view, y_units=(16,), **units, **sizes)
  return networks.mlp((8, 8, 1), **units, **sizes)
