"""Short starts of a run: their choice without labels, their votes, and what an end leaves."""

import dataclasses
import shutil
import threading

import keras
import numpy as np
import pytest
import small_runs
import tensorflow as tf
from sklearn import metrics as sk_metrics
from sklearn.cluster import SpectralClustering
from sklearn.mixture import GaussianMixture
from small_runs import make_run

from imae_tf import networks
from imae_tf import recipes
from imae_tf._shared import files
from imae_tf.data import loading
from imae_tf.errors import DivergenceError
from imae_tf.errors import InputError
from imae_tf.errors import Preempted
from imae_tf.metrics import dataset_information
from imae_tf.metrics import label_free
from imae_tf.models import smoothness
from imae_tf.training import category_starts
from imae_tf.training import distribution
from imae_tf.training import fitting
from imae_tf.training import run_folder
from imae_tf.training import runs
from imae_tf.training import starts
from imae_tf.training import teachers

pytestmark = pytest.mark.usefixtures("no_pictures")

VOTING = dict(
    network="towers", view="signed_edges", y_units=(16,), consistency=5.0, ease_smoothing=True,
    vat_xi="neighbor", restarts=3, restart_epochs=2, restart_categories=True, restart_vote=True,
    restart_changes="beta=1,transform_size=0.5/beta=5", epochs=2,
)


@pytest.fixture(scope="module")
def images(tmp_path_factory, digits):
  return small_runs.store_images(tmp_path_factory.mktemp("images"), digits)


def assert_same_weights(one, other):
  for ours, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


# ---- settings ---------------------------------------------------------------------------------


def test_flags_of_starts_hold_beside_what_images_say(tmp_path, images, monkeypatch):
  """They are checked with the settings that are derived, and not with the paper's."""
  monkeypatch.setattr(recipes, "auto", lambda *unused: dataclasses.replace(recipes.PAPER, **VOTING))
  configs = []

  def stop(run, data):
    configs.append(run.recipe)
    raise KeyboardInterrupt

  monkeypatch.setattr(runs, "config_of", stop)
  changes = {"restarts": 5, "restart_mixtures": 2}
  run = dataclasses.replace(
      make_run(images), recipe_name="auto", recipe=dataclasses.replace(recipes.PAPER, **changes),
      changes=tuple(changes.items()),
  )
  with pytest.raises(KeyboardInterrupt):
    runs.train(run, tmp_path / "run")
  assert configs == [dataclasses.replace(recipes.PAPER, **{**VOTING, **changes})]
  wrong = dataclasses.replace(run, changes=(("restart_epochs", 0),))
  with pytest.raises(InputError, match="expected restart_epochs of 1 or more for 3 restarts"):
    runs.train(wrong, tmp_path / "run")


# ---- the best goes on -------------------------------------------------------------------------


def test_labels_are_not_read(tmp_path, digits):
  """Two starts and the choice between them, without labels and with wrong ones."""
  x, labels = digits[0][:200], digits[1][:200]
  np.savez(tmp_path / "plain.npz", x=x)
  np.savez(tmp_path / "labelled.npz", x=x, y=labels[::-1])
  plain, labelled = (
      runs.train(
          make_run(tmp_path / f"{name}.npz", epochs=1, restarts=2, restart_epochs=1),
          tmp_path / name,
      )
      for name in ("plain", "labelled")
  )
  assert_same_weights(plain, labelled)
  scores = (tmp_path / "plain/restarts/scores.json").read_text()
  assert scores == (tmp_path / "labelled/restarts/scores.json").read_text()


def test_a_diverging_start_does_not_end_the_run(tmp_path, images, monkeypatch):
  train_start = starts._train_start

  def diverge_first(session, index, *rest):
    if index == 0:
      raise DivergenceError("expected finite terms, got loss = nan at step 3.")
    train_start(session, index, *rest)

  monkeypatch.setattr(starts, "_train_start", diverge_first)
  runs.train(make_run(images, epochs=1, restarts=2, restart_epochs=1), tmp_path / "run")
  scores = files.read_json(tmp_path / "run/restarts/scores.json")
  assert scores["chosen"] == 1 and scores["scores"][0] is None


def test_starts_are_ranked_by_neighbours_among_more_images_than_are_compared(
    tmp_path, images, monkeypatch
):
  """As on MNIST, where the neighbours of 10,000 images come from 60,000."""
  monkeypatch.setattr(dataset_information, "MAX_CODES", 50)
  runs.train(make_run(images, epochs=1, restarts=2, restart_epochs=1), tmp_path / "run")
  x, neighbors = label_free.neighborhood(loading.load(str(images)), "train", seed=5)
  assert (len(x), len(neighbors)) == (160, 50)
  expected = [
      label_free.neighbor_information(
          run_folder.load_keras(
              run_folder.newest_checkpoint(tmp_path / f"run/restarts/start-{i}").path
          ).encode(x)["y"].argmax(axis=1),
          neighbors,
      )
      for i in range(2)
  ]
  scores = files.read_json(tmp_path / "run/restarts/scores.json")
  assert scores["scores"] == pytest.approx(expected, abs=1e-9)


def test_the_start_that_the_others_agree_with_goes_on(tmp_path, images):
  run = make_run(images, epochs=1, restarts=3, restart_epochs=1, restart_score="agreement")
  runs.train(run, tmp_path / "run")
  x, _ = loading.load(str(images)).arrays("train")
  categories = []
  for i in range(3):
    folder = tmp_path / f"run/restarts/start-{i}"
    model = run_folder.load_keras(run_folder.newest_checkpoint(folder).path)
    categories.append(model.encode(x)["y"].argmax(axis=1))
  pair = lambda i, j: sk_metrics.normalized_mutual_info_score(categories[i], categories[j])
  expected = [(pair(i, (i + 1) % 3) + pair(i, (i + 2) % 3)) / 2 for i in range(3)]
  scores = files.read_json(tmp_path / "run/restarts/scores.json")
  assert scores["scores"] == pytest.approx(expected, abs=1e-6)
  assert scores["chosen"] == int(np.argmax(expected))


def test_an_unknown_score_of_starts_is_refused(tmp_path, images):
  with pytest.raises(InputError, match="agreement, ratio, got 'luck'"):
    runs.train(make_run(images, restart_score="luck"), tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_restarts_need_epochs(tmp_path, images):
  with pytest.raises(InputError, match="restart_epochs of 1 or more for 2 restarts, got 0"):
    runs.train(make_run(images, restarts=2, restart_epochs=0), tmp_path / "run")
  assert not (tmp_path / "run").exists()


# ---- votes ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def voted(tmp_path_factory, images):
  """The folder of a run whose model learned the votes of three starts."""
  folder = tmp_path_factory.mktemp("voted")
  runs.train(make_run(images, **VOTING), folder)
  return folder


def test_starts_change_settings_in_turn_and_train_y_alone(voted):
  models = [
      run_folder.load_keras(voted / f"restarts/start-{i}/model.keras") for i in range(3)
  ]
  assert [model.beta for model in models] == [1.0, 5.0, 1.0]
  assert [model.transform_size for model in models] == [0.5, 1.0, 0.5]
  for model in models:
    fresh = recipes.build(
        dataclasses.replace(make_run("x", **VOTING).recipe, encoder_units=(1,),
                            decoder_units=(1,)),
        (8, 8, 1), num_categories=10, latent_dim=3, seed=0, steps_per_epoch=1,
    )
    for name in ("z_dense", "y_dense"):
      layer, as_built = (getattr(m.head, name).kernel.numpy() for m in (model, fresh))
      assert (layer.std() > 3 * as_built.std()) == (name == "y_dense")  # y's first weights are 0


def test_the_best_by_its_score_leads_the_vote(voted):
  scores = files.read_json(voted / "restarts/scores.json")
  assert len(scores["scores"]) == 3
  assert scores["chosen"] == int(np.argmax(scores["scores"]))


def test_whole_models_vote_too(tmp_path, images, digits, monkeypatch):
  """Of a network without towers; the lesson is a function of the images themselves."""
  voters, voted, votes = [], [], teachers.votes

  def bright(models, categories, reference, weights):
    voters.extend(models)
    voted.append(votes(models, categories, reference, weights)(tf.constant(digits[0][:160])))
    return lambda x: tf.one_hot(tf.where(tf.reduce_mean(x, [1, 2, 3]) > 0.3, 3, 7), 10)

  monkeypatch.setattr(teachers, "votes", bright)
  model = runs.train(
      make_run(images, restarts=3, restart_epochs=2, restart_vote=True, epochs=90), tmp_path / "run"
  )
  first = [voter.get_weights()[0] for voter in voters]
  assert len(first) == 3 and not any(np.array_equal(first[0], other) for other in first[1:])
  x = digits[0][:160]
  tables = [voter.encode(x)["y"].argmax(axis=1) for voter in voters]
  assert voted[0].shape == (160, 10) and set(np.unique(voted[0])) <= {0.0, 1.0}
  assert len({tuple(k) for k in zip(*tables)}) >= len(np.unique(voted[0], axis=0)) > 1
  taught = model.encode(x)["y"].argmax(axis=1) == np.where(x.mean(axis=(1, 2, 3)) > 0.3, 3, 7)
  assert taught.mean() > 0.9


def test_a_model_learns_its_lesson(tiny_model, digits):
  """Votes for the digit, of every second image alone, teach the others too."""
  x, labels = digits[0][:500], digits[1][:500]
  model = tiny_model(view="edges", lam=0.0, detach_y=True)
  model.category_layers.view.adapt(x)
  seen = model.category_layers.seen(x).numpy()
  known = {row.tobytes(): label for row, label in zip(seen[::2], labels[::2])}

  def of_known(rows):
    found = [known.get(row.tobytes()) for row in rows]
    return np.array([np.zeros(10) if k is None else np.eye(10)[k] for k in found], "float32")

  def targets(rows):
    return tf.ensure_shape(tf.numpy_function(of_known, [rows], tf.float32), (None, 10))

  model.lesson = smoothness.Lesson(targets, steps=1000)
  model.compile(keras.optimizers.Adam(0.01))
  model.fit(x, batch_size=100, epochs=12, verbose=0)
  found = model.encode(x)["y"].argmax(axis=1)
  assert np.mean(found[::2] == labels[::2]) > 0.95
  assert np.mean(found[1::2] == labels[1::2]) > 0.7


def test_a_voting_run_that_was_stopped_in_its_starts_ends_like_an_unbroken_one(
    tmp_path, images, voted, monkeypatch
):
  run = make_run(images, **VOTING)
  ticks = []
  with monkeypatch.context() as patch:
    patch.setattr(category_starts._Clock, "tick", lambda clock, step: ticks.append(step))
    patch.setattr(fitting.Session, "stops", lambda session: len(ticks) > 12)
    with pytest.raises(Preempted, match="the same command goes on"):
      runs.train(run, tmp_path / "run")
  done = list((tmp_path / "run/restarts").glob("*/model.keras"))
  assert 0 < len(done) < 3
  again = runs.train(run, tmp_path / "run", jobs=1)  # the unbroken one trained them side by side
  assert_same_weights(again, run_folder.load_model(voted)[0])


def test_a_run_goes_on_with_its_lesson(tmp_path, images, voted):
  """From the folder of a run that was killed in its second epoch."""
  folder = shutil.copytree(voted, tmp_path / "run")
  (folder / "model.keras").unlink()
  run_folder.checkpoints(folder)[2].unlink()
  model = runs.train(make_run(images, **VOTING), folder)
  assert_same_weights(model, run_folder.load_model(voted)[0])


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(network="mlp"), "--network=towers for restart_categories, got mlp"),
        (dict(restart_vote=False), "restart_vote with restart_categories"),
        (dict(restart_changes="luck=1"), "a setting of imae such as lam=0, got 'luck=1'"),
    ],
)
def test_settings_of_starts_that_do_not_fit_are_refused(tmp_path, images, changes, message):
  with pytest.raises(InputError, match=message):
    runs.train(make_run(images, **{**VOTING, **changes}), tmp_path / "run")
  assert not (tmp_path / "run").exists()


# ---- teachers ---------------------------------------------------------------------------------


def test_a_consensus_finds_what_no_clustering_has(rng):
  """Each merges two of six classes and splits another; the numbers are in any order."""
  truth = rng.integers(6, size=600)
  halves = rng.integers(2, size=600)
  categories = []
  for merged, into, split in [(0, 1, 2), (1, 3, 4), (2, 5, 0), (4, 3, 1), (5, 0, 3)]:
    one = np.where(truth == merged, into, truth)
    one = np.where((truth == split) & (halves == 1), merged, one)
    categories.append(rng.permutation(6)[one])
  noisy = [np.where(rng.random(600) < 0.05, rng.integers(6, size=600), one) for one in categories]
  assert max(sk_metrics.adjusted_rand_score(truth, one) for one in categories) < 0.82
  found = teachers.consensus(categories, 6)
  assert sk_metrics.adjusted_rand_score(truth, found) == 1.0
  assert sk_metrics.adjusted_rand_score(truth, teachers.consensus(noisy, 6)) > 0.9


def test_a_consensus_is_the_spectral_clustering_of_shared_categories(rng):
  """Of images joined by each category that both are in, weighted by one over its size."""
  truth = rng.integers(4, size=300)
  categories = [
      np.where(rng.random(300) < 0.4, rng.integers(4, size=300), truth) for _ in range(5)
  ]
  edges = np.concatenate([np.eye(4)[one] for one in categories], axis=1)
  joined = (edges / edges.sum(axis=0)) @ edges.T
  expected = SpectralClustering(4, affinity="precomputed", random_state=0).fit_predict(joined)
  found = teachers.consensus(categories, 4)
  assert sk_metrics.adjusted_rand_score(expected, found) > 0.95


@pytest.mark.parametrize("num_images", [3, 40])
def test_a_consensus_of_clusterings_that_use_few_categories(num_images):
  """They agree that there are two."""
  one = np.arange(num_images) % 2
  found = teachers.consensus([one, 1 - one], 5)
  assert sk_metrics.v_measure_score(one, found) > 0 and len(np.unique(found[one == 0])) == 1


def test_votes_teach_where_models_agree(tiny_model, digits):
  x = digits[0][:50]
  models = [tiny_model(view="edges", num_categories=4, seed=i) for i in range(3)]
  for i, model in enumerate(models):
    model.category_layers.view.adapt(x)
    own = [*model.encoder.get_layer("y_tower").trainable_variables, model.head.y_dense.kernel]
    for variable in own:
      variable.assign(np.random.default_rng(i).normal(size=variable.shape))
  layers = models[0].category_layers
  seen = layers.seen(x)
  categories = [m.category_layers.log_y(seen, False).numpy().argmax(axis=1) for m in models]
  reference = np.random.default_rng(0).integers(4, size=50)
  found = teachers.votes(models, categories, reference, [2, 1, 1])(seen).numpy()
  votes = np.zeros([50, 4])
  for one in [categories[0], *categories]:
    for i, a in enumerate(one):
      votes[i] += [np.mean(reference[one == a] == k) / 4 for k in range(4)]
  is_taught = votes.max(axis=1) >= 0.4
  np.testing.assert_array_equal(found[~is_taught], 0)
  np.testing.assert_array_equal(found[is_taught], np.eye(4)[votes[is_taught].argmax(axis=1)])
  assert 0 < is_taught.sum() < 50  # both kinds occur


def test_a_mixture_teaches_what_scikit_learn_predicts(tiny_model, digits):
  x = digits[0][:300]
  model = tiny_model(view="edges", num_categories=5)
  model.category_layers.view.adapt(x)
  seen = model.category_layers.seen(x)
  targets = teachers.mixture(np.asarray(seen), 5, seed=3)
  pca, fit = recipes.deriving.mixture(np.asarray(seen), 5, seed=3)
  assert isinstance(fit, GaussianMixture)
  np.testing.assert_array_equal(
      targets(seen).numpy().argmax(axis=1), fit.predict(pca.transform(np.asarray(seen)))
  )


# ---- starts of categories alone ----------------------------------------------------------------


def test_views_are_those_of_each_image_and_of_its_transforms(tiny_model, digits):
  x = digits[0][:300]  # more than a batch
  layers = tiny_model(view="edges").category_layers
  layers.view.adapt(x)
  views = category_starts.Views(x, layers, seed=4)
  np.testing.assert_allclose(views.seen, layers.seen(x), atol=1e-5)
  found = views.transformed(0.5, 2)
  assert found.shape == [2, 300, layers.seen(x[:1]).shape[1]]
  transform = networks.RandomTransform(0.5)
  for m in range(2):
    expected = layers.seen(transform(x[250:], tf.constant([4 + 250, m])))
    np.testing.assert_allclose(found[m, 250:], expected, atol=5e-3)  # they are kept in float16
  assert not np.allclose(found[0], found[1], atol=0.1)


@pytest.mark.parametrize(
    "count, features, sizes, draws, expected",
    [
        (1_000, 512, 2, 250_000, 80),  # as many as pay
        (1_000, 512, 2, 5_000, 5),  # as many as are drawn
        (1_000, 100_000, 2, 250_000, 1),  # as many as fit into memory
        (20_000, 512, 2, 250_000, 4),
        (200_000, 512, 2, 250_000, 1),  # one at least
    ],
)
def test_how_often_images_are_transformed(count, features, sizes, draws, expected):
  views = category_starts.Views.__new__(category_starts.Views)
  views.seen = np.broadcast_to(np.float32(0), (count, features))
  assert views.transforms(sizes, draws) == expected


def test_a_start_separates_clusters_and_a_collapsed_one_is_left_out(tmp_path, capsys):
  """Bars at four places are told apart; where smoothness is all that counts, nothing is."""
  rng = np.random.default_rng(0)
  x = np.zeros([400, 8, 8, 1], "float32")
  place = np.arange(400) % 4
  for i, at in enumerate(place):
    x[i, :, 2 * at] = 1.0
  x = np.clip(x + 0.1 * rng.random(x.shape), 0.0, 1.0)
  np.savez(tmp_path / "bars.npz", x=x)
  settings = dict(VOTING, restarts=2, restart_epochs=40, ease_smoothing=False, epochs=40,
                  optimizer="adam", learning_rate=2e-3, logits_stddev=3e-4, entropy_weight=4.0,
                  vat_radius="neighbor", restart_changes="lam=1/lam=3000")
  run = make_run(tmp_path / "bars.npz", batch_size=80, **settings)
  run = dataclasses.replace(run, num_categories=4)
  data = loading.load(str(tmp_path / "bars.npz"))
  session = fitting.Session(
      run, data, tmp_path / "run", distribution.Job(), lambda: False, False, None
  )
  model = fitting.new_model(run, data, run.seed)
  views, models = category_starts.trained(session, model)
  assert list(models) == [0]
  assert "Start 2 is left out: its categories have collapsed" in capsys.readouterr().out
  order = category_starts.images(session)
  places = order[:, 0, ::2, 0].argmax(axis=1)
  found = models[0].category_layers.log_y(views.seen, training=False).numpy().argmax(axis=1)
  assert sk_metrics.normalized_mutual_info_score(places, found) > 0.95


def test_the_time_is_told_once(tmp_path, capsys, monkeypatch):
  seconds = iter([10.0, 12.0])
  monkeypatch.setattr(category_starts.time, "monotonic", lambda: next(seconds))
  clock = category_starts._Clock.__new__(category_starts._Clock)
  vars(clock).update(_say=print, _rounds=4, _steps=1000, _last_steps=500, _ratio=2.0,
                     _lock=threading.Lock(), _begun=0.0)
  for step in (*range(60), *range(60)):
    clock.tick(step)
  # 20 steps took 2 s: 4 x 1,000 x 0.1 s, and 500 x 0.2 s.
  assert capsys.readouterr().out == (
      "about 7 minutes for the starts, and 2 minutes for the model that learns from them.\n"
  )
