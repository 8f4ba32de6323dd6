"""Networks on a processor. OpenVINO is imported here alone."""

import sys

# OpenVINO tells its maker that it was imported, and what it converted, unless this is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
