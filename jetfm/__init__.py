"""jetfm: foundation models of collider events in JAX.

`jetfm.lorentz` four-momenta and the algebra Cl(1,3); `jetfm.nn` layers; `jetfm.models` encoders and
heads; `jetfm.tasks` and `jetfm.train` what they are trained for, and how; `jetfm.data` records and
batches. Importing jetfm needs jax, flax and numpy only.
"""

from jetfm import lorentz, models, nn
from jetfm.schema import Feature, Schema, Transform
from jetfm.typing import Batch

__version__ = "0.1.0"

__all__ = ["Batch", "Feature", "Schema", "Transform", "lorentz", "models", "nn"]
