"""Measures of a trained model: `evaluate` computes all of them, and each is a function here.

Names load on first use (PEP 562), so that `metrics.definitions`, the names and units of the
measures, can be read without TensorFlow.
"""

import importlib
from typing import Any
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what editors and type checkers know of the names below
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

_MEMBERS = {
    "clustering": (
        "ari", "baselines", "clustering_accuracy", "column_order", "confusion_matrix",
        "hungarian", "MAX_BASELINE_IMAGES", "MAX_MIXTURE_COMPONENTS", "MAX_WARD_IMAGES",
        "mi_y_label", "nmi",
    ),
    "dataset_information": ("independent_total_correlation", "information", "MAX_CODES"),
    "label_free": (
        "agreement", "MAX_NEIGHBORS_AMONG", "nearest_images", "neighbor_information",
        "neighborhood", "used_categories",
    ),
    "measuring": (
        "active_units", "category_overlap", "category_traversals", "evaluate",
        "reconstruction_floor",
    ),
}
_HOMES = {name: module for module, names in _MEMBERS.items() for name in names}
_MODULES = (*_MEMBERS, "checks", "definitions", "disentanglement")


def __getattr__(name: str) -> Any:
  if name in _MODULES:
    return importlib.import_module(f"{__name__}.{name}")
  if name in _HOMES:
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return [*_HOMES, *_MODULES]
