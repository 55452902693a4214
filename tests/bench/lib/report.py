# SPDX-License-Identifier: Apache-2.0
"""The table of one run, and the comparison of two."""
import json

# kind of target: (what it says, value from the row) ; a missing column makes the value None
TARGETS = {
    "direct": ("{sign} {limit:g} x direct", lambda row: ratio(row, "weft", "direct")),
    "envoy": ("{sign} {limit:g} x envoy", lambda row: ratio(row, "weft", "envoy")),
    "extra": ("{sign} direct + {limit:g}", lambda row: difference(row, "weft", "direct")),
    "value": ("{sign} {limit:g}", lambda row: row.get("weft")),
}


def ratio(row, above, below):
    if row.get(above) is None or not row.get(below):
        return None
    return row[above] / row[below]


def difference(row, left, right):
    if row.get(left) is None or row.get(right) is None:
        return None
    return row[left] - row[right]


def number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"


def judge_each(row, limits):
    """At most so many times as much as each of these."""
    words = "<= " + ", ".join(f"{limit:g} x {name}" for name, limit in limits.items())
    ratios = {name: ratio(row, "weft", name) for name in limits}
    if None in ratios.values():
        return words, ""
    return words, "yes" if all(ratios[name] <= limit for name, limit in limits.items()) else "NO"


def judge(case, row):
    """(the target in words, "yes", "NO" or "" when it can't be said)."""
    if not case.target:
        return "", ""
    if case.target[0] == "each":
        return judge_each(row, case.target[2])
    kind, sign, limit = case.target[:3]
    text, value_of = TARGETS[kind]
    words = text.format(sign=sign, limit=limit)
    value = value_of(row)
    if value is None:
        return words, ""
    met = value >= limit if sign == ">=" else value <= limit
    return words, "yes" if met else "NO"


def spread(row):
    """The widest range of samples, of the median: what a difference must exceed to mean something."""
    widest = 0.0
    for name, values in row["samples"].items():
        if len(values) > 1 and row.get(name):
            widest = max(widest, (max(values) - min(values)) / row[name])
    return f"{widest * 100:.0f}%" if widest else ""


def columns(rows):
    known = ("case", "unit", "better", "runs", "samples")
    return [key for key in (rows[0] if rows else {}) if key not in known]


def layout(lines):
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    out = []
    for line in lines:
        cells = [cell.ljust(width) if i < 2 else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(line, widths))]
        out.append("  ".join(cells).rstrip())
    out.insert(1, "-" * max(len(text) for text in out))
    return "\n".join(out)


def table(cases, rows):
    names = columns(rows)
    shown = [other for other in ("direct", "envoy", "haproxy") if other in names]
    lines = [["case", "unit", *names, *[f"weft/{other}" for other in shown], "spread", "target", "met"]]
    for case, row in zip(cases, rows):
        lines.append([case.name, case.unit + (" ^" if case.better == "higher" else " v"),
                      *[number(row[name]) for name in names],
                      *[number(ratio(row, "weft", other)) for other in shown], spread(row), *judge(case, row)])
    return layout(lines) + "\n^ higher is better, v lower; spread: (max - min) / median of the noisiest column"


def load(path):
    with open(path, encoding="utf-8") as file:
        return {row["case"]: row for row in json.load(file)}


def verdict(before, row, change):
    """A change is one when it is over 5 %, and no sample of one run lies among those of the other."""
    old, new = (side.get("samples", {}).get("weft") or [side.get("weft")] for side in (before, row))
    if change is None or abs(change - 1) < 0.05:
        return ""
    if min(old) <= max(new) and min(new) <= max(old):
        return "in the noise"
    return "better" if (change > 1) == (row["better"] == "higher") else "WORSE"


def compare(old_path, new_path):
    """Ratios new/old of every column. The last column takes the machine out: weft's change over direct's."""
    old, new = load(old_path), load(new_path)
    names = [name for name in columns(list(new.values())) if name in columns(list(old.values()))]
    lines = [["case", "unit", "weft old", "weft new", *[f"{name} new/old" for name in names], "weft by direct", ""]]
    for case, row in new.items():
        before = old.get(case)
        if not before:
            continue
        changes = {name: row[name] / before[name] if row.get(name) and before.get(name) else None for name in names}
        weft, direct = changes.get("weft"), changes.get("direct")
        fair = weft / direct if weft and direct else weft
        lines.append([case, row["unit"], number(before.get("weft")), number(row.get("weft")),
                      *[number(changes[name]) for name in names], number(fair), verdict(before, row, fair)])
    return layout(lines)
