# SPDX-License-Identifier: Apache-2.0
"""Pairwise coverings: few rows in which every two values that can stand together do so at least once.

A property has a list of values. It may hang on another property (its parent): unless that has one of the named values the
property does not exist and has the value ABSENT, which belongs to no pair. What else cannot stand together is said in twos.
"""
import random

import numpy as np

ABSENT = "-"


class Property:
    def __init__(self, name, values, parent=None, when=()):
        self.name, self.values, self.parent, self.when = name, list(values), parent, set(when)


class Covering:
    def __init__(self, properties, excluded, seed):
        """excluded: (property, value, other property, values that it cannot stand with)."""
        self.properties, self.random = properties, random.Random(seed)
        self.values = [(p.name, v) for p in properties for v in p.values + ([ABSENT] if p.parent else [])]
        self.place = {value: i for i, value in enumerate(self.values)}
        self.of = {p.name: [i for i, (name, _) in enumerate(self.values) if name == p.name] for p in properties}
        self.compatible = self.close(self.stated(excluded))
        real = np.array([value != ABSENT for _, value in self.values])
        self.wanted = np.triu(self.compatible & real[:, None] & real[None, :], 1)
        self.n_pairs = int(self.wanted.sum())

    def stated(self, excluded):
        c = np.ones((len(self.values),) * 2, bool)
        for name, places in self.of.items():
            c[np.ix_(places, places)] = np.eye(len(places), dtype=bool)

        def forbid(a, b):
            c[self.place[a], self.place[b]] = c[self.place[b], self.place[a]] = False

        for p in self.properties:
            if not p.parent:
                continue
            for i in self.of[p.parent]:
                exists = self.values[i][1] in p.when
                for j in self.of[p.name]:
                    if exists == (self.values[j][1] == ABSENT):
                        forbid(self.values[i], self.values[j])
        for name, value, other, others in excluded:
            for v in others:
                forbid((name, value), (other, v))
        return c

    def close(self, c):
        """Takes away pairs for which some property has no value left, until there are none (path consistency)."""
        while True:
            before = c.sum()
            for places in self.of.values():
                part = c[:, places].astype(np.float32)
                c &= part @ part.T > 0
            if c.sum() == before:
                return c

    def complete(self, a, b, missing):
        """A row with the values a and b that takes in many missing pairs; None where a property was left without a value."""
        row, open_values = [a, b], self.compatible[a] & self.compatible[b]
        gain = missing[a].astype(np.int32) + missing[b]
        names = [name for name in self.of if name not in (self.values[a][0], self.values[b][0])]
        self.random.shuffle(names)
        for name in names:
            left = [i for i in self.of[name] if open_values[i]]
            if not left:
                return None
            best = max(gain[i] for i in left)
            i = self.random.choice([i for i in left if gain[i] == best])
            row.append(i)
            open_values &= self.compatible[i]
            gain += missing[i]
        return row

    def rows(self, tries):
        """The covering, as a list of {property: value}; each row is the best of `tries`."""
        missing, rows = self.wanted | self.wanted.T, []
        while missing.any():
            best, most = None, 0
            pairs = np.argwhere(np.triu(missing))
            for _ in range(tries):
                row = self.complete(*pairs[self.random.randrange(len(pairs))], missing)
                covered = int(missing[np.ix_(row, row)].sum()) if row else 0
                if covered > most:
                    best, most = row, covered
            if best is None:  # none of these pairs fits into a row: search each, and fail where it is the description's fault
                a, b = pairs[0]
                best = next((row for row in (self.complete(a, b, missing) for _ in range(1000)) if row), None)
                if best is None:
                    raise AssertionError(f"no row holds {self.values[a]} and {self.values[b]}")
            missing[np.ix_(best, best)] = False
            rows.append({self.values[i][0]: self.values[i][1] for i in sorted(best)})
        return rows

    def pairs_of(self, row):
        """The wanted pairs in a row, as a bool matrix."""
        places = [self.place[item] for item in row.items()]
        pairs = np.zeros_like(self.wanted)
        pairs[np.ix_(places, places)] = True
        return pairs & self.wanted

    def check(self, rows):
        covered = np.zeros_like(self.wanted)
        for row in rows:
            covered |= self.pairs_of(row)
            places = [self.place[item] for item in row.items()]
            assert len(places) == len(self.properties) and self.compatible[np.ix_(places, places)].all()
        assert (covered == self.wanted).all(), "a pair is missing"
