"""The accelerator's time once more, written from docs/reference/accelerator.md.

It shares no code and no structure with src/elsa/sim: no modules, but lists of dated events, and
every rule states which cycle it looks at. Slow and small.
"""

from __future__ import annotations


class Machine:
    """One head on one machine; run() returns (preprocess, execute, order of candidates)."""

    def __init__(self, case: dict):
        self.__dict__.update(case["machine"])
        self.l = case["latency"]
        self.case = case
        self.n, self.keys, self.exact = case["queries"], case["keys"], case["exact"]
        part = ("read", "distance", "similarity", "compare")
        self.select = sum(self.l[f"select_{name}_cycles"] for name in part)
        part = ("read", "dot", "exp", "accumulate")
        self.attend = self.l["arbiter_cycles"] + sum(self.l[f"attention_{p}_cycles"] for p in part)
        part = ("merge", "reciprocal", "multiply", "write")
        self.divide = sum(self.l[f"division_{name}_cycles"] for name in part)
        self.hash = sum(self.l[f"hash_{name}_cycles"] for name in ("read", "compute", "write"))

    def sees(self, i: int) -> int:
        return min(i + 1, self.keys) if self.case["causal"] else self.keys

    def rows(self, bank: int, i: int) -> list[int]:
        """The keys of a bank that query i sees, in row order."""
        return list(range(bank, self.sees(i), self.banks))

    def preprocess(self) -> int:
        if self.exact:
            return 0
        last = (self.keys - 1) * self.hash_cycles
        norm = self.l["hash_read_cycles"] + self.l["norm_multiply_cycles"]
        norm += self.l["norm_sqrt_cycles"] + self.l["norm_threshold_cycles"]
        mean = self.l["hash_read_cycles"] + self.l["mean_row_cycles"]
        return max(
            self.keys * self.hash_cycles + self.hash,
            last + norm,
            last + mean if self.case["mean_row"] else 0,
        )

    def run(self) -> tuple[int, int, list[int]]:
        banks, n = range(self.banks), self.n
        kept = [set(keys) for keys in self.case["kept"]]
        hashed = [] if self.exact else [0]  # cycle from which query i can be used
        hash_free = 0
        # Per bank: rows that are read and not compared yet, oldest first, as [age, query, keys];
        # queues of (query, key); scanned and attended queries; tokens on their way to the sums.
        pipe = [[] for _ in banks]
        queues = [[[] for _ in range(self.selectors_per_bank)] for _ in banks]
        to_read = [
            [
                (
                    i,
                    rows[at : at + self.selectors_per_bank],
                    at + self.selectors_per_bank >= len(rows),
                )
                for i in range(n)
                for rows in [self.rows(bank, i)]
                for at in range(0, max(1, len(rows)), self.selectors_per_bank)
            ]
            for bank in banks
        ]
        scanned, attended = [0] * self.banks, [0] * self.banks
        order = [[[] for _ in banks] for _ in range(n)]
        picked_fallback = [-1] * self.banks
        moving = [[] for _ in banks]  # ages of tokens in the attention unit, with their mark
        full = [False] * self.banks
        groups = -(-self.case["d_v"] // self.division_multipliers)
        group, divided, end, t = 0, 0, 0, 0
        while divided < n:
            # All decisions of a cycle look at its start.
            start_attended, start_full = list(attended), list(full)
            start_scanned = list(scanned)
            length = [[len(q) for q in queues[b]] for b in banks]
            usable = [i < len(hashed) and hashed[i] <= t for i in range(n)]
            # Hash unit, or reads of vectors.
            if len(hashed) < n and t >= hash_free:
                if len(hashed) - min(start_attended) < self.query_buffers:
                    hashed.append(t + (self.l["query_read_cycles"] if self.exact else self.hash))
                    hash_free = t + (1 if self.exact else self.hash_cycles)
            # Divider.
            freeing = False
            if group > 0 or all(start_full):
                group += 1
                if group == groups:
                    group, freeing, end = 0, True, t + self.divide
                    divided += 1
            for b in banks:
                tokens = moving[b]
                arrives = bool(tokens) and tokens[0][0] == self.attend - 1 and tokens[0][1]
                if arrives and start_full[b] and not freeing:
                    continue  # stands still, and nothing is picked
                if freeing:
                    full[b] = False
                if tokens and tokens[0][0] == self.attend - 1:
                    if tokens.pop(0)[1]:
                        full[b] = True
                token = self.pick(
                    b, kept, usable, start_scanned, length, queues, attended, order, picked_fallback
                )
                for one in tokens:
                    one[0] += 1
                if token is not None:
                    tokens.append([1, token])
            # Selectors: a full queue stops the bank.
            for b in banks:
                if self.exact:
                    break
                if pipe[b] and pipe[b][0][0] == self.select - 1:
                    _, i, keys, last = pipe[b][0]
                    hit = [s for s, key in enumerate(keys) if key in kept[i]]
                    if any(length[b][s] == self.queue_depth for s in hit):
                        continue
                    pipe[b].pop(0)
                    for s in hit:
                        queues[b][s].append((i, keys[s]))
                    scanned[b] += last
                for row in pipe[b]:
                    row[0] += 1
                if to_read[b] and usable[to_read[b][0][0]]:
                    i, keys, last = to_read[b].pop(0)
                    pipe[b].append([1, i, keys, last])
            t += 1
        return self.preprocess(), end, [key for i in range(n) for b in banks for key in order[i][b]]

    def pick(self, b, kept, usable, scanned, length, queues, attended, order, picked_fallback):
        """What bank b takes: None for nothing, else whether it ends its query."""
        i = attended[b]
        if i == self.n:
            return None
        if self.exact:
            if not usable[i]:
                return None
            rows = self.rows(b, i)
            if rows:
                order[i][b].append(rows[len(order[i][b])])
            last = len(order[i][b]) == len(rows)
            attended[b] += last
            return last
        everywhere = all(done > i for done in scanned)
        total = sum(1 for key in kept[i] if key < self.sees(i))
        dropped = self.sees(i) - max(1, total)
        mean_here = self.case["mean_row"] and b == self.banks - 1
        firsts = [
            (-length[b][s], s)
            for s in range(self.selectors_per_bank)
            if length[b][s] and queues[b][s][0][0] == i
        ]
        if firsts:
            s = min(firsts)[1]
            order[i][b].append(queues[b][s].pop(0)[1])
            left = sum(1 for q in queues[b] for query, _ in q if query == i)
            last = scanned[b] > i and left == 0
            if mean_here:
                last = last and everywhere and dropped == 0
        else:
            if scanned[b] <= i:
                return None
            if order[i][b] and picked_fallback[b] != i and not mean_here:
                last = True
            elif not everywhere:
                return None
            else:
                fallback = self.case["fallback"][i] if total == 0 else -1
                if fallback >= 0 and fallback % self.banks == b and picked_fallback[b] != i:
                    picked_fallback[b] = i
                    order[i][b].append(fallback)
                    last = not (mean_here and dropped > 0)
                else:
                    last = True  # the mean row, or a mark without a key
        attended[b] += last
        return last
