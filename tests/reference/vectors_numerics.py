# SPDX-License-Identifier: Apache-2.0
"""The vectors of SPEC.md's part 2, for spec_vectors.py."""
import numpy as np

import spec_reference
import spec_text
from spec_image import Matrix
from spec_reference import F, Activation, Block
from vector_text import Wrong, crc_of, floats, found, given, hexes, random_floats

def section_2_1():
    def snap(m, x):
        return {"snap": (m or spec_reference).snap(x).astype(F)}

    def limit(m, x):
        return {"limit": F((m or spec_reference).limit(F(x[0])))}

    def rounded(m, x):
        return {"round": np.floor(x + F(0.5)).astype(np.int64) if m else np.rint(x).astype(np.int64)}

    def multiply_add(m, a, b, c):
        if m:
            return {"a*b+c": F(np.float64(a[0]) * np.float64(b[0]) + np.float64(c[0]))}
        return {"a*b+c": a * b + c}

    class Half:
        what, broken = "half way rounded up", True

    class Fused:
        what, broken = "fused", True

    keeps_sign = Wrong("the sign kept", "np.where(np.abs(x) < power(-40), F(0), x)",
                       "np.where(np.abs(x) < power(-40), x * F(0), x)")
    smallest = Wrong("2^-40 itself dropped", "np.where(np.abs(x) < power(-40), F(0), x)",
                     "np.where(np.abs(x) <= power(-40), F(0), x)")
    no_limit = Wrong("no limit", "    return power(40) if x > power(40) else x\n", "    return x\n")
    small = Wrong("2^-40 in the place of 2^-50", "    if x < power(-50):", "    if x < power(-40):")
    return [
        given("round", {"x": floats(0.5, 1.5, 2.5, -0.5, -2.5, 32766.5)}, rounded, Half),
        given("multiply_add", {"a": hexes("3f800800"), "b": hexes("3f800800"), "c": floats(-1)}, multiply_add, Fused),
        given("snap", {"x": hexes("2b800000", "2b7fffff", "ab800000", "ab7fffff", "80000000")}, snap, keeps_sign,
              smallest),
        given("limit", {"x": hexes("53800001")}, limit, no_limit),
        given("limit", {"x": hexes("26800000")}, limit, small),
        given("limit", {"x": hexes("267fffff")}, limit),
    ]


def block_fields(block):
    return {"e": block.e, "M": block.M, "s": block.s}


def section_2_2():
    def compute(m, x):
        block = (m or spec_reference).block_float(x)
        return block_fields(block) if block.M else {"zero": 1}

    cut = Wrong("cut off instead of rounded", "np.rint(np.clip(x * power(15 - e)", "np.trunc(np.clip(x * power(15 - e)")
    away = Wrong("half way rounded away from zero", "np.rint(np.clip(x * power(15 - e), F(-32767), F(32767)))",
                 "np.floor(np.clip(x * power(15 - e), F(-32767), F(32767)) + F(0.5))")
    one_less = Wrong("2^e >= peak", "int(np.frexp(m)[1])", "int(np.frexp(m)[1]) - (np.frexp(m)[0] == 0.5)")
    unclamped = Wrong("e not at most 41", "41 if m > power(40) else int(np.frexp(m)[1])", "int(np.frexp(m)[1])")
    return [
        given("block_float", {"x": floats(1, -0.75, 2 / 3, 2.5 / 16384, 0)}, compute, cut, away, one_less),
        given("block_float", {"x": hexes("3f7fffff", "7fc00000", "bf000000")}, compute),
        given("block_float", {"x": hexes("55000000", "d4000000", "53800000", "40000000")}, compute, unclamped),
        given("block_float", {"x": hexes("2b7fffff", "00000001", "7fc00000")}, compute),
    ]


def activation_fields(activation, group):
    fields = {"q": activation.q, "scale": F(activation.scale)}
    if group:
        fields["p"] = activation.p[::group]
    return fields


def section_2_3():
    def compute(m, x, group):
        m = m or spec_reference
        return activation_fields(m.quantise(m.block_float(x), group), group)

    def make(random):
        return {"x": random_floats(random, 6, -1, 1), "group": 0}

    plain = [
        Wrong("recip without floor(M / 2)", "(127 * 2 ** 22 + M // 2) // M", "(127 * 2 ** 22) // M"),
        Wrong("float(M) / 127", "to_float(M) * INV127", "to_float(M) / F(127)"),
        Wrong("s * 127 / M, rounded", "return Activation((s * recip + 2 ** 21) >> 22,",
              "return Activation((2 * s * 127 + M) // (2 * M),"),
        Wrong("shifted without rounding", "return Activation((s * recip + 2 ** 21) >> 22,",
              "return Activation((s * recip) >> 22,"),
    ]
    strict = Wrong("M_g * 2^(3-p) < M", "M_g << (3 - p) <= M", "M_g << (3 - p) < M")
    no_eighth = Wrong("no factor 1/8", "p, scale * F(0.125))", "p, scale)")
    one_p = Wrong("rounded as without groups", "(1 << (18 + p))) >> (19 + p)", "(1 << 21)) >> (19 + p)")
    # Groups of 32 with the largest elements 20000, 2500 (exactly an eighth), 2501 and 7.
    x = np.zeros(110, np.int64)
    x[:3], x[32:35], x[64:67], x[96:99] = (20000, -19999, 157), (-2500, 1234, 79), (2501, -2500, 157), (7, -3, 1)
    return [
        found("quantise", make, compute, plain),
        given("quantise", {"x": (x * 2.0 ** -13).astype(F), "group": 32}, compute, strict, no_eighth, one_p),
    ]


EPSILON = F(1e-5)


def section_2_4():
    def rms(m, x, gain, epsilon, group):
        m = m or spec_reference
        return activation_fields(m.rms_norm(x, gain if len(gain) else None, epsilon[0], group), group)

    def layer(m, x, gain, bias, epsilon, group):
        m = m or spec_reference
        return activation_fields(m.layer_norm(x, gain if len(gain) else None, bias if len(bias) else None, epsilon[0],
                                              group),
                                 group)

    def as_floats(m, kind, x, gain, bias, epsilon):
        return {"y": (m or spec_reference).normed(kind == "layer", x, gain if len(gain) else None,
                                                  bias if len(bias) else None, epsilon[0])}

    none = np.zeros(0, F)
    mean = "mean = ((a.scale * a.scale) * to_float((a.q * a.q).sum())) * (F(1) / to_float(len(a.q)))"
    wrongs = [
        Wrong("the sum divided by n", mean,
              "mean = ((a.scale * a.scale) * to_float((a.q * a.q).sum())) / to_float(len(a.q))"),
        Wrong("scale * (scale * sum)", mean,
              "mean = (a.scale * (a.scale * to_float((a.q * a.q).sum()))) * (F(1) / to_float(len(a.q)))"),
        Wrong("scale / sqrt(...)",
              "return scaled(quantise(block if gain is None else block_float(x * gain), group), factor)",
              "a = quantise(block, group); a.scale = limit(a.scale / np.sqrt(((s := quantise(block)).scale * s.scale * "
              "to_float((s.q * s.q).sum())) * (F(1) / to_float(len(x))) + epsilon)); return a"),
    ]
    gain_first = Wrong("the mean square behind the gain",
                       "factor = norm_factor(quantise(block), epsilon)\n    return scaled(quantise(block if gain",
                       "factor = norm_factor(quantise(block_float(x * gain)), epsilon)\n"
                       "    return scaled(quantise(block if gain")
    grouped_square = Wrong("the mean square with groups",
                           "factor = norm_factor(quantise(block), epsilon)\n    return scaled(quantise(block if gain",
                           "factor = norm_factor(quantise(block, group), epsilon)\n"
                           "    return scaled(quantise(block if gain")
    no_limit = Wrong("no limit", "    if x < power(-50):\n", "    if x < F(0):\n")
    truncated = Wrong("the mean rounded toward zero", "(2 * int(block.s.sum()) + n) // (2 * n)",
                      "int(block.s.sum() / n)")
    unrounded = Wrong("the mean rounded down", "(2 * int(block.s.sum()) + n) // (2 * n)", "int(block.s.sum()) // n")
    not_shifted = Wrong("L left out of the exponent", "block = Block(c, block.e - L, M)",
                        "block = Block(c, block.e, M)")
    other_order = Wrong("bias and gain in the other order",
                        "    if gain is not None:\n"
                        "        y = y * gain\n"
                        "    if bias is not None:\n"
                        "        y = y + bias\n",
                       "    if bias is not None:\n"
                       "        y = y + bias\n"
                       "    if gain is not None:\n"
                       "        y = y * gain\n")
    cut = Wrong("c_i cut toward zero", "if L >= 0 else (s >> -L, M >> -L, L)",
                "if L >= 0 else (np.sign(s) * (np.abs(s) >> -L), M >> -L, L)")
    no_bias = Wrong("zero, the bias left out", "return zero_activation(len(x)) if bias is None else",
                    "return zero_activation(len(x)) if True else")

    rms_floats = "    return snap(y if gain is None else y * gain)"
    early_gain = Wrong("(x_i * gain_i) * factor", "    y = x * norm_factor(quantise(block), epsilon)\n" + rms_floats,
                       "    factor = norm_factor(quantise(block), epsilon)\n"
                       "    return snap(x * factor if gain is None else (x * gain) * factor)")
    rounded = Wrong("the block float's values for x_i", "    y = x * norm_factor(quantise(block), epsilon)\n",
                    "    y = to_float(block.s) * power(block.e - 15) * norm_factor(quantise(block), epsilon)\n")
    no_snap = Wrong("no snap", rms_floats, "    return y if gain is None else y * gain")
    no_centre = Wrong("the mean not taken from x", "    c = block.s - (2 * int(block.s.sum()) + n) // (2 * n)",
                      "    c = block.s - 0 * n")

    def make_normed(random):
        return {"kind": "rms", "x": random_floats(random, 5) / F(3), "gain": random_floats(random, 5, -1, 0), "bias": none,
                "epsilon": floats(EPSILON)}

    def make_normed_layer(random):
        return dict(make_normed(random), kind="layer", bias=random_floats(random, 5, -3, -1))

    def make_rms(random):
        return {"x": random_floats(random, 7), "gain": none, "epsilon": floats(EPSILON), "group": 0}

    def make_gain(random):
        return {"x": random_floats(random, 5), "gain": random_floats(random, 5, -1, 0), "epsilon": floats(EPSILON),
                "group": 0}

    def make_group(random):
        x = np.zeros(70, F)
        x[:3], x[32:35], x[64:67] = random_floats(random, 3), random_floats(random, 3, -5, -4), random_floats(random, 3,
                                                                                                              -9, -8)
        return {"x": x, "gain": none, "epsilon": floats(EPSILON), "group": 32}

    def make_layer(random):
        return {"x": (random_floats(random, 6) + F(random.integer(-40, 40) / 4)).astype(F), "gain": none, "bias": none,
                "epsilon": floats(EPSILON), "group": 0}

    def make_wide(random):
        """One element far from all others: its distance from the mean has 16 bits."""
        x = (-random_floats(random, 7, -9, -8) - F(0.99)).astype(F)
        x[2] = 0.99
        return dict(make_layer(random), x=x)

    def make_whole(random):
        return dict(make_layer(random), gain=random_floats(random, 6, -1, 0), bias=random_floats(random, 6, -3, -1))

    return [
        found("rms_norm", make_rms, rms, wrongs),
        found("rms_norm", make_gain, rms, [gain_first]),
        found("rms_norm", make_group, rms, [grouped_square]),
        given("rms_norm", {"x": floats(2.0 ** 20, -1), "gain": floats(0, 2.0 ** -30), "epsilon": floats(EPSILON),
                           "group": 0}, rms, no_limit),
        given("rms_norm", {"x": floats(0, 2.0 ** -41), "gain": none, "epsilon": floats(EPSILON), "group": 0}, rms),
        found("layer_norm", make_layer, layer, [truncated, unrounded, not_shifted]),
        found("layer_norm", make_wide, layer, [cut]),
        found("layer_norm", make_whole, layer, [other_order, not_shifted]),
        given("layer_norm", {"x": floats(3, 3, 3), "gain": none, "bias": floats(0.5, -0.25, 0.125),
                             "epsilon": floats(EPSILON),
                             "group": 0}, layer, no_bias),
        found("normed", make_normed, as_floats, [early_gain, rounded]),
        given("normed", {"kind": "rms", "x": floats(2.0 ** 20, -2.0 ** -22), "gain": none, "bias": none,
                         "epsilon": floats(EPSILON)}, as_floats, no_snap),
        found("normed", make_normed_layer, as_floats, [other_order, not_shifted, no_centre]),
        given("normed", {"kind": "layer", "x": floats(3, 3, 3), "gain": none, "bias": floats(0.5, -0.25, 2.0 ** -45),
                         "epsilon": floats(EPSILON)}, as_floats),
    ]


ACTIVATIONS = ["relu", "gelu_tanh", "gelu_erf", "silu", "gelu_quick", "tanh", "none"]


def section_2_5():
    def compute(m, function, gate, up, group):
        m = m or spec_reference
        h = m.gated(gate, up if len(up) else None, ACTIVATIONS.index(function), group)
        return activation_fields(h, group)

    def table(m, function):
        S = (m or spec_reference).FACTOR[ACTIVATIONS.index(function)]
        return {"S[0]": S[0], "S[1]": S[1], "S[256]": S[256], "crc": crc_of(S)}

    def as_floats(m, function, x):
        return {"y": (m or spec_reference).activated(x, ACTIVATIONS.index(function))}

    factor = "f = S[j] + (((S[j + 1] - S[j]) * part + 128) >> 8)"
    wrongs = [
        Wrong("f = -f for a negative a_i", "np.where(a.s < 0, 32767 - f, f)", "np.where(a.s < 0, -f, f)"),
        Wrong("no rounding between S[j] and S[j+1]", factor, factor.replace(" + 128", "")),
        Wrong("h_i without + 2^14", "(a.s * f + 2 ** 14) >> 15", "(a.s * f) >> 15"),
        Wrong("h_i >> -L rounded", "return (s << L, M << L, L) if L >= 0 else (s >> -L, M >> -L, L)",
              "return (s << L, M << L, L) if L >= 0 else ((s + (1 << (-L - 1))) >> -L, M >> -L, L)"),
    ]
    beyond = Wrong("p = 4 for -M - 1", "M_g << (3 - p) <= M), 3)", "M_g << (3 - p) <= M), 4)")
    sixteen = Wrong("|-32768| in 16 bits", "M_g = int(np.abs(s[first:first + group]).max())",
                    "M_g = int(np.abs(s[first:first + group].astype(np.int16)).max())")
    no_limit = Wrong("no limit", "    return power(40) if x > power(40) else x\n", "    return x\n")
    before = Wrong("limit before the factor 1/8",
                   "return Activation((s * recip + (1 << (18 + p))) >> (19 + p), p, scale * F(0.125))",
                   "return Activation((s * recip + (1 << (18 + p))) >> (19 + p), p, limit(scale) * F(0.125))")
    table_end = Wrong("level not at most 65535", "level = np.minimum(level, 65535)", "level = level & 65535")
    one_less = Wrong("2^(e - 16)", "to_float(times_factor(a, activation)) * power(a.e - 15)",
                     "to_float(times_factor(a, activation)) * power(a.e - 16)")
    even = Wrong("f for a negative a_i", "return to_float(np.where(a.s < 0, -f, f)) * power(-15)",
                 "return to_float(f) * power(-15)")
    half = Wrong("S of a factor, 32767 (1 + tanh(z)) / 2", "         si.TANH: math.tanh}",
                 "         si.TANH: lambda a: (1 + math.tanh(a)) / 2}")
    as_it_is = Wrong("a block float", "    if activation == si.NONE:\n        return x\n    a = block_float(x)\n",
                     "    a = block_float(x)\n    if activation == si.NONE:\n"
                     "        return to_float(a.s) * power(a.e - 15)\n")
    none = np.zeros(0, F)

    def make(random):
        return {"function": "silu", "gate": random_floats(random, 5, -2, 1), "up": random_floats(random, 5, -2, 1),
                "group": 0}

    # The largest h_i is 16385 * -32766, a little more than -2^29: M = 32767, and s_i = -32768.
    gate, up = np.zeros(40, F), np.ones(40, F)
    gate[:2], gate[33] = floats(16386 / 32768, 0.375), 0.09375
    up[0] = F(-32766 / 32768)
    up[1:] = F(0.5)

    vectors = [given("factor_table", {"function": name}, table) for name in ACTIVATIONS[:6]]
    vectors += [
        found("activation", make, compute, wrongs),
        given("activation", {"function": "gelu_tanh", "gate": floats(0.5, -0.5, 2.75, -3, 0), "up": none, "group": 0},
              compute),
        given("activation", {"function": "gelu_erf", "gate": floats(20, -17, 1.5, -1.5), "up": none, "group": 0},
              compute,
              table_end),
        given("activation", {"function": "relu", "gate": gate, "up": up, "group": 32}, compute, beyond, sixteen),
        given("activation", {"function": "relu", "gate": floats(2.0 ** 39, 2.0 ** 37), "up": floats(2.0 ** 20, 3),
                             "group": 0},
              compute, no_limit),
        given("activation", {"function": "relu", "gate": floats(2.0 ** 39), "up": floats(2.0 ** 11), "group": 32},
              compute,
              before),
        given("activation", {"function": "silu", "gate": floats(-16, -100), "up": floats(1, 1), "group": 0}, compute),
        given("activated", {"function": "gelu_erf", "x": floats(0.75, -0.3, 5, -20, 0)}, as_floats, one_less,
              wrongs[0]),
        given("activated", {"function": "gelu_quick", "x": floats(0.75, -0.3, 2.5)}, as_floats),
        given("activated", {"function": "relu", "x": floats(0.75, -0.3)}, as_floats),
        given("activated", {"function": "tanh", "x": floats(0.75, -0.3, 5, -20, 0)}, as_floats, even, half),
        given("activated", {"function": "none", "x": floats(0.1, -100, 2.0 ** -60)}, as_floats, as_it_is),
        given("activated", {"function": "tanh", "x": floats(2.0 ** -41, 0)}, as_floats),
    ]
    return vectors


def section_2_6():
    T = spec_reference.T
    half = Wrong("T[i] rounded down", "& 15] + 2 ** 14) >> 15", "& 15]) >> 15")

    def table(m):
        T = (m or spec_reference).T
        return {"T[0]": T[0], "T[17]": T[17], "T[255]": T[255], "crc": crc_of(T)}

    return [given("power_table", {}, table, half)]


def section_2_7():
    def table(m):
        W = (m or spec_reference).SINE[:129]
        return {"W[1]": W[1], "W[127]": W[127], "W[128]": W[128], "crc": crc_of(W)}

    def sine(m, phase):
        m = m or spec_reference
        phase = int(phase[0], 16) if isinstance(phase, list) else int(phase, 16)
        return {"sine": m.sine(np.int64(phase)), "cosine": m.sine(np.int64(phase + 2 ** 30))}

    def turned(m, x, phases, position, pairing):
        block = m.block_float(x)
        if not len(phases):
            return block, block.M == 0
        return (m.rotate(block, np.asarray(phases, np.int64) * position, 1 if pairing == "halves" else 0)
                if block.M or m.TURNS_ZERO else Block(block.s, -39)), block.M == 0

    def query(m, x, phases, position, pairing):
        m = m or spec_reference
        block, _ = turned(m, x, phases, position, pairing)
        return activation_fields(m.quantise(m.normalise(block)), 0)

    def key(m, x, phases, position, pairing, offset, offset_e):
        m = m or spec_reference
        block, was_zero = turned(m, x, phases, position, pairing)
        if len(offset):
            block = m.subtract_offset(block, was_zero, np.asarray(offset), int(offset_e))
        q, mantissa, ek = m.make_key(m.normalise(block))
        return {"q": q, "m": mantissa, "ek": ek}

    def value(m, x):
        m = m or spec_reference
        q, ev = m.make_value(m.block_float(x))
        return {"q": q, "ev": ev}

    def seen(m, position, n, mask, window):
        first, last = (m or spec_reference).first_and_last(position, n, mask == "causal", window)
        return {"first": first, "last": last - 1}

    def alibi(m, slope, distances):
        return {"bias": np.array([(m or spec_reference).alibi_bias(slope, int(d)) for d in distances], np.int64)}

    def column(m, mask, n_distances, ahead):
        m = m or spec_reference
        return {"column": np.array([m.relative_column(int(a), n_distances, mask == "causal") for a in ahead], np.int64)}

    one_more = Wrong("|p - j| <= window", "        first, last = max(0, position - window + 1), min(last, position + window)",
                     "        first, last = max(0, position - window), min(last, position + window + 1)")
    back_only = Wrong("a window of what stands before",
                      "        first, last = max(0, position - window + 1), min(last, position + window)",
                      "        first = max(0, position - window + 1)")
    uneven = Wrong("no 2^11", "(slope * distance + 2 ** 11) >> 12", "(slope * distance) >> 12")
    endless = Wrong("not limited", "-min((slope * distance + 2 ** 11) >> 12, 2 ** 23)", "-((slope * distance + 2 ** 11) >> 12)")
    looking_back = Wrong("j - p for p - j", "    return max(-half, min(ahead, half)) + half",
                         "    return max(-half, min(-ahead, half)) + half")
    spec_reference.TURNS_ZERO = False
    quadrant = Wrong("the phase cut off behind the table's 7 bits", "(u >> 11) & 4095", "0 * u")
    unrounded = Wrong("no rounding", "out[first] = (x * c - y * s + 2 ** 15) >> 16",
                      "out[first] = (x * c - y * s) >> 16")
    other_way = Wrong("turned the other way", "out[first] = (x * c - y * s + 2 ** 15) >> 16",
                      "out[first] = (x * c + y * s + 2 ** 15) >> 16")
    exponent = Wrong("the exponent does not grow", "return Block(out, block.e + 1)", "return Block(out, block.e)")
    rest = Wrong("elements behind rotary_dims not halved", "out = (block.s + 1) >> 1", "out = block.s + 0")
    one_mantissa = Wrong("the first mantissa only", "    if m > 255:\n", "    if m > 999:\n")
    mantissa_down = Wrong("m rounded down", "m, ek, recip = -(-M // 127), block.e - 15, 2 ** 22",
                          "m, ek, recip = M // 127, block.e - 15, 2 ** 22")
    zero_turned = Wrong("the zero key's exponent grows too", "e = -39 if was_zero else block.e",
                        "e = -38 if was_zero else block.e")
    zero_usual = Wrong("a zero key keeps no offset",
                       "    return Block((block.s >> min(E - e, 31)) - (o >> min(E - e_o, 31)), E)",
                       "    return block if was_zero else "
                       "Block((block.s >> min(E - e, 31)) - (o >> min(E - e_o, 31)), E)")
    no_room = Wrong("E = max(e, e_o)", "E = max(e, e_o) + 1", "E = max(e, e_o)")
    eight = Wrong("shift always 8", "shift = 8 if (block.M + 128) >> 8 <= 127 else 9", "shift = 8")
    cut = Wrong("q_d rounded down", "return (block.s + 2 ** (shift - 1)) >> shift", "return block.s >> shift")
    for wrong in (unrounded, other_way, exponent, rest, one_mantissa, mantissa_down, zero_turned, zero_usual, no_room,
                  eight, cut):
        wrong.broken.TURNS_ZERO = False
    none = np.zeros(0, np.int64)
    phases = {"phases": np.array([683565276, 6835653], np.int64), "position": 5, "pairing": "adjacent"}
    still = {"phases": none, "position": 0, "pairing": "adjacent"}
    no_offset = {"offset": none, "offset_e": 0}

    def make_query(random):
        return dict({"x": random_floats(random, 5)}, **phases)

    def make_halves(random):
        return dict(make_query(random), pairing="halves")

    def make_key(low, high):
        def make(random):
            x = random_floats(random, 4, -4, -3)
            x[0] = F(random.integer(low, high) * 2.0 ** -14)
            return dict({"x": x}, **still, **no_offset)
        return make

    def make_offset(random):
        return dict({"x": random_floats(random, 5)}, **phases, offset=random.integers(5, -32767, 32767), offset_e=2)

    def make_value(low, high):
        def make(random):
            x = random_floats(random, 4)
            x[0] = F(random.integer(low, high) * 2.0 ** -12)
            return {"x": x}
        return make

    zero = dict({"x": floats(0, 2.0 ** -41, 0, 0)}, **phases, offset=np.array([7, -7, 3, 0]), offset_e=-39)
    return [
        given("sine_table", {}, table),
        given("sine", {"phase": "12345678"}, sine, quadrant),
        given("sine", {"phase": "9abcdef0"}, sine, quadrant),
        given("sine", {"phase": "40000000"}, sine),
        found("query", make_query, query, [unrounded, other_way, exponent, rest]),
        found("query", make_halves, query, [unrounded, other_way, rest]),
        found("key", make_key(16384, 32000), key, [mantissa_down]),
        found("key", make_key(32400, 32767), key, [one_mantissa]),
        found("key", make_offset, key, [no_room, exponent]),
        given("key", zero, key, zero_turned, zero_usual),
        given("key", dict({"x": floats(0, 0)}, **still, **no_offset), key),
        found("value", make_value(16384, 32639), value, [cut]),
        found("value", make_value(32640, 32767), value, [eight, cut]),
        given("value", {"x": floats(0, 0)}, value),
        given("keys_seen", {"position": 70, "n": 100, "mask": "causal", "window": 64}, seen, one_more),
        given("keys_seen", {"position": 70, "n": 100, "mask": "two_way", "window": 9}, seen, one_more, back_only),
        given("keys_seen", {"position": 3, "n": 5, "mask": "two_way", "window": 64}, seen),
        given("keys_seen", {"position": 70, "n": 100, "mask": "causal", "window": 1}, seen),
        given("alibi", {"slope": 3025676, "distances": np.array([0, 1, 2, 100])}, alibi, uneven),
        given("alibi", {"slope": 2147483647, "distances": np.array([15, 16, 1048575])}, alibi, endless),
        given("relative_column", {"mask": "causal", "n_distances": 5, "ahead": np.array([0, 3, 4, 90])}, column),
        given("relative_column", {"mask": "two_way", "n_distances": 5, "ahead": np.array([-90, -2, -1, 0, 1, 2, 3])},
              column, looking_back),
    ]


def section_2_8():
    def compute(m, q, scale_q, attention_scale, keys, m_, ek, values, ev, blocks):
        m = m or spec_reference
        head_dim, count = len(q), len(m_)
        cache = m.Cache(count, head_dim, head_dim)
        cache.key[:], cache.value[:] = np.reshape(keys, (count, head_dim)), np.reshape(values, (count, head_dim))
        cache.m[:], cache.ek[:], cache.ev[:] = m_, ek, ev
        query = m.Activation(np.asarray(q), None, F(scale_q[0]))
        sums, first, fields = m.Sums(head_dim), 0, {}
        for size in blocks:
            N, D, V, ref = m.attend_block(query, cache, slice(first, first + size), attention_scale[0])
            fields = {"N": N, "D": D, "ref": ref}
            sums.merge(N, D, V, ref)
            first += size
        return dict(fields, numerator=sums.numerator, denominator=F(sums.denominator), output=sums.output())

    def one_block(m, q, scale_q, attention_scale, keys, m_, ek, values, ev, hidden=0, bias=()):
        """The last of the keys is the last one seen."""
        m = m or spec_reference
        head_dim, count = len(q), len(m_)
        cache = m.Cache(count, head_dim, head_dim)
        cache.key[:], cache.value[:] = np.reshape(keys, (count, head_dim)), np.reshape(values, (count, head_dim))
        cache.m[:], cache.ek[:], cache.ev[:] = m_, ek, ev
        query = m.Activation(np.asarray(q), None, F(scale_q[0]))
        N, D, V, ref = m.attend_block(query, cache, slice(0, count), attention_scale[0], hidden,
                                      np.asarray(bias, np.int64) if len(bias) else None)
        return {"N": N, "D": D, "ref": ref}

    def inputs(q, scale_q, attention_scale, keys, m, ek, values, ev, blocks):
        return {"q": q, "scale_q": floats(scale_q), "attention_scale": floats(attention_scale), "keys": keys, "m_": m,
                "ek": ek,
                "values": values, "ev": ev, "blocks": blocks}

    def make(blocks, attention_scale=0.35355338):
        def make_one(random):
            count, head_dim = sum(blocks), 2
            return inputs(random.integers(head_dim, -127, 127), random.floats(1, -7, -6)[0], attention_scale,
                          random.integers(count * head_dim, -127, 127), random.integers(count, 129, 255),
                          random.integers(count, -14, -12), random.integers(count * head_dim, -127, 127),
                          random.integers(count, -10, -8), blocks)
        return make_one

    def make_window(random):
        chosen = make([4])(random)
        chosen.pop("blocks")
        chosen["ek"] = np.array([-12, *chosen["ek"][1:]])
        chosen["ev"] = np.array([-8, *chosen["ev"][1:]])
        return dict(chosen, hidden=2)

    def make_biased(attention_scale=0.35355338):
        def make_one(random):
            chosen = make([3], attention_scale)(random)
            chosen.pop("blocks")
            return dict(chosen, bias=random.integers(3, -3000, 3000))
        return make_one

    maxima = Wrong("K and V of the keys that are seen", "int(cache.ek[keys].max()), int(cache.ev[keys].max())",
                   "int(cache.ek[keys][hidden:].max()), int(cache.ev[keys][hidden:].max())")
    of_hidden = Wrong("U of hidden keys too", "    U = int(u.max())\n",
                      "    U = int((((cache.key[keys] @ query.q) * cache.m[keys]) >> np.minimum(K - cache.ek[keys], 31)).max())\n")
    taken_off = Wrong("e_j + bias_j", "* mant + 2 ** 14) >> 15) - bias", "* mant + 2 ** 14) >> 15) + bias")
    best_stays = Wrong("ref of the best score without its bias",
                       "best = np.clip(best - to_float(least) * power(-10), -power(20), power(20))", "best = best + 0")
    ends_early = Wrong("d at most 32767", "dist = np.minimum((U - u) >> shift, 2 ** 24 - 1)",
                       "dist = np.minimum((U - u) >> shift, 32767)")
    output = "return self.numerator * (F(1) / self.denominator)"
    order = Wrong("(scale_q * attention_scale) * log2 e", "unit = (query.scale * (attention_scale * LOG2E)) * power(K)",
                  "unit = ((query.scale * attention_scale) * LOG2E) * power(K)")
    divided = Wrong("numerator / denominator", output, "return self.numerator / self.denominator")
    rounded = Wrong("u_j rounded", "* cache.m[seen]) >> np.minimum(K - ek, 31)",
                    "* cache.m[seen] + (1 << np.minimum(K - ek, 31) >> 1)) >> np.minimum(K - ek, 31)")
    no_half = Wrong("weight_j without + 2^(down-1)", "weight = (2 * T[(depth >> 2) & 255] + (1 << (down - 1))) >> down",
                    "weight = (2 * T[(depth >> 2) & 255]) >> down")
    no_start = Wrong("start without + 2", "* F(1024))) + 2 + 1024", "* F(1024))) + 1024")
    folded_sum = Wrong("D from the weights shifted by V - ev_j", "int(weight.sum()), V, ref",
                       "int(folded.sum()), V, ref")
    last = Wrong("the last block's reference", "merged = max(self.reference, ref)", "merged = ref")
    no_snap = Wrong("no snap", "self.numerator = snap(self.numerator * keep + to_float(N) * (add * power(V)))",
                    "self.numerator = self.numerator * keep + to_float(N) * (add * power(V))")
    kept = Wrong("2^-31 and below kept",
                 "keep = power(self.reference - merged) if self.reference - merged >= -30 else F(0)",
                 "keep = power(max(self.reference - merged, -149))")
    flat = Wrong("no rule for fine < 2^-40", "if fine >= power(-40):", "if fine > 0:")
    snapped = inputs([127, 0], 0.0304, 1.0, [0, 0, 127, 0], [255, 255], [-14, -14], [0, 1, 127, 0], [-46, -46], [2])
    far = inputs([127, 0], 0.0842, 1.0, [0, 0, 127, 0], [255, 255], [-14, -14], [127, -127, 0, 5], [-8, -8], [1, 1])
    steep = inputs([127, 0], 1.0, 1.0, [0, 0, 127, 0], [255, 255], [-7, -7], [127, -127, 0, 5], [-8, -8], [])
    steep.pop("blocks")
    steep["bias"] = np.array([2 ** 23 - 5, -2 ** 23])
    even = inputs([127, 0], 2.0 ** -50, 2.0 ** -10, [-127, 0, 127, 0, 0, 1], [255, 255, 255], [-14, -14, -14],
                  [127, -127, 1, 5, 3, 3], [-8, -8, -8], [])
    even.pop("blocks")
    level = inputs([127, 0], 2.0 ** -50, 2.0 ** -10, [-127, 0, 127, 0], [255, 255], [-14, -14], [127, -127, 1, 5], [-8,
                                                                                                                    -8],
                                                                                                                    [2])
    return [
        found("attend", make([3]), compute, [divided, no_half, no_start, folded_sum]),
        found("attend", make([3], 30.0), compute, [rounded]),
        found("attend", make([2], 3000.0), compute, [order]),
        found("attend", make([3, 2]), compute, [divided, last]),
        given("attend", far, compute, kept),
        given("attend", snapped, compute, no_snap),
        given("attend", level, compute, flat),
        found("attend_window", make_window, one_block, [maxima, of_hidden]),
        found("attend_biased", make_biased(), one_block, [taken_off, best_stays]),
        given("attend_biased", steep, one_block, ends_early),
        given("attend_biased", dict(even, bias=np.array([0, -1024, 512])), one_block),
    ]


def section_2_9():
    def compute(m, q, p, scale_x, w, multipliers, scale, bias, group):
        m = m or spec_reference
        n = len(q)
        weights, exponents = np.asarray(w).reshape(1, n), np.zeros(n, np.int64)
        if group:
            weights = weights * np.repeat(multipliers, group)[:n]
            exponents = np.repeat(p, group)[:n]
        matrix = Matrix(weights, floats(scale), floats(*bias) if len(bias) else None, group)
        return {"out": m.product(matrix, Activation(np.asarray(q), exponents, scale_x[0]))}

    def embedding(m, w, multipliers, scale, group):
        multiplier = np.repeat(multipliers, group)[:len(w)]
        if m:
            return {"x": spec_reference.to_float(w) * scale[0] * spec_reference.to_float(multiplier)}
        return {"x": spec_reference.embedding(Matrix((w * multiplier).reshape(1, -1), floats(scale), None, group), 0)}

    class Twice:
        what, broken = "(float(weight) * scale[r]) * multiplier", True

    order = Wrong("(float(acc) * scale[r]) * scale_x", "y = to_float(acc) * (matrix.scale * a.scale)",
                  "y = (to_float(acc) * matrix.scale) * a.scale")
    fused = Wrong("the bias added without rounding before", "    return y if matrix.bias is None else y + matrix.bias",
                  "    return y if matrix.bias is None else "
                  "(acc * np.float64(matrix.scale * a.scale) + matrix.bias).astype(F)")
    no_exponent = Wrong("2^p left out", "acc = matrix.weights @ (a.q << a.p)", "acc = matrix.weights @ a.q")
    none = np.zeros(0, np.int64)

    def make(random):
        return {"q": random.integers(5, -127, 127), "p": none, "scale_x": random.floats(1, -7, -6),
                "w": random.integers(5, -127, 127),
                "multipliers": none, "scale": random.floats(1, -8, -7), "bias": random_floats(random, 1, -3, -1),
                "group": 0}

    def make_grouped(random):
        q, w = np.zeros(70, np.int64), np.zeros(70, np.int64)
        for first in (0, 32, 64):
            q[first:first + 3], w[first:first + 3] = random.integers(3, -127, 127), random.integers(3, -127, 127)
        return {"q": q, "p": np.array([0, 3, 1]), "scale_x": random.floats(1, -7, -6), "w": w,
                "multipliers": np.array([15, 1, 7]),
                "scale": random.floats(1, -8, -7), "bias": np.zeros(0, F), "group": 32}

    def make_row(random):
        w = np.zeros(34, np.int64)
        w[:2], w[32:] = random.integers(2, -127, 127), random.integers(2, -127, 127)
        return {"w": w, "multipliers": np.array([3, 15]), "scale": random.floats(1, -8, -7) / F(3), "group": 32}

    return [
        found("product", make, compute, [order, fused]),
        found("product", make_grouped, compute, [order, no_exponent]),
        found("embedding", make_row, embedding, [Twice]),
    ]


def section_2_10():
    def compute(m, x):
        return {"exp_f32": (m or spec_text).exp_f32(x[0])}

    natural = Wrong("an exponential correctly rounded", "def exp_f32(x):\n    x = x if x > F(-87)",
                    "def exp_f32(x):\n    return F(np.exp(np.float64(x)))\n    x = x if x > F(-87)", spec_text)
    return [given("exp", {"x": x}, compute, *wrongs) for x, *wrongs in (
        (floats(0),), (floats(-1),), (floats(-20.25), natural), (hexes("c28e01d3"), natural), (floats(-87),),
        (floats(-1000),), (hexes("7fc00000"),), (floats(88),))]


SECTIONS = {"2.1": section_2_1, "2.2": section_2_2, "2.3": section_2_3, "2.4": section_2_4, "2.5": section_2_5,
            "2.6": section_2_6, "2.7": section_2_7, "2.8": section_2_8, "2.9": section_2_9, "2.10": section_2_10}
