"""Codes of a retrained model in the order of an old version.

The reference for a permutation is all of them in turn; the reference for a graph is the same
model with the columns of its weights exchanged by hand.
"""

import itertools
import json

import numpy as np
import pytest
from exports import encoded
from exports import images
from exports import K1
from exports import K2
from exports import make_model
from exports import reference

from imae_tf.errors import ImaeError
from imae_tf.errors import InputError
from imae_tf.export import align
from imae_tf.export import publish
from imae_tf.export import savedmodel
from imae_tf.export import typical


def permuted(model, categories, dimensions, signs):
  """A copy that says category i for the model's categories[i], and so on, by its weights."""
  copy = make_model()
  copy.set_weights(model.get_weights())
  dimensions, signs = np.array(dimensions), np.array(signs)
  scales = K1 + dimensions
  for weight in copy.head.y_dense.weights:
    weight.assign(weight.numpy()[..., categories])
  for weight in copy.head.z_dense.weights:
    value = weight.numpy()
    means = value[..., dimensions] * signs
    weight.assign(np.concatenate([means, value[..., scales]], axis=-1))
  kernel = next(layer for layer in copy.decoder.layers if layer.weights).kernel
  rows = kernel.numpy()
  kernel.assign(np.concatenate([rows[:K2][categories], rows[K2 + dimensions] * signs[:, None]]))
  return copy


def assert_same_service(path, other):
  """All signatures of two versions answer the same."""
  ours, theirs = reference(path), reference(other)
  x = images(40, seed=5)
  codes = theirs("encode", x=x)
  png = [encoded(image[..., 0]) for image in np.rint(x[:3] * 255).astype(np.uint8)]
  random = {"y": np.eye(K2, dtype="float32")[[0, 1, 2, 4]],
            "z": np.random.default_rng(0).standard_normal((4, K1), "float32")}
  for name, inputs in (
      ("serving_default", {"x": x}),
      ("encode", {"x": x}),
      ("reconstruct", {"x": x}),
      ("decode", {"y": codes["y"], "z": codes["z"]}),
      ("decode", random),
      ("encode_image_bytes", {"image_bytes": png}),
      ("encode", {"x": x[:0]}),
  ):
    expected = theirs(name, **inputs)
    for key, value in ours(name, **inputs).items():
      np.testing.assert_allclose(value, expected[key], rtol=0, atol=1e-5, err_msg=name)


@pytest.fixture(scope="module")
def model():
  return make_model()


@pytest.fixture(scope="module")
def base(model, tmp_path_factory):
  """Version 1 is the model; 2 and 3 are permuted copies, 2 aligned to 1 and 3 to 2."""
  base = tmp_path_factory.mktemp("align")
  publish.publish(model, base)
  copies = [
      permuted(model, [3, 0, 4, 1, 2], [2, 0, 1], [1, -1, -1]),
      permuted(model, [1, 2, 0, 4, 3], [1, 0, 2], [-1, -1, 1]),
  ]
  for number, copy in enumerate(copies, start=1):
    alignment = align.to_version(copy, base, number, {"train": images(300), "test": images(90)})
    evaluation = {"mi_z_per_dimension": {"naive": [0.5, 1.5, 2.5]}, "accuracy": 0.5}
    publish.publish(copy, base, alignment=alignment, evaluation=evaluation, images=images(30))
  return base


class TestAlignedVersions:

  def test_a_permuted_copy_is_another_service(self, model, tmp_path):
    copy = permuted(model, [3, 0, 4, 1, 2], [2, 0, 1], [1, -1, -1])
    x = images(20)
    codes, others = model.encode(x), copy.encode(x)
    np.testing.assert_allclose(others["y"], codes["y"][:, [3, 0, 4, 1, 2]], atol=1e-6)
    np.testing.assert_allclose(others["z"], codes["z"][:, [2, 0, 1]] * [1, -1, -1], atol=1e-6)
    np.testing.assert_allclose(copy.reconstruct(x), model.reconstruct(x), atol=1e-5)

  def test_aligned_to_the_original_it_is_the_original_exactly(self, base):
    assert_same_service(base / "2", base / "1")

  def test_aligned_to_an_aligned_version_it_is_the_original_too(self, base):
    assert_same_service(base / "3", base / "1")

  def test_encode_decode_and_reconstruct_are_consistent(self, base):
    call, x = reference(base / "2"), images(12)
    codes = call("encode", x=x)
    decoded = call("decode", y=codes["y"], z=codes["z"])["x"]
    np.testing.assert_allclose(decoded, call("reconstruct", x=x)["x"], atol=1e-6)

  def test_what_imae_json_records(self, base):
    description = json.loads((base / "2" / savedmodel.DESCRIPTION).read_text())
    record = description["alignment"]
    assert record["version"] == 1 and record["decided_on"] == "train"
    # The inverses of what was done to the copy.
    assert record["categories"] == [1, 3, 4, 0, 2]
    assert record["dimensions"] == [1, 2, 0] and record["signs"] == [-1, -1, 1]
    np.testing.assert_allclose(record["correlation_per_dimension"], 1, atol=1e-6)
    for split, n in (("train", 300), ("test", 90)):
      agreement = record["agreement"][split]
      assert (agreement["n"], agreement["aligned"], agreement["best"]) == (n, 1.0, 1.0)
      assert agreement["before"] < 1
    assert description["evaluation"] == {
        "accuracy": 0.5, "mi_z_per_dimension": {"naive": [1.5, 2.5, 0.5]},
    }

  def test_weights_are_stored_once(self, model, base):
    size = sum(f.stat().st_size for f in (base / "2" / "variables").glob("*.data-*"))
    assert size < 4 * model.count_params() + 4096

  def test_typical_images_are_those_of_the_served_categories(self, base):
    y = reference(base / "2")("encode", x=images(30))["y"]
    with np.load(base / "2" / typical.IMAGES) as file:
      counts = file["counts"]
    expected = np.bincount(y.argmax(axis=1), minlength=K2)
    np.testing.assert_array_equal(counts, np.minimum(expected, 8))

  def test_summary_says_the_agreement_on_images_that_did_not_decide(self, base):
    description = json.loads((base / "3" / savedmodel.DESCRIPTION).read_text())
    line = align.summary(description["alignment"])
    assert "version 2: categories agree on 1.000 of 90 test images" in line


class TestMatching:

  @pytest.mark.parametrize("seed", range(20))
  def test_categories_against_all_permutations(self, seed):
    rng = np.random.default_rng(seed)
    reference = rng.dirichlet([0.2] * K2, 40)
    y = 0.5 * reference[:, rng.permutation(K2)] + 0.5 * rng.dirichlet([0.2] * K2, 40)
    found = align.match_categories(reference, y)
    assert sorted(found) == list(range(K2))
    best = max(
        align.agreement(reference, y[:, list(order)])
        for order in itertools.permutations(range(K2))
    )
    assert align.agreement(reference, y[:, found]) == best

  def test_empty_categories_go_where_their_probability_is(self):
    reference = np.array([[0.8, 0.2, 0.0], [0.8, 0.2, 0.0]])
    y = np.array([[0.0, 0.6, 0.4], [0.0, 0.6, 0.4]])  # columns 0 and 2 are never the largest
    np.testing.assert_array_equal(align.match_categories(reference, y), [1, 2, 0])

  @pytest.mark.parametrize("seed", range(20))
  def test_dimensions_against_all_permutations(self, seed):
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal((50, 4))
    z = reference[:, rng.permutation(4)] * rng.choice([-1, 1], 4) + rng.standard_normal((50, 4))
    found, correlations = align.match_dimensions(reference, z)
    table = np.corrcoef(reference, z, rowvar=False)[:4, 4:]
    best = max(
        np.abs(table[range(4), list(order)]).sum() for order in itertools.permutations(range(4))
    )
    np.testing.assert_allclose(np.abs(correlations).sum(), best)
    np.testing.assert_allclose(correlations, table[range(4), found])

  def test_constant_dimensions_correlate_with_nothing(self):
    z = np.random.default_rng(0).standard_normal((30, 3)).astype("float32")
    constant = z.copy()
    constant[:, 1] = 0.1
    found, correlations = align.match_dimensions(z, constant)
    np.testing.assert_array_equal(found, [0, 1, 2])
    np.testing.assert_allclose(correlations, [1, 0, 1], atol=1e-6)

  def test_served_and_of_model_are_inverses(self):
    alignment = align.Alignment((2, 0, 1), (1, 2, 0), (1, -1, -1))
    rng = np.random.default_rng(0)
    codes = {"y": rng.dirichlet([1] * 3, 7), "z": rng.standard_normal((7, 3)),
             "z_scale": rng.random((7, 3))}
    served = alignment.served(codes)
    assert savedmodel._named(["cat", "1", "dog"], alignment) == {
        "category_names": ["dog", "cat", "2"]  # category 1, without a name, is the third now
    }
    np.testing.assert_array_equal(served["y"], codes["y"][:, [2, 0, 1]])
    np.testing.assert_array_equal(served["z"], codes["z"][:, [1, 2, 0]] * [1, -1, -1])
    np.testing.assert_array_equal(served["z_scale"], codes["z_scale"][:, [1, 2, 0]])
    y, z = alignment.of_model(served["y"], served["z"])
    np.testing.assert_array_equal(y, codes["y"])
    np.testing.assert_array_equal(z, codes["z"])


class TestErrors:

  def test_no_such_version(self, model, base, tmp_path):
    with pytest.raises(InputError, match="expected version 9 in .*, got 1, 2, 3; name one"):
      align.to_version(model, base, 9, {"train": images(4)})
    with pytest.raises(InputError, match="expected version 1 in .*, got none"):
      align.to_version(model, tmp_path / "missing", 1, {"train": images(4)})

  def test_a_damaged_version(self, model, tmp_path):
    (tmp_path / "1").mkdir()
    with pytest.raises(InputError, match="expected a whole SavedModel in .*1, got a damaged"):
      align.to_version(model, tmp_path, 1, {"train": images(4)})

  def test_images_of_another_shape(self, base):
    other = make_model(image_shape=(4, 4, 1))
    with pytest.raises(InputError, match=r"images of shape \[4, 4, 1\] .* 1 for \[8, 8, 1\]"):
      align.to_version(other, base, 1, {"train": np.zeros((4, 4, 4, 1), "float32")})

  @pytest.mark.parametrize("name,sizes", [("num_categories", (4, K1)), ("latent_dim", (K2, 7))])
  def test_another_number_of_codes(self, base, name, sizes):
    import imae_tf

    encoder, decoder = imae_tf.networks.mlp((8, 8, 1), *sizes, (4,), (4,))
    other = imae_tf.IMAE(encoder, decoder, *sizes)
    with pytest.raises(InputError, match=f"a version with {name} .* or train with --{name}="):
      align.to_version(other, base, 1, {"train": images(4)})

  def test_codes_that_are_not_finite(self, base):
    damaged = make_model()
    damaged.set_weights([np.full_like(w, np.nan) for w in damaged.get_weights()])
    with pytest.raises(ImaeError, match="expected finite codes to align, got NaN"):
      align.to_version(damaged, base, 1, {"train": images(8)})

  def test_no_images(self, model, base):
    with pytest.raises(InputError, match="expected images to align with, got none"):
      align.to_version(model, base, 1, {"train": images(0)})
