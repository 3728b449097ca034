"""The comparison as a page to read."""

import statistics

import samples

BANDWIDTH_SHARE = 0.7


def time(ms):
    return f"{ms:,.0f}" if ms >= 1000 else f"{ms:.3g}"


def verdict(found, limit):
    if limit is None:
        return "none set"
    if found["ratio"] > limit:
        return f"≤ {limit:g}: **missed**"
    return f"≤ {limit:g}: met" + ("" if found["high"] <= limit else ", the interval reaches beyond it")


def entrant_rows(comparison, allowed):
    rates = {"GFLOP/s": comparison["gflop"], "GB/s": comparison["megabytes"]}
    rates = {unit: amount for unit, amount in rates.items() if amount}
    columns = ["program", "median ms", "least ms", "samples", "disturbed", *rates, "setting"]
    yield "| " + " | ".join(columns) + " |"
    yield "|---" * len(columns) + "|"
    for label, entry in comparison["entrants"].items():
        if not entry["samples"]:
            yield f"| {label} | – | – | 0 | 0 " + "| – " * len(rates) + f"| {entry.get('error', 'no sample')} |"
            continue
        taken = samples.milliseconds(entry)
        setting = ", ".join(f"{key} {value}" for key, value in entry["variant"].items()) or "–"
        cells = [label, time(statistics.median(taken)), time(min(taken)), len(taken), disturbed(entry, allowed)]
        cells += [f"{amount / statistics.median(taken):.3g}" for amount in a_second(rates)]
        yield "| " + " | ".join(map(str, [*cells, setting])) + " |"


def disturbed(entry, allowed):
    """Samples that stand although others used the machine meanwhile: taking them again did not help."""
    return sum(sample["others"] > allowed for sample in entry["samples"])


def a_second(rates):
    """Divided by milliseconds these give the unit: megabytes as they are, GFLOP a thousandfold."""
    return [amount * 1000 if unit == "GFLOP/s" else amount for unit, amount in rates.items()]


def goal_rows(comparison):
    yield "| ratio of medians | 95 % interval | of minima | goal |"
    yield "|---|---|---|---|"
    for goal in comparison["goals"]:
        found = samples.judged(comparison["entrants"], goal)
        if found is None:
            yield f"| {goal['ours']} / {' or '.join(goal['theirs'])}: not measured | – | – | – |"
            continue
        yield (
            f"| {programs(goal, found)}: **{found['ratio']:.3f}** | {found['low']:.3f} to "
            f"{found['high']:.3f} | {found['of_minima']:.3f} | {verdict(found, goal['limit'])} |"
        )


def programs(goal, found):
    which = f", the fastest of {found['fastest_of']}" if found["fastest_of"] > 1 else ""
    return f"{goal['ours']} / {found['against']}{which}"


def section(comparison, allowed):
    load = ", ".join(f"{value:.2f}" for value in comparison["load_before"])
    yield f"## {comparison['name']}"
    yield ""
    yield " ".join([*comparison["notes"], f"Load average before: {load}."])
    yield ""
    yield from entrant_rows(comparison, allowed)
    yield ""
    yield from goal_rows(comparison)
    yield ""


def summary(result):
    """Every goal that was set, in one table."""
    rows = []
    for comparison in result["comparisons"]:
        for goal in comparison["goals"]:
            found = samples.judged(comparison["entrants"], goal)
            if found and goal["limit"] is not None:
                ratio = f"{found['ratio']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
                cells = comparison["name"], programs(goal, found), ratio, verdict(found, goal["limit"])
                rows.append("| " + " | ".join(cells) + " |")
    if rows:
        head = "## Goals", "", "| comparison | programs | ratio of medians | goal |", "|---|---|---|---|"
        yield from (*head, *rows, "")


def start_up(found, allowed):
    yield "## start-up"
    yield ""
    yield (
        f"Process start to the first byte of the first token, file in the page cache, {found['prompt_tokens']} tokens of "
        f"prompt. Resident memory is the child's peak. Load average before: {found['load_before'][0]:.2f}."
    )
    yield ""
    yield "| program | median ms | least ms | samples | disturbed | peak MiB | notes |"
    yield "|---|---|---|---|---|---|---|"
    for label, entry in found["entrants"].items():
        if entry.get("error"):
            yield f"| {label} | – | – | 0 | – | – | {entry['error']} |"
            continue
        taken = [sample["first_ms"] for sample in entry["samples"]]
        peak = max(sample["peak_mib"] for sample in entry["samples"])
        cells = [label, time(statistics.median(taken)), time(min(taken)), len(taken), disturbed(entry, allowed)]
        yield "| " + " | ".join(map(str, [*cells, f"{peak:.0f}", entry["notes"]])) + " |"
    yield ""
    for goal in found["goals"]:
        yield f"- {goal}"
    yield ""


def heading(result):
    machine = result["machine"]
    flags = ", ".join(flag for flag, present in machine["flags"].items() if present)
    absent = ", ".join(flag for flag, present in machine["flags"].items() if not present)
    yield f"# foveate beside its peers ({result['date']})"
    yield ""
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, cache {machine['cache']}, Linux "
        f"{machine['kernel']}; has {flags}; lacks {absent or 'none of those looked for'}. {result['threads']} threads each."
    )
    yield ""
    yield f"Command: `{result['command']}`."
    yield ""
    versions = [result["foveate"]]
    for told in result.get("peers", {}).values():
        versions += [f"{name} {version}" for name, version in told.get("versions", {}).items()]
    yield f"Versions: {', '.join(dict.fromkeys(versions))}."
    yield ""
    for engine, told in result.get("peers", {}).items():
        yield f"- {engine}: {told.get('notes', told.get('error'))}"
    if "read_gigabytes_per_second" in result:
        rate = result["read_gigabytes_per_second"]
        yield f"- PyTorch sums a GiB at {rate:.1f} GB/s, the read bandwidth to hold decoding against."
        yield from bandwidth_shares(result, rate)
    yield ""
    yield (
        "Engines run in turns, one sample each a round, the others stopped meanwhile. The ratio is of medians; its interval "
        "comes from 2,000 resamplings of whole rounds. A sample during which other processes used more than "
        f"{result['others_allowed']} cores was taken again, three times at most; `disturbed` counts those that stand all the "
        "same. All are in the JSON. Where variants were tried, `setting` is the fastest of a short trial."
    )
    yield ""
    yield from weather(result)


def bandwidth_shares(result, rate):
    for comparison in result["comparisons"]:
        entries = comparison["entrants"].items() if comparison["megabytes"] else ()
        for label, entry in entries:
            if entry["samples"]:
                read = comparison["megabytes"] / statistics.median(samples.milliseconds(entry))
                goal = f"; goal {BANDWIDTH_SHARE:.0%}" if entry["engine"] == "foveate" else ""
                yield f"- {comparison['name']}: {label} reads the file at {read:.1f} GB/s, {read / rate:.0%} of that{goal}."


def weather(result):
    """A warning where it applies: engines whose threads spin suffer far more from company than others."""
    entries = [entry for comparison in result["comparisons"] for entry in comparison["entrants"].values()]
    taken = sum(len(entry["samples"]) for entry in entries)
    spoilt = sum(disturbed(entry, result["others_allowed"]) for entry in entries)
    if spoilt * 10 > taken:
        yield f"**{spoilt} of {taken} samples were disturbed by other processes: do not rely on the ratios below.**"
        yield ""


def markdown(result):
    lines = [*heading(result), *summary(result)]
    for comparison in result["comparisons"]:
        lines += section(comparison, result["others_allowed"])
    if "start_up" in result:
        lines += start_up(result["start_up"], result["others_allowed"])
    return "\n".join(lines).rstrip() + "\n"
