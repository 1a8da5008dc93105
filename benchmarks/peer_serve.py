"""A server as one writes it with FastAPI and PyTorch; what `serve.py` measures against.

    PEER/bin/python benchmarks/peer_serve.py SPEC.json PORT MODE

A dictionary for each category, numbers less their mean over their deviation, and the model on what comes, a
request at a time. MODE is `eager`, `script` (traced, frozen and optimised for inference) or `compile`.
Imports nothing of dlf_jax.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI
from peer_torch_models import build
from pydantic import BaseModel
from torch import nn


class Rows(BaseModel):
    rows: list[dict[str, float | str | None]]


class Model(nn.Module):
    """Embeddings of categories and numbers, and a model on them."""

    def __init__(self, spec: dict):
        super().__init__()
        width = spec['shape']['embedding_size']
        self.table = nn.Embedding(spec['vocabulary'], width)
        self.numbers = nn.Parameter(torch.randn(len(spec['numbers']), width) * 0.01)
        fields = len(spec['numbers']) + len(spec['categories'])
        self.model = build(spec['model'], spec['variant'], fields, spec['shape'])

    def forward(self, ids: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        embedding = torch.cat([self.table(ids), numbers.unsqueeze(2) * self.numbers], 1)
        return torch.sigmoid(self.model(embedding))


class Encoder:
    """Rows to ids and numbers."""

    def __init__(self, spec: dict):
        self.categories, self.numbers, offset = {}, spec['numbers'], 0
        for name, values in spec['categories'].items():
            # Unknown, missing, then the values.
            known = {value: offset + 2 + i for i, value in enumerate(values)}
            self.categories[name] = (known, offset)
            offset += len(values) + 2

    def ids(self, row: dict) -> list[int]:
        found = []
        for name, (known, offset) in self.categories.items():
            value = row[name]
            found.append(offset + 1 if value is None else known.get(str(value), offset))
        return found

    def values(self, row: dict) -> list[float]:
        found = []
        for name, (mean, deviation) in self.numbers.items():
            value = row[name]
            missing = value is None or math.isnan(float(value))
            found.append(0.0 if missing else (float(value) - mean) / deviation)
        return found


def loaded(spec: dict, mode: str):
    torch.manual_seed(0)
    model = Model(spec).eval()
    example = (
        torch.zeros(10, len(spec['categories']), dtype=torch.long),
        torch.zeros(10, len(spec['numbers'])),
    )
    if mode == 'script':
        model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, example)))
    elif mode == 'compile':
        model = torch.compile(model, dynamic=True)
    with torch.inference_mode():
        for _ in range(5):
            model(*example)
    return model


def application(spec: dict, mode: str) -> FastAPI:
    model, encoder = loaded(spec, mode), Encoder(spec)
    app = FastAPI()

    @app.get('/v2/health/ready')
    def ready() -> dict:
        return {'ready': True}

    @app.post('/v1/score')
    def score(request: Rows) -> dict:
        ids = torch.tensor([encoder.ids(row) for row in request.rows])
        numbers = torch.tensor([encoder.values(row) for row in request.rows])
        with torch.inference_mode():
            return {'probabilities': model(ids, numbers).tolist()}

    return app


if __name__ == '__main__':
    file, port, mode = sys.argv[1:]
    uvicorn.run(application(json.loads(Path(file).read_text()), mode), port=int(port), log_level='warning')
