"""Pictures of fields, rollouts, errors, trainings, operators and laws; the first one imports matplotlib."""

from ._data_efficiency import DataEfficiencyDisplay
from ._field_prediction import FieldPredictionDisplay
from ._hss_matrix import HSSMatrixDisplay
from ._local_law import LocalLawDisplay
from ._operator import OperatorDisplay
from ._rollout import RolloutDisplay
from ._training_history import TrainingHistoryDisplay

__all__ = [
    "DataEfficiencyDisplay",
    "FieldPredictionDisplay",
    "HSSMatrixDisplay",
    "LocalLawDisplay",
    "OperatorDisplay",
    "RolloutDisplay",
    "TrainingHistoryDisplay",
]
