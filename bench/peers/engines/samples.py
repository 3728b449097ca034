"""Medians, and how sure the ratio of two of them is."""

import random
import statistics

DRAWS = 2000


def milliseconds(entry):
    return [sample["ms"] for sample in entry["samples"]]


def ratio(ours, theirs):
    """Ratio of medians with its 95 % percentile interval; rounds are drawn whole, since both sides shared their weather."""
    generator = random.Random(0)
    rounds = range(min(len(ours), len(theirs)))
    draws = []
    for _ in range(DRAWS):
        drawn = generator.choices(rounds, k=len(rounds))
        draws.append(statistics.median(ours[i] for i in drawn) / statistics.median(theirs[i] for i in drawn))
    draws.sort()
    return {
        "ratio": statistics.median(ours) / statistics.median(theirs),
        "of_minima": min(ours) / min(theirs),
        "low": draws[int(0.025 * DRAWS)],
        "high": draws[int(0.975 * DRAWS)],
    }


def judged(entrants, goal):
    """The goal's ratio, against the peer with the least median; None where somebody has no sample."""
    present = [label for label in goal["theirs"] if entrants[label]["samples"]]
    if not present or not entrants[goal["ours"]]["samples"]:
        return None
    best = min(present, key=lambda label: statistics.median(milliseconds(entrants[label])))
    found = ratio(milliseconds(entrants[goal["ours"]]), milliseconds(entrants[best]))
    return found | {"against": best, "fastest_of": len(goal["theirs"])}
