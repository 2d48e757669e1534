"""The global batch of one replica, and what a step asks of the device it runs on.

Several replicas are in integration/test_distribution.py.
"""

import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import kernels

from imae_tf import recipes
from imae_tf._shared import global_batch

# A GPU, or any device; neither says that the data, too, lie there.
_ON_A_GPU = {"GPU", "DEFAULT"}
_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}  # the last has a kernel, and waits
RECIPES = {
    "paper": (recipes.PAPER, (8, 8, 1)),
    "mnist": (recipes.TUNED["mnist"], (28, 28, 1)),
    "celeb_a": (recipes.TUNED["celeb_a"], (64, 64, 3)),
}


# ---- GlobalBatch ----------------------------------------------------------------------------


@pytest.mark.parametrize("num_images", [5, 0])
def test_the_global_batch_of_one_replica_is_its_own(rng, num_images):
  x = tf.constant(rng.random((num_images, 4, 4, 1)), tf.float32)
  batch = global_batch.GlobalBatch(x)
  assert int(batch.size) == num_images and int(batch.first_row) == 0
  assert batch.gather(x) is x and batch.own(x) is x and batch.sum(x) is x
  assert batch.one_log(x) is x


def test_under_a_strategy_of_one_replica_it_is_its_own_too(rng):
  x = tf.constant(rng.random((3, 2)), tf.float32)

  def of_replica():
    batch = global_batch.GlobalBatch(x)
    return batch.gather(x), batch.own(x), batch.sum(x), batch.size, batch.first_row

  gathered, own, total, size, first_row = tf.distribute.OneDeviceStrategy("CPU:0").run(of_replica)
  for value in (gathered, own, total):
    np.testing.assert_array_equal(value, x)
  assert (int(size), int(first_row)) == (3, 0)


# ---- the device of a step -----------------------------------------------------------------------


@pytest.fixture(scope="module", params=RECIPES)
def step(request):
  """The graph of a training step: its nodes, and the names of its functions."""
  recipe, shape = RECIPES[request.param]
  model = recipes.build(
      recipe, shape, num_categories=10, latent_dim=10, seed=0, steps_per_epoch=5
  )
  model.optimizer.build(model.trainable_variables)
  return graph_of(model.train_step, tf.TensorSpec([None, *shape]))


def graph_of(function, spec):
  graph = tf.function(function).get_concrete_function(spec).graph.as_graph_def()
  functions = graph.library.function
  nodes = [*graph.node, *(node for f in functions for node in f.node_def)]
  return types.SimpleNamespace(nodes=nodes, functions={f.signature.name for f in functions})


def only_on_host(graph):
  """Operations that call Python, or have no kernel for GPUs, or any device, of their types."""
  kinds = {
      (node.op, tuple((name, a.type) for name, a in sorted(node.attr.items()) if a.type))
      for node in graph.nodes
      if node.op not in graph.functions
  }
  return {op for op, given in kinds if op in _PYTHON or not _has_kernel(op, dict(given))}


def _has_kernel(op, given):
  return any(
      kernel.device_type in _ON_A_GPU
      and all(
          given[c.name] in c.allowed_values.list.type
          for c in kernel.constraint
          if c.name in given
      )
      for kernel in kernels.get_registered_kernels_for_op(op).kernel
  )


@pytest.mark.skipif(not tf.test.is_built_with_cuda(), reason="TensorFlow knows no GPU kernels")
def test_every_operation_of_a_step_can_run_on_a_gpu(step):
  """From TensorFlow's own registry, which needs no GPU.

  It does not show that TensorFlow puts every operation there: sizes and shapes, which many of
  these kernels read in the host's memory, stay in it. Nor does it look at the collectives of
  several replicas, or at what Keras does between steps.
  """
  assert len(step.nodes) > 1000, "that is not the whole of a step"
  assert not only_on_host(step)
  assert {node.device for node in step.nodes} == {""}, "placed by hand"


@pytest.mark.skipif(not tf.test.is_built_with_cuda(), reason="TensorFlow knows no GPU kernels")
@pytest.mark.parametrize(
    ("expected", "function"),
    [
        ("PyFunc", lambda x: tf.numpy_function(np.sin, [x], tf.float32)),
        ("EagerPyFunc", lambda x: tf.py_function(np.sin, [x], tf.float32)),
        ("AsString", lambda x: tf.function(tf.strings.as_string)(x)),
        ("MatMul", lambda x: tf.matmul(*[tf.cast(x, tf.int64)[:, None]] * 2, transpose_a=True)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_check_above_sees_what_only_the_host_has(expected, function):
  """Python; within another function; matrices of int64, those of float32 having a kernel."""
  assert only_on_host(graph_of(function, tf.TensorSpec([3]))) == {expected}


def test_a_step_has_no_text_and_no_wide_integers_but_its_count(step):
  """What is int64 belongs to the optimizer: its count of steps, read, raised and cast."""

  def ops_of(kind):
    return {n.op for n in step.nodes if any(a.type == kind for a in n.attr.values())}

  assert not ops_of(types_pb2.DT_STRING)
  assert ops_of(types_pb2.DT_INT64) <= {
      "AddV2", "AssignAddVariableOp", "AssignVariableOp", "Cast", "Const", "ReadVariableOp",
  }
