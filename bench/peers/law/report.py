"""The comparison as a page to read."""

LIMIT = 1e-9


def number(value):
    return "–" if value is None else f"{value:+.1e}"


def cases_table(cases):
    lines = ["| table | law | objective | program | value | above foveate | seconds |", "|---|---|---|---|---|---|---|"]
    for case in cases:
        objective = "squared" if case["delta"] is None else f"log-Huber, δ = {case['delta']:g}"
        for row in case["rows"]:
            outside = "" if row.get("feasible", True) else " (outside the bounds)"
            lines.append(
                f"| {case['table']} | {case['law']} | {objective} | {row['program']}{outside} | {row['objective']:.12e} "
                f"| {number(row.get('above_foveate'))} | {row['seconds']:.2f} |"
            )
    return lines


def verdict(cases):
    gaps = [(row["above_foveate"], row["program"]) for case in cases for row in case["rows"] if "above_foveate" in row]
    lower = [gap for gap in gaps if gap[0] < -LIMIT]
    lines = [f"{len(gaps)} comparisons; {len(lower)} with a peer lower by more than {LIMIT:g}."]
    for program in dict.fromkeys(name for _, name in gaps):
        own = [gap for gap, name in gaps if name == program]
        lines.append(f"{program}: from {min(own):+.1e} to {max(own):+.1e} above foveate over {len(own)} tables.")
    return lines


def seconds(spread):
    return f"{spread['min']:.4g} s least, {spread['median']:.4g} s median of {spread['runs']}"


def grid_section(grid):
    lines = [
        f"- numpy, one pass over {grid['nodes']:,} nodes × {grid['rows']} rows: {seconds(grid['numpy_seconds'])}; "
        f"its least sum of squares {grid['numpy_least']['objective']:.6e}.",
        f"- The same with one exponential shared by the 2,000 nodes of equal exponents: {seconds(grid['shared_seconds'])}.",
        f"- Python loop, extrapolated from 20,000 random nodes: {seconds(grid['python_seconds_extrapolated'])}.",
        f"- `foveate fit --preset reasoning --json`, whole process with profiles and hold-outs, no draws: "
        f"{seconds(grid['foveate_process_bootstrap_0'])}; with 1,000 draws: "
        f"{seconds(grid['foveate_process_bootstrap_1000'])}; the difference "
        f"{grid['foveate_thousand_draws']['min']:.3f} s (of the least), "
        f"{grid['foveate_thousand_draws']['median']:.3f} s (of the medians).",
    ]
    measured = grid["benchmark"]
    for name, spread in measured.items():
        lines.append(f"- criterion `{name}`: {spread['min']:.3e} s least, {spread['median']:.3e} s median.")
    one = measured.get("fit/product_squared")
    if one:
        for which in ("min", "median"):
            numpy = grid["numpy_seconds"][which] / one[which]
            shared = grid["shared_seconds"][which] / one[which]
            python = grid["python_seconds_extrapolated"][which] / one[which]
            lines.append(
                f"- One product fit inside the library (criterion) against the numpy pass: {numpy:,.0f} × "
                f"({which}); against the pass with shared exponentials {shared:,.0f} ×; against the Python loop: {python:,.0f} ×."
            )
    return lines


def markdown(result):
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    load = ", ".join(f"{value:.1f}" for value in (machine["load_before"][0], machine["load_after"][0]))
    cases = result["published"] + result["simulated"]
    lines = [
        f"# Fitting the law, beside its peers ({result['date']})",
        "",
        f"{machine['cpu']}, {machine['cores']} cores, pinned to core {machine['pinned_to']}; Python {machine['python']}, "
        f"{versions}. Load average before and after: {load} (other jobs ran: read the least time as the machine's, the "
        "median as the day's).",
        "",
        f"Command: `{machine['command']}`, threads {machine['threads']}.",
        "",
        "Every value is the plain sum, computed by one function from the coefficients each program reports. `above "
        "foveate` is the peer's value minus foveate's: positive where foveate is lower. scipy gets 32 random starts, exact "
        "gradients and centred logarithms; chinchilla its own BFGS from 243 starts. foveate's seconds are a whole process "
        "with profiles, hold-outs and the comparison of both forms; a peer's are its fit alone.",
        "",
        *[line + "  " for line in verdict(cases)],
        "",
        *cases_table(cases),
        "",
        "## Against a grid search",
        "",
        *grid_section(result["grid"]),
    ]
    return "\n".join(lines) + "\n"
