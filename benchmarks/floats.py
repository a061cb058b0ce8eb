"""What a float32 vector costs as JSON: orjson on the array, against rounding in NumPy and msgspec (docs/decisions/0002).

python -m benchmarks.floats
"""

import statistics
import time
from collections.abc import Callable

import msgspec
import numpy as np
import orjson

ROUNDS = 301


def shortest(x: np.ndarray) -> np.ndarray:
    """Doubles whose shortest digits are the shortest digits of these float32 values."""
    wide = x.astype(np.float64)
    exponent = np.where(wide == 0, 0, np.floor(np.log10(np.abs(np.where(wide == 0, 1, wide)))))
    out = np.zeros_like(wide)
    wrong = np.ones(x.shape, dtype=bool)
    for digits in (6, 7, 8, 9):
        scale = 10.0 ** (digits - 1 - exponent)
        out = np.where(wrong, np.rint(wide * scale) / scale, out)
        wrong = out.astype(np.float32) != x
    return out


def median_us(call: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def main() -> None:
    encode = msgspec.json.Encoder().encode
    print(f"{'numbers':>8} {'orjson, µs':>12} {'numpy + msgspec, µs':>20} {'ratio':>6}")
    for size in (384, 1024, 1536):
        vector = np.random.default_rng(size).standard_normal(size).astype(np.float32)
        vector /= np.linalg.norm(vector)
        fast = median_us(lambda v=vector: orjson.dumps(v, option=orjson.OPT_SERIALIZE_NUMPY))
        slow = median_us(lambda v=vector: encode(shortest(v).tolist()))
        print(f"{size:>8} {fast:>12.1f} {slow:>20.1f} {slow / fast:>6.1f}")


if __name__ == "__main__":
    main()
