# abi_tests/lints.py: contract rules that no compiler checks: comments on every function, noexcept, a silent library.
"""lints.py header ROOT           every function documented, noexcept; no nonnull; at least half of the text is contract
lints.py sources ROOT          nothing in src/ and kernels/ prints, exits, throws or reads the environment
lints.py snippets ROOT CC CXX INCLUDE...   the C and C++ programs in README.md and examples compile"""
import os
import re
import subprocess
import sys
import tempfile

SILENT = re.compile(r"(?<![\w.>:])(?:std::|::)?(printf|vprintf|puts|putchar|perror|getenv|secure_getenv|"
                    r"setenv|exit|_exit|quick_exit|abort|terminate|system|popen)\s*\(|"
                    r"\b(stdout|stderr|std::cout|std::cerr|std::clog)\b|"
                    r"\bthrow\b(?!;| std::bad_alloc\b)")  # out of memory is the run-time's own exception
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')


def read(path):
    with open(path) as f:
        return f.read()


def comment_share(text):
    """Share of the comments in all characters that are not white space, markers and rules left out."""
    solid = lambda s: len(re.sub(r"[\s*/-]", "", s))
    return solid(" ".join(COMMENT.findall(text))) / solid(text)


def undocumented(text):
    """Functions without a comment above; one comment may serve a block of declarations without a blank line."""
    missing, covered = [], False
    for line in COMMENT.sub(lambda m: "\x01" + "\n\x01" * m.group(0).count("\n"), text).splitlines():
        if not line.strip():
            covered = False
        elif line.lstrip().startswith("\x01"):
            covered = True
        name = re.match(r"(?:RC_FN|RC_VOID_FN|RC_EXPORT)\b.*?\b(rc_\w+)\(", line)
        if name and not covered:
            missing.append(name.group(1))
    return missing


def lint_header(root):
    wrong = []
    text = read(os.path.join(root, "include/rcore/rcore.h"))
    code = COMMENT.sub("", text)
    wrong += ["rcore.h: %s has no comment" % name for name in undocumented(text)]
    for declaration in re.findall(r"^(?:RC_FN|RC_VOID_FN|RC_EXPORT)\b[^;{]*;", code, re.M):
        if not declaration.rstrip(";").rstrip().endswith("RC_NOEXCEPT"):
            wrong.append("rcore.h: not noexcept: " + " ".join(declaration.split()))
    if "nonnull" in code:
        wrong.append("rcore.h: nonnull lets the compiler delete the library's own NULL checks")
    if re.findall(r"#\s*include\s*([<\"].*)", code) != ["<stddef.h>", "<stdint.h>"]:
        wrong.append("rcore.h includes more than stddef.h and stdint.h")
    for name in ("rcore.h", "rcore.hpp"):
        share, floor = comment_share(read(os.path.join(root, "include/rcore", name))), 0.5 if name == "rcore.h" else 0.25
        print("%s: %.0f %% of the text is contract" % (name, 100 * share))
        if share < floor:
            wrong.append("%s: less than %.0f %%" % (name, 100 * floor))
    return wrong


def lint_sources(root):
    wrong, seen = [], 0
    for top in ("src", "kernels"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if not name.endswith((".cc", ".h", ".cu", ".cuh", ".hpp")) or re.search(r"_(test|bench|fuzz|tool)\.", name):
                    continue
                if os.sep + "testing" in folder:
                    continue
                seen += 1
                path = os.path.join(folder, name)
                blank = lambda m: re.sub(r"[^\n]", " ", m.group(0))
                code = STRING.sub('""', COMMENT.sub(blank, read(path)))
                if re.search(r"\bint main\s*\(", code):
                    continue  # a program of its own, not part of the library
                for i, line in enumerate(code.splitlines(), 1):
                    hit = SILENT.search(line)
                    if hit:
                        wrong.append("%s:%d: %s" % (os.path.relpath(path, root), i, line.strip()))
    print("%d source files" % seen)
    if seen < 10:
        wrong.append("found only %d source files" % seen)
    return wrong


def lint_snippets(root, cc, cxx, *includes):
    wrong, seen = [], 0
    with tempfile.TemporaryDirectory() as room:
        for language, code in re.findall(r"^```(c|cpp|c\+\+)\n(.*?)^```", read(os.path.join(root, "README.md")), re.S | re.M):
            if "#include" not in code:
                continue  # a fragment
            seen += 1
            path = os.path.join(room, "snippet%d.%s" % (seen, "c" if language == "c" else "cc"))
            with open(path, "w") as f:
                f.write(code)
            command = [cc, "-std=c11"] if language == "c" else [cxx, "-std=c++17"]
            run = subprocess.run(command + ["-fsyntax-only", "-Wall", "-Wextra", "-Werror"] + ["-I" + i for i in includes] + [path],
                                 capture_output=True, text=True)
            if run.returncode:
                wrong.append("README.md, program %d:\n%s" % (seen, run.stderr))
    print("%d programs in README.md" % seen)
    if not seen:
        wrong.append("README.md shows no complete C or C++ program")
    return wrong


def main(argv):
    wrong = {"header": lint_header, "sources": lint_sources, "snippets": lint_snippets}[argv[1]](*argv[2:])
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
