# SPDX-License-Identifier: Apache-2.0
"""Scales the weights of a random model so that it can tell right from wrong, and measures that.

Of small random weights, attention is an average over all keys and a block hardly changes its input: then a wrong mask or norm
goes unseen. Of too large ones, or of an unlucky draw, a model answers to the last bits of its weights, and int8 can say nothing.
"""
import numpy as np

import description_model

SCORE_DEVIATION, CHANGE_RATIO = 1.1, 0.55  # what is aimed at
LEAST_DEVIATION, LEAST_RATIO = 1.0, 0.5    # what must be reached
ROUNDING_STEPS = tuple(range(127, 115, -1))


class Seen(Exception):
    """What was looked for, so that the rest need not be computed."""


def look(stack, sequence, source, what, layer):
    """What a stack shows of a layer."""
    def watch(found, at, numbers):
        if (found, at) == (what, layer):
            raise Seen(numbers)

    stack.watch = watch
    try:
        stack.outputs(sequence, source)
    except Seen as seen:
        return seen.args[0]
    finally:
        stack.watch = None
    raise AssertionError(f"layer {layer} shows no {what}")


def score_deviation(scores):
    """Of each head: over the keys that a query sees, in the mean over queries that see eight or more."""
    seen = np.isfinite(scores)
    count = seen.sum(axis=-1)
    kept = np.where(seen, scores, 0.0)
    mean = kept.sum(axis=-1) / count
    variance = (np.where(seen, scores - mean[..., None], 0.0) ** 2).sum(axis=-1) / count
    return np.sqrt([variance[h][count[h] >= 8].mean() for h in range(len(scores))])


def change_ratio(change, residual):
    """What nine of ten positions reach: the norm of the change over that of the residual stream."""
    return np.quantile(np.linalg.norm(change, axis=-1) / np.linalg.norm(residual, axis=-1), 0.1)


class Watched:
    """Residuals, changes and scores of a whole run."""

    def __init__(self, model, case):
        self.seen = [{}, {}]
        for index, stack in enumerate(model.stacks):
            stack.watch = lambda what, layer, numbers, seen=self.seen[index]: seen.update({(what, layer): numbers})
        self.outputs = model.outputs(case["input"], case.get("source"))
        for stack in model.stacks:
            stack.watch = None


def least_of(seen):
    """The smallest score deviation of a head and the smallest change ratio of a sublayer, of what was seen in the stacks."""
    deviations = [score_deviation(x).min() for stack in seen for (what, _), x in stack.items() if what.endswith("scores")]
    ratios = [change_ratio(x, stack[what.replace("change", "residual"), layer])
              for stack in seen for (what, layer), x in stack.items() if what.endswith("change")]
    return min(deviations), min(ratios, default=np.inf)


@np.vectorize
def rounded(factor):
    """To three digits, so that the weights do not depend on the last bits of a machine's sums."""
    return float(f"{factor:.3g}")


def scale_weights(model, case):
    """Layer by layer, since each one's input is the output of what stands before it."""
    source = None
    for index, stack in enumerate(model.stacks):
        last = index == len(model.stacks) - 1
        sequence = case["input" if last else "source"]
        scale_stack(stack, sequence, source)
        if not last:
            source = stack.outputs(sequence)


def scale_stack(stack, sequence, source):
    tensors, at = stack.model.tensors, f"stacks.{stack.index}."

    def multiply(name, factor):
        """A matrix and its bias by one factor, or each row by its own."""
        for full in (at + name, at + name + ".bias"):
            if full in tensors:
                tensors[full] = (tensors[full].T * factor).T

    def multiply_norm(gain, bias, factor):
        one = 1.0 if stack.gain_plus_one else 0.0
        tensors[at + gain] = (tensors[at + gain] + one) * factor - one
        if at + bias in tensors:
            tensors[at + bias] = tensors[at + bias] * factor

    def scale_scores(layer, prefix, what):
        factors = rounded(SCORE_DEVIATION / score_deviation(look(stack, sequence, source, what, layer)))
        if stack.query_key_norm == "none":
            multiply(prefix + "w_query", np.repeat(factors, stack.head_dim))
        else:  # a layer's heads share their gain
            multiply_norm(prefix + "query_gain", prefix + "query_norm_bias", factors.max())

    def scale_change(layer, prefix, what, after, matrix):
        change, residual = (look(stack, sequence, source, f"{what}_{which}", layer) for which in ("change", "residual"))
        factor = rounded(CHANGE_RATIO / change_ratio(change, residual))
        if stack.norm_placement == "both":
            multiply_norm(f"{prefix}{after}_after_gain", f"{prefix}{after}_after_bias", factor)
        else:
            multiply(prefix + matrix, factor)

    value_matrix = "w_value_down" if stack.value_map == "undivided" else "w_value_up"
    for layer in range(stack.n_layers):
        at_layer = f"layers.{layer}."
        scale_scores(layer, at_layer, "scores")
        scale_change(layer, at_layer, "attention", "attention", value_matrix)
        if stack.cross_attention:
            scale_scores(layer, at_layer + "cross.", "cross_scores")
            scale_change(layer, at_layer + "cross.", "cross", "attention", value_matrix)
        scale_change(layer, at_layer, "ffn", "ffn", "w_down")
    if stack.dense:  # so that its activation is neither a line nor saturated
        multiply("dense", rounded(1.0 / look(stack, sequence, source, "dense", stack.n_layers).std()))


def int8(x, steps=127.0):
    """Rows rounded to so many steps of their largest magnitude."""
    step = np.abs(x).max(axis=-1, keepdims=True) / steps
    step = np.where(step == 0.0, 1.0, step)
    return np.round(x / step) * step


def int8_of_value(x, steps):
    """The same with steps that are powers of two, as heed keeps values."""
    step = np.abs(x).max(axis=-1, keepdims=True) / steps
    step = 2.0 ** np.ceil(np.log2(np.where(step == 0.0, 1.0, step)))
    return np.round(x / step) * step


class RoundedStack(description_model.Stack):
    """What the simplest int8 makes of a stack: matrices, what they read, tables, and queries, keys and values are rounded."""

    steps = 127
    TABLES = ("token_embedding", "token_type_embedding", "class_vectors", "position_embedding")

    def tensor(self, name):
        x = super().tensor(name)
        return int8(x, self.steps) if name in self.TABLES else x

    def product(self, x, name, bias):
        y = int8(x, self.steps) @ int8(self.matrix(name), self.steps).T
        if bias in self.biases:
            y = y + self.tensor(name + ".bias")
        if name.endswith(("w_query", "w_key", "w_value_down")):
            heads = self.n_heads if name.endswith("w_query") else self.n_kv_heads
            rounded_heads = int8_of_value if name.endswith("w_value_down") else int8
            y = rounded_heads(y.reshape(len(y), heads, -1), self.steps).reshape(y.shape)
        return y


def rounded_cosines(model, cases, least):
    """What the outputs of each position keep of their direction in rounded stacks: the cosines' mean over roundings that differ in their
    steps, since one may happen to be kind to a position that another is not. None where one of them leaves less than `least`."""
    exact = [model.outputs(case["input"], case.get("source")) for case in cases]
    found = []
    for steps in ROUNDING_STEPS:
        coarse = description_model.Model(model.description, model.tensors)
        coarse.stacks = [RoundedStack(coarse, i) for i in range(len(coarse.stacks))]
        for stack in coarse.stacks:
            stack.steps = steps
        outputs = [coarse.outputs(case["input"], case.get("source")) for case in cases]
        found.append(np.concatenate([(a * b).sum(axis=-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
                                     for a, b in zip(exact, outputs)]))
        if found[-1].min() < least:
            return None
    return np.mean(found, axis=0)
