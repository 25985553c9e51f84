# abi_tests/symbols.py: librcore.so exports exactly abi/rc.symbols and imports nothing that
# abi/rc.imports does not allow.
"""symbols.py dump LIBRARY     prints the exported symbols with their version node
symbols.py check LIBRARY SYMBOLS IMPORTS HEADER CC"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "header"))
import model


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def dynamic_symbols(library, which):
    listing = run("nm", "-D", which, "--with-symbol-versions", library)
    return [line.split()[-1] for line in listing.splitlines()]


def exported(library):
    names = dynamic_symbols(library, "--defined-only")
    return sorted(n for n in names if not n.startswith("RC_1"))  # the node is an absolute symbol


def imported(library):
    return sorted(dynamic_symbols(library, "--undefined-only"))


def dynamic(library):
    text = run("readelf", "-d", "-W", library)
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", text)
    return needed, re.findall(r"\(SONAME\).*\[(.*)\]", text), text


def words(path):
    with open(path) as f:
        return [w for line in f for w in line.split("#")[0].split()]


def newest(versions):
    return max((tuple(map(int, v.split("."))) for v in versions), default=(0,))


def check(library, symbols, imports, path, compiler):
    wrong = []
    have, want = exported(library), words(symbols)
    wrong += ["not exported any more: " + s for s in want if s not in have]
    wrong += ["exported, but not in rc.symbols: " + s for s in have if s not in want]
    declared = {f.name for f in model.read(path, compiler).functions}
    bare = {s.split("@")[0] for s in have}
    wrong += ["declared, not exported: " + s for s in sorted(declared - bare)]
    wrong += ["exported, not declared: " + s for s in sorted(bare - declared)]

    rules = words(imports)
    libraries = {r[8:] for r in rules if r.startswith("library:")}
    refused = [re.compile(r[7:]) for r in rules if r.startswith("refuse:")]
    limits = dict(r[4:].split("=") for r in rules if r.startswith("max:"))
    needed, soname, text = dynamic(library)
    sanitized = any("__asan" in s or "__tsan" in s or "__ubsan" in s for s in imported(library))
    if soname != ["librcore.so.1"]:
        wrong.append("SONAME is %s" % soname)
    if "NODELETE" not in text:
        wrong.append("not linked with -z nodelete: a deleter after dlclose would crash")
    for name in [] if sanitized else needed:
        if not any(re.fullmatch(pattern, name) for pattern in libraries):
            wrong.append("links %s, which rc.imports does not allow" % name)
    found = imported(library)
    for symbol in [] if sanitized else found:
        name = symbol.split("@")[0]
        wrong += ["imports %s (rc.imports: %s)" % (symbol, r.pattern) for r in refused
                  if r.fullmatch(name)]
    for node, limit in limits.items():
        top = newest(re.findall(r"@%s_(\d[\d.]*)" % node, " ".join(found)))
        print("%-8s needs %s, the limit is %s" % (node, ".".join(map(str, top)), limit))
        if top > newest([limit]):
            wrong.append("%s_%s is newer than %s" % (node, ".".join(map(str, top)), limit))
    print("\n".join(wrong) or "%d exported symbols" % len(have))
    return 1 if wrong else 0


def main(argv):
    if argv[1] == "dump":
        print("# abi/rc.symbols: what librcore.so.1 exports; written by the target abi_update, "
              "checked by abi.symbols.")
        print("\n".join(exported(argv[2])))
        return 0
    return check(*argv[2:7])


if __name__ == "__main__":
    sys.exit(main(sys.argv))
