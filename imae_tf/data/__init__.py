"""Images by name or path, as pipelines: `imae_tf.data.load`."""

from imae_tf.data.loading import canonical as canonical
from imae_tf.data.loading import input_batches as input_batches
from imae_tf.data.loading import input_files as input_files
from imae_tf.data.loading import load as load
from imae_tf.data.loading import MEMORY_LIMIT as MEMORY_LIMIT
from imae_tf.data.pipelines import ArrayData as ArrayData
from imae_tf.data.pipelines import ImageData as ImageData
from imae_tf.data.pipelines import StreamedData as StreamedData
