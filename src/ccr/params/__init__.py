"""params.yaml: its schema, its error messages, and the plan derived from it.

`validate` turns the raw mapping into `Params` or raises one `CcrError` that names the key path and the nearest valid
value. `plan` lists every job with its resolved settings: the only place that knows which run needs which teacher,
translation or feature file. Nothing here imports torch or a stage.
"""

from ccr.params.plan import Plan, plan
from ccr.params.presets import differences, use
from ccr.params.reading import read
from ccr.params.schema import Params
from ccr.params.validation import load, validate

__all__ = ["Params", "Plan", "differences", "load", "plan", "read", "use", "validate"]
