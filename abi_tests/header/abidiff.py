# abi_tests/header/abidiff.py: libabigail compares the header's ABI with older ones, and proves that
# it sees breaks.
"""usage: abidiff.py HEADER CC SUPPRESSIONS [FROZEN_HEADER...]   (exit 77: abidiff is not here)

Both sides are stub libraries compiled from the headers alone, with debug information and one anchor
function that takes a pointer to every public struct: what is reachable only through `next`, void*
or an integer is seen too. The compiler holds the real library to the same prototypes. abidiff's
exit bits: 4 = a change, 8 = an incompatible one."""
import os
import shutil
import subprocess
import sys
import tempfile

import model
import versions

# What abidiff alone can see; the golden table sees all of versions.BREAKS (header/layout_test.py).
SEEN_BY_ABIDIFF = ("break-insert", "break-renumber", "break-remove", "break-parameter",
                   "break-callback", "break-shrink", "break-type")
NOT_GROWTH = ("break-insert", "break-renumber", "break-remove", "break-shrink")


def stub_source(header):
    out = ['#include <rcore/rcore.h>', '#include <string.h>']
    anchor = "RC_EXPORT void rc_anchor_%s(%s* p);\nvoid rc_anchor_%s(%s* p) { (void)p; }"
    enum_anchor = "RC_EXPORT void rc_anchor_%s(%s p);\nvoid rc_anchor_%s(%s p) { (void)p; }"
    for f in header.functions:
        params = ", ".join(model.named(p.type, "p%d" % i) for i, p in enumerate(f.params)) or "void"
        body = "" if f.result == "void" else "%s r; memset(&r, 0, sizeof r); return r;" % f.result
        out.append("%s %s(%s) { %s }" % (f.result, f.name, params, body))
    for s in header.structs:
        out.append(anchor % ((s.name,) * 4))
    for e in header.enums:
        out.append(enum_anchor % ((e.name,) * 4))
    return "\n".join(out) + "\n"


def build(room, name, text, compiler):
    folder = os.path.join(room, name)
    os.makedirs(os.path.join(folder, "rcore"))
    path = os.path.join(folder, "rcore", "rcore.h")
    with open(path, "w") as f:
        f.write(text)
    source, library = os.path.join(folder, "stub.c"), os.path.join(folder, "librcore.so.1")
    with open(source, "w") as f:
        f.write(stub_source(model.read(path, compiler)))
    subprocess.run([compiler, "-std=c11", "-g", "-Og", "-fno-eliminate-unused-debug-types", "-fPIC",
                    "-shared", "-w", "-I" + folder, "-Wl,-soname,librcore.so.1", "-o", library,
                    source], check=True)
    sections = subprocess.run(["readelf", "-S", "-W", library], capture_output=True, text=True,
                              check=True)
    if ".debug_info" not in sections.stdout:  # abidiff 2.2 says 0 on stripped libraries
        raise SystemExit("no debug information in " + library)
    return library


def compare(old, new, suppressions=None):
    """With a suppression file: 0 for pure growth.

    It also hides a changed member type, so breaks go without.
    """
    allow = ["--suppressions", suppressions, "--no-added-syms"] if suppressions else []
    run = subprocess.run(["abidiff", *allow, "-t", old, new], capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


def main(argv):
    path, compiler, suppressions, frozen = argv[1], argv[2], argv[3], argv[4:]
    if shutil.which("abidiff") is None:
        print("skipped: no abidiff on this machine (Debian package abigail-tools)")
        return 77
    failures = 0
    with open(path) as f:
        text = f.read()
    with tempfile.TemporaryDirectory() as room:
        now = build(room, "now", text, compiler)

        def expect(what, code, report, good):
            nonlocal failures
            failures += not good
            print("%-34s abidiff %2d %s" % (
                what, code, "as expected" if good else "WRONG\n" + report))

        expect("the same header", *(r := compare(now, now)), r[0] == 0)
        grown = versions.newer(text, model.read(path, compiler))
        newer = build(room, "newer", grown, compiler)
        expect("a library that grew", *(r := compare(now, newer)), r[0] == 4)
        expect("a library that grew, allowed", *(r := compare(now, newer, suppressions)), r[0] == 0)
        for i, name in enumerate(frozen):
            with open(name) as f:
                old = build(room, "frozen%d" % i, f.read(), compiler)
            expect("since " + name, *(r := compare(old, now, suppressions)), r[0] == 0)
        for kind in SEEN_BY_ABIDIFF:
            broken = build(room, kind, versions.BREAKS[kind](text), compiler)
            expect(kind, *(r := compare(now, broken)), r[0] != 0)
            if kind in NOT_GROWTH:
                expect(kind + ", not allowed", *(r := compare(now, broken, suppressions)),
                       r[0] != 0)
    if not frozen:
        print("No release is frozen yet; the comparison with one starts with "
              "abi_tests/frozen/VERSION/rcore.h.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
