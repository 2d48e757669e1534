"""The table of configurations that is run through every behaviour: arguments of a model."""

GOLDEN = {
    "paper": {},
    "tuned": dict(beta_y=20.0, entropy_weight=4.0, detach_y=True, vat_radius="neighbor", lam=3.0),
    "no_vat": dict(lam=0.0),
    "gaussian": dict(likelihood="gaussian"),
    "literal": dict(vat_detach=False, marginals="second_batch"),
    "other_sizes": dict(num_categories=3, latent_dim=1, temperature=0.3),
    "vae": dict(method="vae"),
    "betavae": dict(method="betavae", beta=2.0, lam=0.0),
    "infovae": dict(method="infovae", beta=3.0, alpha=0.5),
    "jointvae": dict(method="jointvae", beta=4.0, capacity_z=3.0, capacity_steps=7),
    "betatcvae": dict(method="betatcvae", beta=2.0),
}
