"""The accelerator's values once more: whole heads in Python integers and fractions.

Written from the paper (Sec. IV) and docs/reference/number-formats.md, step by step as that page has
them, with no regard for speed. Nothing of it is shared with src/elsa/fixed.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction


def two_to(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


def round_integer(x: Fraction, mode: str) -> int:
    low = math.floor(x)
    rest = x - low
    if mode == "nearest_even":
        up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and low % 2 == 1)
        return low + up
    if mode == "nearest_up":
        return math.floor(x + Fraction(1, 2))
    if mode == "floor":
        return low
    assert mode == "toward_zero"
    return math.trunc(x)


def nearest(x) -> int:
    return round_integer(Fraction(x), "nearest_even")


def saturate(x: int, bits: int) -> int:
    return max(-(2**bits), min(2**bits - 1, x))


def exponent_of(x: Fraction) -> int:
    """The e of 2^e <= |x| < 2^(e + 1)."""
    x = abs(x)
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if two_to(e) <= x else e - 1


def round_float(x: Fraction, exponent_bits: int, fraction_bits: int, mode: str) -> Fraction:
    """Step 0: the custom floating point."""
    if x == 0:
        return x
    unit = two_to(exponent_of(x) - fraction_bits)
    y = round_integer(x / unit, mode) * unit
    bias = 2 ** (exponent_bits - 1) - 1
    if abs(y) < two_to(1 - bias):
        return Fraction(0)
    largest = (2 - two_to(-fraction_bits)) * two_to(2**exponent_bits - 1 - bias)
    return max(-largest, min(largest, y))


def significant(x: Fraction, bits: int) -> Fraction:
    """x to nearest with so many significant bits."""
    unit = two_to(exponent_of(x) - bits + 1)
    return nearest(x / unit) * unit


class Head:
    def __init__(self, job: dict):
        self.c = job["config"]
        self.plan = job["plan"]
        self.causal = job["causal"]
        self.q, self.q_shift = self.enter(job["query"][: job["queries"]])
        # The keys that at least one query sees.
        seen = [j for j, visible in enumerate(job["visible"]) if visible]
        if self.causal:
            seen = seen[: job["queries"]]
        self.k, self.k_shift = self.enter([job["key"][j] for j in seen])
        self.v, self.v_shift = self.enter([job["value"][j] for j in seen])
        f = self.c["qkv_fraction_bits"]
        # Fraction(float) is exact; the products of doubles are what the host computes.
        scale = significant(
            Fraction(job["scale"] * 1.44269504088896340736), self.c["score_constant_bits"]
        )
        self.constant = scale * two_to(-(2 * f + self.q_shift + self.k_shift))
        self.exact = self.plan["exact"] or len(self.k) < self.plan["dense_below"]
        self.norm_shift = self.choose_norm_shift()
        self.mean = self.mean_row() if self.plan["remainder"] == "mean" and self.k else None

    def sees(self, i: int) -> int:
        return min(i + 1, len(self.k)) if self.causal else len(self.k)

    # Step 1: queries, keys and values.
    def enter(self, rows):
        bits = self.c["qkv_integer_bits"] + self.c["qkv_fraction_bits"]
        fraction = self.c["qkv_fraction_bits"]

        def rounded(shift):
            unit = two_to(fraction + shift)
            mode = self.c["qkv_rounding"]
            return [[round_integer(Fraction(x) * unit, mode) for x in row] for row in rows]

        def fits(shift):
            return all(x == saturate(x, bits) for row in rounded(shift) for x in row)

        shift = 0
        if self.c["scaling"] == "power_of_two" and any(x != 0 for row in rows for x in row):
            while fits(shift):
                shift += 1
            while not fits(shift):
                shift -= 1
        return [[saturate(x, bits) for x in row] for row in rounded(shift)], shift

    # Step 2: hash.
    def hash(self, row):
        h = self.c["hash_fraction_bits"]
        stage = self.c["hash_stage_fraction_bits"]
        bits = []
        for batch in self.plan["batches"]:
            x = {p: v for p, v in zip(self.positions(len(row)), row, strict=True)}
            x = [x.get(p, 0) for p in range(self.c["d"])]
            have = self.c["qkv_fraction_bits"]
            done = 1  # rows of the factors already applied: they vary fastest
            for factor in reversed(batch["factors"]):
                rows, cols = factor["rows"], factor["cols"]
                a = [saturate(nearest(Fraction(v) * 2**h), h) for v in factor["values"]]
                outer = len(x) // (cols * done)
                x = [
                    sum(a[r * cols + j] * x[(o * cols + j) * done + i] for j in range(cols))
                    >> (have + h - stage)
                    for o in range(outer)
                    for r in range(rows)
                    for i in range(done)
                ]
                done *= rows
                have = stage
            bits += [y >= 0 for y in x[: batch["bits"]]]
        return bits

    def positions(self, d: int):
        """Where a hash of more columns takes the components of a shorter row."""
        columns = [f["cols"] for f in self.plan["batches"][0]["factors"]]
        total = math.prod(columns)
        if d == total:
            return list(range(d))

        def rank(p):
            digits = 0
            for base in reversed(columns):
                digits += p % base
                p //= base
            group = digits % columns[0]
            return group % 2, group

        return sorted(sorted(range(total), key=rank)[:d])

    # Step 3: norms.
    def root(self, square: int, shift: int):
        """sqrt(square) * 2^shift by tabulate and multiply, as an integer and without a limit."""
        if square == 0:
            return 0
        entries = self.c["sqrt_table_entries"]
        e = (square.bit_length() - 1) // 2
        m = Fraction(square, 4**e)
        start = 1 if m < 2 else 2
        width = Fraction(2 * start, entries)
        middle = start + ((m - start) // width + Fraction(1, 2)) * width
        f = self.c["sqrt_fraction_bits"]
        entry = Fraction(nearest(Fraction(2**f / math.sqrt(middle))), 2**f)
        return nearest(entry * (m + middle) / 2 * two_to(e + shift))

    def norm(self, row, norm_shift):
        square = sum(x * x for x in row)
        return self.root(square, norm_shift - self.c["qkv_fraction_bits"])

    def choose_norm_shift(self) -> int:
        largest = max((row for row in self.k), key=lambda r: sum(x * x for x in r), default=[])
        if self.c["scaling"] == "none" or not any(largest):
            return self.c["norm_fraction_bits"]
        shift = 60
        while self.norm(largest, shift) >= 2 ** self.c["norm_bits"]:
            shift -= 1
        return shift

    # Step 4: selection.
    def select(self):
        cosine_bits = self.c["cosine_fraction_bits"]
        threshold_bits = self.c["threshold_fraction_bits"]
        cosines = []
        for distance in range(self.c["k"] + 1):
            angle = math.pi / self.c["k"] * distance - self.plan["theta_bias_rad"]
            cosine = math.cos(min(max(angle, 0), math.pi))
            single = struct.unpack("f", struct.pack("f", cosine))[0]
            cosines.append(
                Fraction(saturate(nearest(Fraction(single) * 2**cosine_bits), cosine_bits))
                / 2**cosine_bits
            )
        t = Fraction(self.plan["threshold"]) * 2**threshold_bits
        t = Fraction(saturate(nearest(t), threshold_bits), 2**threshold_bits)
        most = 2 ** self.c["norm_bits"] - 1
        norms = [min(most, self.norm(row, self.norm_shift)) for row in self.k]
        key_hashes = [self.hash(row) for row in self.k]
        kept, fallback = [], []
        for i, row in enumerate(self.q):
            hashed = self.hash(row)
            n = self.sees(i)
            similarity = [
                cosines[sum(a != b for a, b in zip(hashed, key_hashes[j], strict=True))] * norms[j]
                for j in range(n)
            ]
            cut = t * max(norms[:n], default=0)
            everything = n < self.plan["dense_below"]
            kept.append([j for j in range(n) if everything or similarity[j] > cut])
            best = similarity.index(max(similarity)) if n else -1
            fallback.append(-1 if kept[-1] else best)
        return kept, fallback

    # Step 5: weights.
    def weight(self, query, key) -> Fraction:
        entries = self.c["exp_table_entries"]
        f = self.c["float_fraction_bits"]
        half_range = 2 ** (self.c["float_exponent_bits"] - 1)
        low = 2 - half_range
        high = max(
            low,
            half_range - 1 - self.c["qkv_integer_bits"] - (self.c["n"] - 1).bit_length(),
        )
        dot = sum(a * b for a, b in zip(query, key, strict=True))
        y = math.floor(dot * self.constant * entries)
        y = max(low * entries, min(high * entries + entries - 1, y))
        fraction = nearest(Fraction((2 ** ((y % entries + 0.5) / entries) - 1) * 2**f))
        return (1 + Fraction(min(fraction, 2**f - 1), 2**f)) * two_to(y // entries)

    # Step 6: sums of a bank.
    def bank(self, terms):
        """terms: (weight, row of V) in order. Returns the exponent (integers only) and the sums."""
        mode = self.c["accumulator_rounding"]
        e_bits = self.c["float_exponent_bits"]
        f_out = self.c["accumulator_fraction_bits"]
        f_sum = self.c["sum_fraction_bits"]
        unit_v = two_to(-self.c["qkv_fraction_bits"])
        width = len(self.v[0])
        if self.c["accumulator"] == "float":
            total, out = Fraction(0), [Fraction(0)] * width
            for w, row in terms:
                total = round_float(total + w, e_bits, f_sum, mode)
                out = [
                    round_float(o + w * x * unit_v, e_bits, f_out, mode)
                    for o, x in zip(out, row, strict=True)
                ]
            return None, total, out
        exponent = 2 - 2 ** (e_bits - 1)
        total, out = 0, [0] * width
        for w, row in terms:
            grow = max(0, exponent_of(w) - exponent)
            exponent += grow
            total >>= grow
            out = [o >> grow for o in out]
            relative = w * two_to(-exponent)
            total += round_integer(relative * two_to(f_sum), mode)
            out = [
                o + round_integer(relative * x * two_to(f_out), mode)
                for o, x in zip(out, row, strict=True)
            ]
        return exponent, total, out

    # Step 7: merge, reciprocal, output.
    def merge(self, banks):
        mode = self.c["accumulator_rounding"]
        e_bits = self.c["float_exponent_bits"]
        f_out = self.c["accumulator_fraction_bits"]
        f_sum = self.c["sum_fraction_bits"]
        if self.c["accumulator"] == "float":
            level = [(total, out) for _, total, out in banks]
            while len(level) > 1:
                pairs = []
                for a, b in zip(level[::2], level[1::2], strict=False):
                    total = round_float(a[0] + b[0], e_bits, f_sum, mode)
                    out = [
                        round_float(x + y, e_bits, f_out, mode)
                        for x, y in zip(a[1], b[1], strict=True)
                    ]
                    pairs.append((total, out))
                level = pairs + level[len(pairs) * 2 :]
            return level[0]
        exponent = max(e for e, _, _ in banks)
        total = sum(t >> (exponent - e) for e, t, _ in banks)
        out = [sum(o[c] >> (exponent - e) for e, _, o in banks) for c in range(len(banks[0][2]))]
        unit_v = two_to(-self.c["qkv_fraction_bits"])
        return (
            total * two_to(exponent - f_sum),
            [o * unit_v * two_to(exponent - f_out) for o in out],
        )

    def reciprocal(self, total: Fraction) -> Fraction:
        entries = self.c["reciprocal_table_entries"]
        f = self.c["reciprocal_fraction_bits"]
        e = exponent_of(total)
        index = math.floor((total * two_to(-e) - 1) * entries)
        middle = 1 + (index + Fraction(1, 2)) / entries
        if self.c["accumulator"] == "float":
            middle -= Fraction(1, 2) * two_to(-self.c["sum_fraction_bits"])
        return Fraction(nearest(2 / middle * 2**f), 2**f) * two_to(-1 - e)

    def row(self, i: int, banks_of_keys):
        query = self.q[i]
        banks = [
            [(self.weight(query, self.k[j]), self.v[j]) for j in keys] for keys in banks_of_keys
        ]
        dropped = self.sees(i) - sum(map(len, banks))
        if not self.exact and self.mean is not None and dropped > 0:
            key, value = self.mean
            weight = self.weight(query, key) * dropped
            banks[-1].append((significant(weight, self.c["float_fraction_bits"] + 1), value))
        total, out = self.merge([self.bank(terms) for terms in banks])
        reciprocal = self.reciprocal(total)
        bits = self.c["qkv_integer_bits"] + self.c["qkv_fraction_bits"]
        unit = two_to(self.c["qkv_fraction_bits"])
        mode = self.c["output_rounding"]
        return [saturate(round_integer(o * reciprocal * unit, mode), bits) for o in out]

    def mean_row(self):
        inverse = significant(Fraction(1 / len(self.k)), 9)
        bits = self.c["qkv_integer_bits"] + self.c["qkv_fraction_bits"]
        mode = self.c["qkv_rounding"]
        return [
            [
                saturate(round_integer(sum(column) * inverse, mode), bits)
                for column in zip(*m, strict=True)
            ]
            for m in (self.k, self.v)
        ]

    def ascending(self, i, kept, fallback):
        keys = range(self.sees(i)) if self.exact else sorted({*kept[i], fallback[i]} - {-1})
        banks = self.c["banks"]
        return [[j for j in keys if j % banks == b] for b in range(banks)]
