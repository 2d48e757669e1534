"""The methods as a Keras user meets them, over one table of configurations, and its bad input."""

import json

import configurations
import exports
import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

import imae_tf
from imae_tf.errors import InputError
from imae_tf.export import savedmodel

golden = pytest.mark.parametrize(
    "config", configurations.GOLDEN.values(), ids=configurations.GOLDEN
)
LOGGED = {
    "loss", "reconstruction_loss", "mi_y", "entropy_y", "conditional_entropy_y", "mi_z", "kl_z",
    "total_correlation", "vat_loss",
}


def _compiled(model, learning_rate=1e-3, **kwargs):
  model.compile(optimizer=keras.optimizers.Adam(learning_rate), **kwargs)
  return model


def _json(model):
  return json.dumps(keras.saving.serialize_keras_object(model))  # tuples as lists


@golden
def test_every_row_is_trained_and_loaded(tiny_model, digits, config, tmp_path):
  """Step by step, for the tracing of a step takes ten times as long as a fit this small."""
  model = _compiled(tiny_model(**config), 0.01, run_eagerly=True)
  assert_fit_lowers_the_loss_and_logs_the_terms(model, digits[0][:256], 2, config)
  assert_save_and_load_keep_codes_config_and_optimizer(model, digits[0], tmp_path / "m.keras")


@pytest.mark.parametrize(
    "config",
    [
        # Two rows have every kind of layer and of gradient; the others differ in sums of terms.
        pytest.param(config, marks=() if name in ("paper", "towers") else pytest.mark.slow)
        for name, config in configurations.GOLDEN.items()
    ],
    ids=configurations.GOLDEN,
)
def test_rows_are_traced_and_exported(tiny_model, digits, config, tmp_path):
  """One training for three behaviours: most of a fit this small is the tracing of its step."""
  model = _compiled(tiny_model(**config))
  assert_fit_lowers_the_loss_and_logs_the_terms(model, digits[0][:256], 5, config)
  assert_codes_are_deterministic_and_agree_everywhere(model, digits[0][:40])
  assert_a_saved_model_gives_the_same_codes(model, digits[0][:9], tmp_path / "1")


def assert_fit_lowers_the_loss_and_logs_the_terms(model, x, epochs, config):
  few = x[:128]
  before = model.evaluate(few, batch_size=128, verbose=0)
  history = model.fit(
      x, epochs=epochs, batch_size=128, validation_data=(few,), verbose=0
  ).history
  after = model.evaluate(few, batch_size=128, verbose=0)
  expected = LOGGED - ({"vat_loss"} if config.get("lam") == 0 else set())
  expected |= {"consistency_loss"} if config.get("consistency") else set()
  assert before.keys() == after.keys() == expected
  assert history.keys() == expected | {f"val_{name}" for name in expected}
  assert history["loss"][-1] < history["loss"][0]
  assert all(np.isfinite(values).all() for values in history.values())
  assert all(isinstance(value, float) for value in history["loss"])


def assert_codes_are_deterministic_and_agree_everywhere(model, x):
  codes = model.encode(x)
  ways = [
      model(x),
      model(x, training=True),
      model.predict(x, verbose=0),
      model.encoder_model()(x, training=True),
      model.encode(tf.data.Dataset.from_tensor_slices(x).batch(7)),
  ]
  for way in ways:
    assert way.keys() == codes.keys()
    for name in codes:
      np.testing.assert_allclose(way[name], codes[name], atol=2e-6)
  np.testing.assert_allclose(codes["y"].sum(1), 1, atol=1e-5)
  p = model.posterior(x)
  np.testing.assert_allclose(p.z.mean(), codes["z"], atol=2e-6)
  np.testing.assert_allclose(p.z.stddev(), codes["z_scale"], atol=2e-6)
  np.testing.assert_allclose(p.y.probs_parameter(), codes["y"], atol=2e-6)


def assert_a_saved_model_gives_the_same_codes(model, x, path):
  savedmodel.write(model, path)
  served = exports.reference(path)("encode", x=x)
  exports.assert_same_arrays(served, model.encode(x))


def assert_save_and_load_keep_codes_config_and_optimizer(model, x, path):
  model.save(path)
  loaded = keras.models.load_model(path)
  codes, again = model.encode(x[:9]), loaded.encode(x[:9])
  for name in codes:
    np.testing.assert_array_equal(codes[name], again[name])
  assert _json(loaded) == _json(model)
  # Training goes on to the same weights: the optimizer's state and the noise are restored.
  loaded.run_eagerly = True  # a step or two start sooner so, here and below
  model.fit(x[:64], batch_size=64, shuffle=False, verbose=0)
  loaded.fit(x[:64], batch_size=64, shuffle=False, verbose=0)
  for one, other in zip(model.get_weights(), loaded.get_weights()):
    np.testing.assert_allclose(one, other, atol=1e-6)


@golden
def test_get_config_is_whole(tiny_model, config):
  model = tiny_model(**config)
  given = {name: value for name, value in config.items() if name not in ("method", "view")}
  assert {name: model.get_config()[name] for name in given} == given
  again = type(model).from_config(model.get_config())
  assert _json(again) == _json(model)


def test_test_step_terms_match_float64(tiny_model, digits):
  """evaluate's figures recomputed in NumPy from the codes and the noise of (seed, step 0)."""
  model = _compiled(tiny_model(num_categories=4, latent_dim=3), run_eagerly=True)
  x = digits[0][:96]
  model.fit(x, batch_size=32, verbose=0)
  logged = model.evaluate(x, batch_size=96, verbose=0)
  codes = model.encode(x)
  seed_codes, _ = tf.unstack(tf.random.split(tf.constant([model.seed, 0]), 2))
  _, z = model.posterior(x).sample(seed_codes)
  code = (z, codes["z"], np.log(codes["z_scale"]), np.log(codes["y"]))
  expected = reference.terms(*(np.asarray(a, "float64") for a in code))
  for name in LOGGED & expected.keys():
    np.testing.assert_allclose(logged[name], expected[name], atol=2e-5, err_msg=name)
  image = model.reconstruct(x).astype("float64")
  nats = -(x * np.log(image) + (1 - x) * np.log(1 - image)).sum((1, 2, 3))
  np.testing.assert_allclose(logged["reconstruction_loss"], nats.mean(), rtol=1e-5)
  np.testing.assert_allclose(model.reconstruction_loss(x), nats, rtol=1e-5)


def test_loss_is_the_weighted_sum_of_the_logs(tiny_model, digits):
  weights = dict(beta=3.0, gamma=2.0, lam=4.0, beta_y=7.0, entropy_weight=2.0)
  model = _compiled(tiny_model(**weights), run_eagerly=True)
  t = model.evaluate(digits[0][:64], batch_size=64, verbose=0)
  l_y = 2.0 * t["entropy_y"] - t["conditional_entropy_y"] - 4.0 * t["vat_loss"]
  expected = t["reconstruction_loss"] + 3.0 * t["kl_z"] + 2.0 * t["total_correlation"] - 7.0 * l_y
  np.testing.assert_allclose(t["loss"], expected, rtol=1e-5)


_SIBLINGS = {
    "vae": ({}, lambda t: t["kl_y"] + t["kl"] + 4.0 * t["vat_loss"]),
    "betavae": (dict(beta=3.0), lambda t: 3.0 * (t["kl_y"] + t["kl"] + 4.0 * t["vat_loss"])),
    "infovae": (
        dict(beta=3.0), lambda t: 3.0 * (t["marginal_y"] + t["kl_z_joint"] + 4.0 * t["vat_loss"])
    ),
    "jointvae": (  # at step 2 of 4: half of ln 10 and half of 30
        dict(beta=3.0, capacity_z=30.0, capacity_y=9.0, capacity_steps=4),
        lambda t: 3.0 * (
            abs(t["kl_y"] - 0.5 * np.log(10)) + abs(t["kl"] - 15.0) + 4.0 * t["vat_loss"]
        ),
    ),
    "betatcvae": (
        dict(beta=3.0),
        lambda t: t["mi_y"] + t["mi_z"] + 2.0 * t["total_correlation"] + t["marginal_y"]
        + t["kl_z"] + 4.0 * t["vat_loss"],
    ),
}


@pytest.mark.parametrize("method", _SIBLINGS)
def test_the_loss_of_a_sibling_is_figure_1s(tiny_model, digits, method):
  """From the logs and from the codes: VAT counts lam times inside beta."""
  weights, rest = _SIBLINGS[method]
  model = _compiled(tiny_model(method, lam=4.0, **weights), run_eagerly=True)
  x = digits[0][:64]
  model.fit(x, batch_size=32, verbose=0)  # two steps
  t = model.evaluate(x, batch_size=64, verbose=0)
  assert t.keys() == LOGGED
  codes = model.encode(x)
  t["marginal_y"] = np.log(10) - t["entropy_y"]
  t["kl_y"] = np.log(10) - t["conditional_entropy_y"]
  variance = codes["z_scale"] ** 2
  t["kl"] = np.mean(np.sum(0.5 * (codes["z"] ** 2 + variance - 1 - np.log(variance)), 1))
  t["kl_z_joint"] = np.mean(model.terms(tf.constant(x), 0, training=False)["kl_z_joint"])
  np.testing.assert_allclose(t["loss"], t["reconstruction_loss"] + rest(t), rtol=1e-5)


def test_the_same_seed_repeats_to_the_bit(tiny_model, digits):
  runs = []
  for _ in range(2):
    model = _compiled(tiny_model(seed=3), run_eagerly=True)
    model.fit(digits[0][:200], batch_size=64, verbose=0)
    runs.append(model.get_weights())
  for one, other in zip(*runs):
    np.testing.assert_array_equal(one, other)


def test_other_seed_and_next_step_draw_other_noise(tiny_model, digits):
  x = tf.constant(digits[0][:32])
  terms = lambda seed, step: tiny_model(seed=seed).terms(x, step, training=True)["mi_z"]
  np.testing.assert_array_equal(terms(0, 0), terms(0, 0))
  assert np.abs(terms(0, 0) - terms(1, 0)).max() > 1e-3
  assert np.abs(terms(0, 0) - terms(0, 1)).max() > 1e-3


def test_detach_y_keeps_the_reconstruction_from_the_categories(tiny_model, digits):
  x = tf.constant(digits[0][:32])
  for detach_y in (False, True):
    model = tiny_model(detach_y=detach_y)
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(model.terms(x, 0, training=True)["reconstruction_loss"])
    gradient = tape.gradient(loss, model.head.y_dense.kernel.value)
    assert np.any(gradient) == (not detach_y)


def test_labels_change_nothing(tiny_model, digits):
  x, labels = digits[0][:128], digits[1][:128]
  weights = []
  for data in [(x, None), (x, labels)]:
    model = _compiled(tiny_model(lam=0.0), run_eagerly=True)
    model.fit(*data, batch_size=64, shuffle=False, verbose=0)
    weights.append(model.get_weights())
  model = _compiled(tiny_model(lam=0.0), run_eagerly=True)
  batches = tf.data.Dataset.from_tensor_slices((x, labels)).batch(64)
  model.fit(batches, shuffle=False, verbose=0)
  weights.append(model.get_weights())
  for one, other, third in zip(*weights):  # float32 sums may differ with memory alignment
    np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_allclose(one, third, atol=1e-6)


def test_a_last_batch_of_one_has_weight_zero(tiny_model, digits):
  """65 images in batches of 64: statistics and logs are those of the first 64."""
  x = digits[0][:65]
  logs, statistics = [], []
  for n in (64, 65):
    model = tiny_model()
    model.compile(optimizer=keras.optimizers.SGD(1e-3), run_eagerly=n == 64)
    history = model.fit(x[:n], batch_size=64, shuffle=False, verbose=0)
    logs.append({name: values[-1] for name, values in history.history.items()})
    statistics.append(model.get_weights())
  assert logs[0] == pytest.approx(logs[1], rel=1e-6)
  for one, other in zip(*statistics):
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [{"vat_radius": "neighbor", "marginals": "leave_one_out"}, {"marginals": "second_batch"}],
    ids=str,
)
def test_a_lone_image_at_the_end_is_harmless(tiny_model, digits, settings):
  """No other image to measure a distance to or to average over; nothing may become NaN."""
  model = _compiled(tiny_model(**settings))
  history = model.fit(digits[0][:33], batch_size=32, verbose=0).history
  assert np.isfinite([values[0] for values in history.values()]).all()
  assert all(np.isfinite(w).all() for w in model.get_weights())


def test_what_layers_add_to_the_loss_is_trained_on_and_logged_once(digits):
  """An L2 kernel and an activity regularizer, with the VAT passes on and off."""
  keras.utils.set_random_seed(0)
  image = keras.Input((8, 8, 1))
  x = keras.layers.Flatten()(image)
  dense = keras.layers.Dense(16, kernel_regularizer="l2", activity_regularizer="l2")
  encoder = keras.Model(image, dense(x))
  _, decoder = imae_tf.networks.mlp((8, 8, 1), decoder_units=(8,))
  x = digits[0][:32]
  expected = 0.01 * (np.sum(dense.kernel.numpy() ** 2) + np.sum(encoder(x).numpy() ** 2) / 32)
  for lam in (0.0, 5.0):
    model = _compiled(
        imae_tf.IMAE(encoder, decoder, lam=lam, beta=1.0, gamma=0.0), run_eagerly=True
    )
    t = model.evaluate(x, batch_size=32, verbose=0)
    terms = t["reconstruction_loss"] + t["kl_z"] - t["mi_y"] + lam * t.get("vat_loss", 0.0)
    np.testing.assert_allclose(t["loss"] - terms, expected, rtol=1e-3)


def test_early_stopping_and_model_checkpoint_on_logged_names(tiny_model, digits, tmp_path):
  model = _compiled(tiny_model(), learning_rate=0.0, run_eagerly=True)
  x = digits[0][:128]
  history = model.fit(
      x,
      validation_data=(x,),
      epochs=6,
      batch_size=64,
      shuffle=False,
      verbose=0,
      callbacks=[
          keras.callbacks.EarlyStopping("val_mi_y", mode="max", patience=1, min_delta=0.01),
          keras.callbacks.ModelCheckpoint(
              tmp_path / "best.keras",
              monitor="reconstruction_loss",
              mode="min",
              save_best_only=True,
          ),
      ],
  )
  assert len(history.epoch) < 6
  best = keras.models.load_model(tmp_path / "best.keras")
  np.testing.assert_array_equal(best.encode(x)["z"], best.encode(x)["z"])
  assert _json(best) == _json(model)


def test_encoder_model_in_a_functional_model(tiny_model, digits, tmp_path):
  model = tiny_model()
  image = keras.Input((8, 8, 1))
  codes = model.encoder_model()(image)
  outputs = keras.layers.Concatenate()([codes["y"], codes["z"]])
  functional = keras.Model(image, keras.layers.Dense(2)(outputs))
  functional.save(tmp_path / "f.keras")
  x = digits[0][:5]
  loaded = keras.models.load_model(tmp_path / "f.keras")
  np.testing.assert_allclose(loaded(x), functional(x), atol=1e-6)
  kernel, bias = functional.layers[-1].get_weights()
  expected = np.concatenate([model.encode(x)["y"], model.encode(x)["z"]], 1) @ kernel + bias
  np.testing.assert_allclose(functional(x), expected, atol=1e-5)


def test_xla_gives_the_same_terms(tiny_model, digits):
  """Compiled here, for Keras leaves XLA out while operations are deterministic, as in tests.

  XLA draws other noise, so the terms without noise are compared.
  """
  x = tf.constant(digits[0][:64])
  logs = []
  for compiled in (False, True):
    model = _compiled(tiny_model(vat_radius="neighbor"))
    model.optimizer.build(model.trainable_variables)
    before = model.get_weights()
    step = tf.function(model.train_step, jit_compile=True) if compiled else model.train_step
    logs.append({name: float(value) for name, value in step(x).items()})
    assert all(np.abs(a - b).max() > 0 for a, b in zip(before, model.get_weights()))
  assert np.isfinite(list(logs[1].values())).all()
  for name in ("mi_y", "entropy_y", "conditional_entropy_y"):
    assert logs[0][name] == pytest.approx(logs[1][name], abs=1e-4), name


def test_mixed_bfloat16_trains_in_float32_terms(digits):
  keras.config.set_dtype_policy("mixed_bfloat16")
  try:
    encoder, decoder = imae_tf.networks.mlp((8, 8, 1), encoder_units=(32,), decoder_units=(32,))
    model = _compiled(imae_tf.IMAE(encoder, decoder), run_eagerly=True)
  finally:
    keras.config.set_dtype_policy("float32")
  history = model.fit(digits[0][:256], epochs=3, batch_size=128, verbose=0).history
  assert history["loss"][-1] < history["loss"][0]
  assert model.encode(digits[0][:4])["z"].dtype == np.float32
  terms = model.terms(tf.constant(digits[0][:16]), 0, training=True)
  assert {value.dtype for value in terms.values()} == {tf.float32}


def test_steps_per_execution(tiny_model, digits):
  weights = []
  for steps in (1, 2):
    model = _compiled(tiny_model(), steps_per_execution=steps, run_eagerly=steps == 1)
    model.fit(digits[0][:128], batch_size=32, shuffle=False, verbose=0)
    weights.append(model.get_weights())
  for one, other in zip(*weights):
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_generate_and_decode(tiny_model):
  model = tiny_model()
  images = model.generate(6, y=2, seed=1)
  z = np.random.default_rng(1).standard_normal((6, 10))
  np.testing.assert_array_equal(images, model.decode(np.eye(10)[[2] * 6], z))
  assert images.shape == (6, 8, 8, 1) and images.min() >= 0 and images.max() <= 1
  assert np.abs(model.generate(6, seed=1) - model.generate(6, seed=2)).max() > 0
  assert model.generate(0).shape == (0, 8, 8, 1)


def test_empty_and_large_batches(tiny_model, digits):
  model = tiny_model()
  assert {k: v.shape for k, v in model.encode(digits[0][:0]).items()} == {
      "y": (0, 10), "z": (0, 10), "z_scale": (0, 10),
  }
  codes = model.encode(digits[0])  # more than one slice
  part = model.encode(digits[0][1500:1510])
  np.testing.assert_allclose(codes["z"][1500:1510], part["z"], atol=2e-6)


def test_summary_is_full_before_the_first_batch(tiny_model):
  lines = []
  model = tiny_model()
  model.summary(print_fn=lines.append)
  text = "\n".join(lines)
  assert "unbuilt" not in text and "encoder" in text and "decoder" in text
  assert f"{model.count_params():,}" in text and "?" not in text


def test_keras_positional_arguments(tiny_model, digits):
  model = _compiled(tiny_model(), run_eagerly=True)
  history = model.fit(digits[0][:64], None, 32, 2, 0).history
  assert len(history["loss"]) == 2
  assert model.evaluate(digits[0][:64], None, 32, 0).keys() == LOGGED


def test_keras_export_after_fit(tiny_model, digits, tmp_path):
  model = _compiled(tiny_model(), run_eagerly=True)
  x = digits[0][:32]
  model.fit(x, batch_size=16, verbose=0)
  model.export(tmp_path / "saved", verbose=False)
  loaded = tf.saved_model.load(str(tmp_path / "saved"))
  served = loaded.serve(x)
  np.testing.assert_allclose(served["z"], model.encode(x)["z"], atol=1e-5)


BAD_ARGUMENTS = [
    (dict(num_categories=1), "num_categories as an integer, 2 or more, got 1"),
    (dict(seed=True), "seed as an integer, 0 or more, got True"),
    (dict(latent_dim=0), "latent_dim as an integer, 1 or more, got 0"),
    (dict(beta=True), "beta as a number, 0 or more, got True"),
    (dict(beta=-1.0), "beta as a number, 0 or more, got -1.0"),
    (dict(gamma=float("nan")), "gamma as a number, 0 or more, got nan"),
    (dict(lam="5"), "lam as a number, 0 or more, got '5'"),
    (dict(likelihood="poisson"), "likelihood as 'bernoulli' or 'gaussian', got 'poisson'"),
    (dict(temperature=0.0), "temperature as a number > 0, got 0.0"),
    (dict(neighbor_fraction=0), "neighbor_fraction as a number > 0, got 0"),
    (dict(vat_radius="near"), "vat_radius as a number > 0 or 'neighbor', got 'near'"),
    (dict(marginals="all"), "marginals as 'batch', 'leave_one_out' or 'second_batch', got"),
    (dict(seed=-1), "seed as an integer, 0 or more, got -1"),
    (dict(method="betavae", beta="5"), "beta as a number, 0 or more, got '5'"),
    (dict(method="infovae", alpha=1.5), r"alpha as a number in \[0, 1\], got 1.5"),
    (dict(method="jointvae", capacity_z=-1), "capacity_z as a number, 0 or more, got -1"),
    (dict(method="jointvae", capacity_steps=0.5), "capacity_steps as an integer, 1 or more"),
]


@pytest.mark.parametrize("arguments, message", BAD_ARGUMENTS)
def test_bad_arguments(tiny_model, arguments, message):
  with pytest.raises(InputError, match=message):
    tiny_model(**arguments)


def test_networks_that_cannot_be_used():
  encoder, decoder = imae_tf.networks.mlp((8, 8, 1), encoder_units=(4,), decoder_units=(4,))

  class Subclassed(keras.Model):
    pass

  with pytest.raises(InputError, match="a functional or Sequential Keras model .* got Subclassed"):
    imae_tf.IMAE(Subclassed(), decoder)
  image = keras.Input((8, 8, 1))
  with pytest.raises(InputError, match=r"features \[B, F\] of the encoder, got \(None, 8, 8, 2\)"):
    imae_tf.IMAE(keras.Model(image, keras.layers.Conv2D(2, 1)(image)), decoder)


def test_networks_that_do_not_fit_together():
  encoder, decoder = imae_tf.networks.mlp((8, 8, 1), encoder_units=(4,), decoder_units=(4,))
  _, other = imae_tf.networks.mlp((6, 6, 1), encoder_units=(4,), decoder_units=(4,))
  with pytest.raises(InputError, match="num_categories [+] latent_dim = 15 values"):
    imae_tf.IMAE(encoder, decoder, num_categories=5)
  with pytest.raises(InputError, match="the shape of the encoder's input"):
    imae_tf.IMAE(encoder, other)


def _with(x, value):
  x = x.copy()
  x[0, 0, 0, 0] = value
  return x


BAD_IMAGES = {
    "shape": (
        lambda x: x[:, :7], r"expected images of shape \[N, 8, 8, 1\], got \[[48?], 7, 8, 1\]"
    ),
    "no channel": (lambda x: x[..., 0], "add the channel axis"),
    "range": (lambda x: x * 255, r"expected float pixels in \[0, 1\], got values from 0 to 255"),
    "negative": (lambda x: _with(x, -0.5), "got values from -0.5 to 1"),
    "nan": (lambda x: _with(x, np.nan), "got NaN or infinity in 1 of [48] images"),
    "empty": (lambda x: x[:0], "got an empty array or data set"),
}


@pytest.mark.parametrize("spoil, message", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_images(tiny_model, digits, spoil, message):
  model = _compiled(tiny_model())
  x = spoil(digits[0][:8])
  with pytest.raises(InputError, match=message):
    model.fit(x, batch_size=4)
  with pytest.raises(InputError, match=message):
    model.evaluate(x, batch_size=4)
  if len(x):
    with pytest.raises(InputError, match=message):
      model.encode(x)
    with pytest.raises(InputError, match=message):
      model.fit(tf.data.Dataset.from_tensor_slices(x).batch(4))


def test_bad_training_calls(tiny_model, digits):
  x = digits[0][:8]
  model = _compiled(tiny_model(), run_eagerly=True)
  with pytest.raises(InputError, match="batches of 2 images or more, got 1"):
    model.fit(x, batch_size=1)
  with pytest.raises(InputError, match="batches of 2 images or more, got 1"):
    model.fit(tf.data.Dataset.from_tensor_slices(x).batch(1))
  for one_image in (x[:1], tf.data.Dataset.from_tensor_slices(x[:1]).batch(4)):
    with pytest.raises(InputError, match="expected 2 images or more, got 1"):
      model.fit(x, batch_size=4, validation_data=one_image, verbose=0)
  with pytest.raises(InputError, match="expected no weights of samples"):
    model.fit(x, batch_size=4, sample_weight=np.ones(8))
  with pytest.raises(InputError, match="expected no weights of samples"):
    model.evaluate(x, x, batch_size=4, sample_weight=np.ones(8))
  with pytest.raises(InputError, match="got values from 0 to 255"):
    model.predict(x * 255, verbose=0)
  with pytest.raises(InputError, match=r"expected y of shape \[N, 10\]"):
    model.decode(np.zeros((2, 3)), np.zeros((2, 10)))
  with pytest.raises(InputError, match="an integer in 0..9, or 2 of them, got 10"):
    model.generate(2, y=10)
  model.compile(optimizer="adam", loss="mse")
  with pytest.raises(InputError, match="expected no loss in compile, got 'mse'"):
    model.fit(x, batch_size=4)
