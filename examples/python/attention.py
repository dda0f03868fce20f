"""Attention on numpy arrays: exact, and over the keys that ELSA selects after one calibration.

pip install elsa-attention, then: python examples/python/attention.py
"""

import numpy as np

import elsa_attention as ea

HEADS, KEYS, D = 8, 512, 64


def rows(rng: np.random.Generator, directions: np.ndarray) -> np.ndarray:
    """Rows in a few directions, as trained models have them: then most keys do not matter."""
    chosen = directions[rng.integers(len(directions), size=(1, HEADS, KEYS))]
    return (chosen + 0.5 * rng.standard_normal(chosen.shape)).astype(np.float32)


def main() -> None:
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((16, D))
    query, key, value = (rows(rng, directions) for _ in range(3))

    exact = ea.attention(query, key, value, engine="cpu")
    plan = ea.calibrate([(0, query, key, value)], p=1)  # from a model: ea.calibrate(model, batches)
    out, stats = ea.attention(query, key, value, plan=plan, engine="cpu", return_stats=True)

    kept = ea.HeadStats.total(stats).kept_fraction
    error = np.linalg.norm(out - exact) / np.linalg.norm(exact)
    print(f"kept {kept:.1%} of the keys, relative error {error:.2e}")


if __name__ == "__main__":
    main()
