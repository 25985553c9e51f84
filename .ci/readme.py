# .ci/readme.py: holds README.md to the tree: its program is a piece of a compiled example, its paths exist.
"""usage: readme.py ROOT"""
import os
import re
import sys
import textwrap


def quoted_pieces(root, readme):
    """A ```c block behind <!-- FILE --> equals what stands between README begin and README end in FILE."""
    wrong, blocks = [], re.findall(r"^<!-- (\S+) -->\n```c\n(.*?)^```", readme, re.S | re.M)
    if not blocks:
        wrong.append("README.md quotes no example")
    for name, shown in blocks:
        with open(os.path.join(root, name)) as f:
            piece = re.search(r"/\* README begin \*/\n(.*?)^ */\* README end \*/", f.read(), re.S | re.M)
        if not piece:
            wrong.append("%s has no piece between README begin and README end" % name)
        elif textwrap.dedent(piece.group(1)) != shown:
            wrong.append("README.md shows another text than %s:\n%s" % (name, textwrap.dedent(piece.group(1))))
    return wrong


def missing_paths(root, readme):
    """Links, and code that looks like a path of the tree: with a slash, or a name in the table of folders."""
    links = re.findall(r"\]\(([^)#:]+)\)", readme)
    code = re.findall(r"`([\w./-]+/[\w./-]*)`", readme)
    commands = re.findall(r"^    ((?:examples|\.ci)/\S+)", readme, re.M)
    skip = ("build/", "abi/")
    paths = [p for p in links + code + commands if not p.startswith(skip)]
    return ["README.md names %s, which does not exist" % p for p in paths
            if not any(os.path.exists(os.path.join(root, base, p)) for base in ("", "src", "examples"))]


if __name__ == "__main__":
    with open(os.path.join(sys.argv[1], "README.md")) as f:
        text = f.read()
    found = quoted_pieces(sys.argv[1], text) + missing_paths(sys.argv[1], text)
    print("\n".join(found) if found else "README.md agrees with the tree")
    sys.exit(1 if found else 0)
