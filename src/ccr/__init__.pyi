from ccr.loading import Run as Run
from ccr.loading import load as load
