# .ci/readme.py: holds README.md to the tree: its program is a piece of a compiled example, its
# paths exist.
"""usage: readme.py ROOT                        checks
       readme.py ROOT --table REPORT MACHINE    writes the measured table from a report of
                                                `examples/gpt/run --report`"""
import datetime
import json
import os
import re
import sys
import textwrap


def quoted_pieces(root, readme):
    """A ```c block behind <!-- FILE --> equals what stands in FILE, README begin to README end."""
    wrong, blocks = [], re.findall(r"^<!-- (\S+) -->\n```c\n(.*?)^```", readme, re.S | re.M)
    if not blocks:
        wrong.append("README.md quotes no example")
    for name, shown in blocks:
        with open(os.path.join(root, name)) as f:
            piece = re.search(r"/\* README begin \*/\n(.*?)^ */\* README end \*/", f.read(),
                              re.S | re.M)
        if not piece:
            wrong.append("%s has no piece between README begin and README end" % name)
        elif textwrap.dedent(piece.group(1)) != shown:
            wrong.append("README.md shows another text than %s:\n%s" % (
                name, textwrap.dedent(piece.group(1))))
    return wrong


def missing_paths(root, readme):
    """Links, and code that looks like a path of the tree.

    That is one with a slash, or a name in the table of folders.
    """
    links = re.findall(r"\]\(([^)#:]+)\)", readme)
    code = re.findall(r"`([\w./-]+/[\w./-]*)`", readme)
    commands = re.findall(r"^    ((?:examples|\.ci)/\S+)", readme, re.M)
    skip = ("build/", "abi/")
    paths = [p for p in links + code + commands if not p.startswith(skip)]
    return ["README.md names %s, which does not exist" % p for p in paths
            if not any(os.path.exists(os.path.join(root, base, p))
                       for base in ("", "src", "examples"))]


def mib(n):
    return "%.1f" % (n / 2**20)


def table(report, machine):
    sizes, none = report["sizes"], report["policies"][0]
    out = ["| policy | activations, peak MiB | predicted MiB | freed | process, peak MiB "
           "| step, of `none` |",
           "|---|--:|--:|--:|--:|--:|"]
    for p in report["policies"]:
        freed = 100 - 100 * p["measured_peak_bytes"] / none["measured_peak_bytes"]
        out.append("| `%s` | %s | %s | %.0f %% | %s | %.2f |" % (
            p["policy"], mib(p["measured_peak_bytes"]), mib(p["predicted_peak_bytes"]), freed,
            mib(p["resident_bytes"]), p["step_ratio"]))
    digests = {(p["loss_digest"], p["gradient_digest"]) for p in report["policies"]}
    out += ["", "`examples/gpt/run --steps %d`, %s, %s, %d threads: %d layers, width %d, "
            "%d x %d sequences of %d tokens, %s attention, dropout %.1f; medians. "
            "Losses and gradients %s." % (
                report["steps"], machine, datetime.date.today(), report["threads"],
                sizes["layers"], sizes["width"], sizes["microbatches"], sizes["batch"],
                sizes["seq"], report["attention"], sizes["dropout"],
                "have the same bits under every policy" if len(digests) == 1 else "DIFFER")]
    return "\n".join(out)


def write_table(root, report, machine):
    path = os.path.join(root, "README.md")
    with open(report) as f:
        rows = table(json.load(f), machine)
    with open(path) as f:
        old = f.read()
    new = re.sub(r"(<!-- table -->\n).*?(<!-- /table -->)",
                 lambda m: m.group(1) + rows + "\n" + m.group(2), old, flags=re.S)
    with open(path, "w") as f:
        f.write(new)


def table_is_there(readme):
    rows = re.search(r"<!-- table -->\n(.*?)<!-- /table -->", readme, re.S)
    return [] if rows and "| `none` |" in rows.group(1) and "DIFFER" not in rows.group(1) else \
        ["README.md has no measured table, or one in which results differ"]


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[2] == "--table":
        write_table(sys.argv[1], sys.argv[3], sys.argv[4])
    with open(os.path.join(sys.argv[1], "README.md")) as f:
        text = f.read()
    found = quoted_pieces(sys.argv[1], text) + missing_paths(sys.argv[1], text)
    found += table_is_there(text)
    print("\n".join(found) if found else "README.md agrees with the tree")
    sys.exit(1 if found else 0)
