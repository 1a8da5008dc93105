"""EulerNet (Tian et al., SIGIR 2023), with complex numbers, one token of one row at a time."""

import numpy as np

from tests.references import blocks


def layer(params, z, tokens, layer_norm):
    """`[N, d]` complex to `[M, d]`."""
    lam, theta = np.log(np.abs(z) ** 2 + 1e-8) / 2, np.angle(z)
    orders = params['orders']

    def implicit(part):
        return blocks.relu(blocks.dense(params['implicit'], part.ravel())).reshape(tokens, -1)

    explicit = []
    for m in range(tokens):
        modulus = np.exp(sum(orders[n, m] * lam[n] for n in range(len(z))) + params['log_modulus'][m])
        angle = sum(orders[n, m] * theta[n] for n in range(len(z))) + params['phase'][m]
        explicit.append(modulus * np.exp(1j * angle))
    explicit = np.array(explicit)
    real, imaginary = implicit(z.real) + explicit.real, implicit(z.imag) + explicit.imag
    if layer_norm:
        real = blocks.layer_norm(params['norm_real'], real)
        imaginary = blocks.layer_norm(params['norm_imaginary'], imaginary)
    return real + 1j * imaginary


def logits(params, stats, rows, train, *, shape, layer_norm, **_):
    found = []
    for row in rows['embedding']:
        z = params['modulus'][:, None] * np.exp(1j * row)
        for i, tokens in enumerate(shape):
            z = layer(params[f'layer_{i}'], z, tokens, layer_norm)
        w, b = params['out']['kernel'][:, 0], params['out']['bias'][0]
        found.append(w @ z.real.ravel() + w @ z.imag.ravel() + 2 * b)
    return np.array(found)
