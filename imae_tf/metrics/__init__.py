"""Figures of merit: `evaluate` gives all of them for one model, each is a function here."""

from imae_tf.metrics.clustering import ari as ari
from imae_tf.metrics.clustering import baselines as baselines
from imae_tf.metrics.clustering import clustering_accuracy as clustering_accuracy
from imae_tf.metrics.clustering import column_order as column_order
from imae_tf.metrics.clustering import confusion_matrix as confusion_matrix
from imae_tf.metrics.clustering import hungarian as hungarian
from imae_tf.metrics.clustering import MAX_BASELINE_IMAGES as MAX_BASELINE_IMAGES
from imae_tf.metrics.clustering import MAX_MIXTURE_COMPONENTS as MAX_MIXTURE_COMPONENTS
from imae_tf.metrics.clustering import MAX_WARD_IMAGES as MAX_WARD_IMAGES
from imae_tf.metrics.clustering import mi_y_label as mi_y_label
from imae_tf.metrics.clustering import nmi as nmi
from imae_tf.metrics.dataset_information import (
    independent_total_correlation as independent_total_correlation,
)
from imae_tf.metrics.dataset_information import information as information
from imae_tf.metrics.dataset_information import MAX_CODES as MAX_CODES
from imae_tf.metrics.label_free import agreement as agreement
from imae_tf.metrics.label_free import MAX_NEIGHBORS_AMONG as MAX_NEIGHBORS_AMONG
from imae_tf.metrics.label_free import nearest_images as nearest_images
from imae_tf.metrics.label_free import neighbor_information as neighbor_information
from imae_tf.metrics.label_free import neighborhood as neighborhood
from imae_tf.metrics.label_free import used_categories as used_categories
from imae_tf.metrics.measuring import active_units as active_units
from imae_tf.metrics.measuring import category_overlap as category_overlap
from imae_tf.metrics.measuring import category_traversals as category_traversals
from imae_tf.metrics.measuring import evaluate as evaluate
from imae_tf.metrics.measuring import reconstruction_floor as reconstruction_floor
