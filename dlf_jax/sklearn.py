"""A classifier for scikit-learn, on data frames or arrays; the extra `sklearn`.

from dlf_jax.sklearn import CTRClassifier

cross_val_score(CTRClassifier(model='dcnv2', keys={'training.epochs': 3}), frame, clicks, scoring='roc_auc')
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.sparse

from dlf_jax.data.readers.frames import is_frame, to_arrow
from dlf_jax.errors import UserError
from dlf_jax.fit_frames import fit
from dlf_jax.models import CTRModel

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets, type_of_target
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError('dlf_jax.sklearn needs scikit-learn 1.9: pip install "dlf_jax[sklearn]"') from error

# Classes with fewer rows than this cannot be split into two parts.
_FEWEST = 10


class CTRClassifier(ClassifierMixin, BaseEstimator):
    """Binary classifier that trains any model of dlf_jax, as `dlf_jax.fit` does.

    Takes frames of pandas, polars or pyarrow with columns of any type, missing values included, and arrays.
    Its trained state is a `TrainedModel`, which is pickled by its saved bytes.

    Attributes:
      model_: the trained model.
      classes_: the two labels, the one that is a click last.
      n_features_in_: number of columns.
      feature_names_in_: names of the columns, where they were strings.
    """

    def __init__(
        self,
        model: str | type[CTRModel] = 'dlf',
        *,
        variant: str = 'full',
        categorical: Sequence[int | str] | None = None,
        validation_fraction: float = 0.1,
        keys: Mapping[str, Any] | None = None,
        config: str | os.PathLike = 'configs/table.py',
        random_state: Any = None,
    ):
        """Stores the parameters, as scikit-learn asks; they are checked when it is fitted.

        Args:
          model: name in `MODELS`, `file.py:Name`, or a subclass of `CTRModel`.
          variant: one of the model's variants.
          categorical: names or numbers of the columns that are categories, whatever their type; the others
            are numbers. None: the kinds of a frame's columns are proposed from their values, an array of
            numbers has numbers alone.
          validation_fraction: share of the rows, of each class, that choose the best step; they are not
            trained on.
          keys: values of config keys, such as `{'training.epochs': 3, 'model.hidden': (64,)}`.
          config: config file that the keys add to.
          random_state: seed of the split, the weights and the order of rows; None: the config's own.
        """
        self.model = model
        self.variant = variant
        self.categorical = categorical
        self.validation_fraction = validation_fraction
        self.keys = keys
        self.config = config
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> CTRClassifier:
        """Trains on rows.

        Args:
          X: frame or array, [rows, columns].
          y: labels of two kinds, [rows].
          sample_weight: weights of 0 or more, [rows].

        Returns:
          The classifier itself.

        Raises:
          ValueError: rows or labels that it cannot be trained on.
        """
        table = self._table(X, reset=True)
        labels = self._labels(y, table)
        columns = {'label': labels}
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, labels, dtype=np.float64, ensure_non_negative=True)
            counts = np.flatnonzero(weights)
            if len(np.unique(labels[counts])) < 2:
                raise ValueError('expected rows of both classes whose weight is above 0, found fewer')
            table = table.take(counts)
            columns = {'label': labels[counts], 'weight': weights[counts]}
        names = {name: _free_name(name, table) for name in columns}
        whole = table
        for name, values in columns.items():
            whole = whole.append_column(names[name], pa.array(values))
        seed = {} if self.random_state is None else {'seed': _seed(self.random_state)}
        train, valid = self._split(columns['label'], seed.get('seed', 0))
        try:
            self.model_ = fit(
                whole.take(train),
                valid=whole.take(valid),
                label=names['label'],
                weight=names.get('weight', ''),
                model=self.model,
                variant=self.variant,
                config=self.config,
                **{**self._kinds(X, table), **seed, **(self.keys or {})},
            )
        except UserError as error:
            raise ValueError(str(error)) from error
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of both classes, float32 [rows, 2]."""
        check_is_fitted(self)
        table = self._table(X, reset=False)
        try:
            clicks = self.model_.predict(table)
        except UserError as error:
            raise ValueError(str(error)) from error
        return np.stack([1 - clicks, clicks], axis=1)

    def predict(self, X: Any) -> np.ndarray:
        """The likelier class of each row, [rows]."""
        likelier = np.argmax(self.predict_proba(X), axis=1)
        return self.classes_[likelier]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    def _table(self, data: Any, *, reset: bool) -> pa.Table:
        """The columns by name; those of an array are called x0, x1, ..."""
        if _has_columns(data):
            validate_data(self, data, reset=reset, skip_check_array=True)
            try:
                table = to_arrow(data)
            except UserError as error:
                raise ValueError(str(error)) from error
            if not table.num_rows or not table.num_columns:
                raise ValueError(
                    f'Found a frame of {table.num_rows} sample(s) and {table.num_columns} feature(s)'
                )
            return table
        values = validate_data(self, data, reset=reset, dtype=None, ensure_all_finite='allow-nan')
        if values.dtype.kind == 'f' and np.isinf(values).any():
            raise ValueError('Input X contains infinity')
        columns = (_plain(values[:, i]) for i in range(values.shape[1]))
        return pa.table({f'x{i}': column for i, column in enumerate(columns)})

    def _labels(self, y: Any, table: pa.Table) -> np.ndarray:
        """Labels as 0 and 1, int64 [rows]; sets `classes_`."""
        if y is None:
            raise ValueError('This CTRClassifier estimator requires y to be passed, but the target y is None')
        y = column_or_1d(y, warn=True)
        if len(y) != table.num_rows:
            raise ValueError(f'X and y: expected as many labels as rows, {table.num_rows}; found {len(y)}')
        check_classification_targets(y)
        kind = type_of_target(y, input_name='y')
        if kind != 'binary':
            raise ValueError(f'Only binary classification is supported. The type of the target is {kind}.')
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f'expected labels of two classes, found one class: {self.classes_[0]!r}')
        return labels.astype(np.int64)

    def _split(self, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the rows to train on, and of those that choose the best step; all of them are both where
        a class has too few."""
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f'validation_fraction={self.validation_fraction}: expected above 0 and below 1')
        rows = np.arange(len(labels))
        if np.bincount(labels).min() < _FEWEST:
            return rows, rows
        train, valid = train_test_split(
            rows, test_size=self.validation_fraction, stratify=labels, random_state=seed
        )
        return np.sort(train), np.sort(valid)

    def _kinds(self, data: Any, table: pa.Table) -> dict[str, Any]:
        """Config keys that say which columns are categories and which numbers; {}: to be proposed."""
        names = table.column_names
        if self.categorical is None:
            if _has_columns(data) or not all(map(_is_number, table.schema.types)):
                return {}
            return {'dataset.numeric': tuple(names)}
        numbers = dict(enumerate(names))
        wanted = [self.categorical] if isinstance(self.categorical, str) else list(self.categorical)
        for one in wanted:
            if isinstance(one, bool | np.bool_) or (one not in names and one not in numbers):
                raise ValueError(f'categorical: no column {one!r}; found: {", ".join(names)}')
        chosen = {one if isinstance(one, str) else numbers[one] for one in wanted}
        return {
            'dataset.categorical': tuple(name for name in names if name in chosen),
            'dataset.numeric': tuple(name for name in names if name not in chosen),
        }


def _has_columns(data: Any) -> bool:
    """Whether data is a frame; a sparse matrix, which may be a mapping, is none."""
    return is_frame(data) and not scipy.sparse.issparse(data)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)


def _plain(values: np.ndarray) -> pa.Array:
    """A column of an array; one of objects has the type of its values, or text where those are of several."""
    if values.dtype.kind in 'fiub':
        return pa.array(values, from_pandas=True)
    try:
        return pa.array(values.tolist(), from_pandas=True)
    except pa.ArrowException:
        return pa.array([None if v is None or v != v else str(v) for v in values.tolist()])


def _free_name(name: str, table: pa.Table) -> str:
    """A name that no column has."""
    while name in table.column_names:
        name = f'{name}_'
    return name


def _seed(random_state: Any) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
