"""Trained models as files for services that have nothing of this package: ONNX and StableHLO."""
