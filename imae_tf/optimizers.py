"""A faster Adam for CPUs, which the recipes use: it updates a variable with one operation."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("imae_tf")
class Adam(keras.optimizers.Adam):
  """`keras.optimizers.Adam` with the same formula and arguments, in one pass over each variable.

  Keras composes the update of ten elementwise operations. On a CPU they take a sixth of a training
  step of MNIST; TensorFlow's own operation takes a third of their time.
  """

  def update_step(
      self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor
  ) -> None:
    if self.amsgrad or isinstance(gradient, tf.IndexedSlices):
      super().update_step(gradient, variable, learning_rate)
      return
    index = self._get_variable_index(variable)
    step = tf.cast(self.iterations + 1, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=self._momentums[index].value.handle,
        v=self._velocities[index].value.handle,
        beta1_power=tf.pow(tf.cast(self.beta_1, variable.dtype), step),
        beta2_power=tf.pow(tf.cast(self.beta_2, variable.dtype), step),
        lr=tf.cast(learning_rate, variable.dtype),
        beta1=self.beta_1,
        beta2=self.beta_2,
        epsilon=self.epsilon,
        grad=tf.cast(gradient, variable.dtype),
        use_locking=True,
    )
