"""
The models that a sweep yields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nbgrid.kmeans import _estimator
from nbgrid.kmeans._typing import Floats, Labels

if TYPE_CHECKING:
    from nbgrid.kmeans._fits import Fit


class KMeans(_estimator.KMeans):
    """
    A fitted `KMeans` whose labels are computed from the sweep's data when they are first asked for, and kept.

    The labels of twenty fits would take more memory than two features do. It has its parent's name, since scikit-learn
    names columns by it; its copies, clones and pickles are its parent's instances, and hold no data.
    """

    @classmethod
    def of(cls, fit: Fit, rows: Floats, parameters: dict[str, Any], features: dict[str, Any]) -> KMeans:
        """Return the model of *fit* on *rows*; *features* are the attributes that tell of the rows' columns."""
        model = cls(**{**parameters, "n_clusters": len(fit.centers)})
        model.__dict__.update(features)
        model.cluster_centers_, model.inertia_ = fit.centers, fit.inertia
        model.n_iter_, model.converged_ = fit.n_iter, fit.converged
        model.msd_ = fit.inertia / float(fit.weights.sum())
        model._shift = fit.shift
        model._n_features_out = len(fit.centers)
        model._swept = rows
        return model

    @property
    def labels_(self) -> Labels:
        """The label of each row, (n,), int32: what `predict` says of the data as it is when they are first read."""
        if "_labels" not in self.__dict__:
            if "_swept" not in self.__dict__:
                raise AttributeError("this KMeans is not fitted, so it has no labels_")
            self.labels_ = labels(self._swept, self.cluster_centers_, self._shift)
        return self._labels

    @labels_.setter
    def labels_(self, labels: Labels) -> None:
        self._labels = labels
        self.__dict__.pop("_swept", None)

    def __reduce__(self) -> Any:
        """Become an instance of the parent, with labels and without data, when pickled or copied."""
        state = {name: value for name, value in self.__dict__.items() if name not in {"_labels", "_swept"}}
        return _estimator.KMeans, (), {**state, "labels_": self.labels_}

    def __sklearn_clone__(self) -> _estimator.KMeans:
        """Return an unfitted model of the parent's class."""
        return _estimator.KMeans(**self.get_params(deep=False))


def labels(rows: Floats, centers: Floats, shift: Any) -> Labels:
    """Return the label of each of *rows* as `KMeans.predict` would."""
    from nbgrid.kmeans._data import measure
    from nbgrid.kmeans._iterate import Passes
    from nbgrid.kmeans._threads import Workers

    wide = rows.astype(np.result_type(rows, centers), copy=False)
    with Workers() as workers:
        data = measure(wide, np.empty(0), workers, origin=shift)
        return Passes(data=data, shift=shift, n_clusters=len(centers), workers=workers).assign(centers)[0]
