# abi_tests/lints.py: contract rules that no compiler checks: comments on every function, noexcept,
# a silent library.
"""lints.py header ROOT           every function documented, noexcept; no nonnull; at least half of
                               each public header is comment; rcore.hpp names every function and
                               shows the program that is tested
lints.py header_sees_breaks ROOT   shows that each rule for headers sees a header that breaks it
lints.py sources ROOT          nothing in src/ and kernels/ prints, exits, throws or reads the
                               environment
lints.py snippets ROOT CC CXX INCLUDE...   the C and C++ programs in README.md and examples
                                           compile"""
import os
import re
import subprocess
import sys
import tempfile

SILENT = re.compile(r"(?<![\w.>:])(?:std::|::)?(printf|vprintf|puts|putchar|perror|getenv|"
                    r"secure_getenv|setenv|exit|_exit|quick_exit|abort|terminate|system|popen)\s*\(|"
                    r"\b(stdout|stderr|std::cout|std::cerr|std::clog)\b|"
                    # Out of memory is the run-time's own exception.
                    r"\bthrow\b(?!;| std::bad_alloc\b)")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')


def read(path):
    with open(path) as f:
        return f.read()


def solid(text):
    return len(re.sub(r"[\s*/-]", "", text))


def comment_share(text):
    """Share of the comments in all characters but white space, markers and rules left out."""
    return solid(" ".join(COMMENT.findall(text))) / solid(text)


def line_share(text):
    """Share of the lines with nothing but a comment in all lines that are not blank."""
    marked = COMMENT.sub(lambda m: re.sub(r"[^\n]+", "\x01", m.group(0)), text)
    lines = [line.strip() for line in marked.splitlines()]
    return lines.count("\x01") / len([line for line in lines if line])


# (header, how its comments are measured, floor). rcore.h has a comment beside most fields, which
# only characters show.
SHARES = (("rcore.h", comment_share, 0.5), ("rcore.hpp", comment_share, 0.5),
          ("rcore.hpp", line_share, 0.5))


def thin_comments(name, text):
    found = []
    for header, measure, floor in SHARES:
        if header == name and measure(text) < floor:
            found.append("%s: %s is %.3f, less than %.2f" % (
                name, measure.__name__, measure(text), floor))
    return found


def quoted_example(header, test):
    """The text from `rcore.hpp begin` to `rcore.hpp end` in the test is a comment in rcore.hpp."""
    piece = re.search(r"^( *)// rcore\.hpp begin\n(.*?)^ *// rcore\.hpp end$", test, re.S | re.M)
    if not piece:
        return ["example_test.cc has nothing between rcore.hpp begin and rcore.hpp end"]
    lines = [line[len(piece.group(1)):] for line in piece.group(2).splitlines()]
    shown = "\n".join(("//     " + line).rstrip() if line else "//" for line in lines)
    return [] if "\n" + shown + "\n" in header else [
        "rcore.hpp shows another program than example_test.cc, which has\n" + shown]


def undocumented(text):
    """Functions without a comment above.

    One comment may serve a block of declarations without a blank line.
    """
    missing, covered = [], False
    marked = COMMENT.sub(lambda m: "\x01" + "\n\x01" * m.group(0).count("\n"), text)
    for line in marked.splitlines():
        if not line.strip():
            covered = False
        elif line.lstrip().startswith("\x01"):
            covered = True
        name = re.match(r"(?:RC_FN|RC_VOID_FN|RC_EXPORT)\b.*?\b(rc_\w+)\(", line)
        if name and not covered:
            missing.append(name.group(1))
    return missing


def header_breaks(text, wrapper, test):
    """What is wrong with rcore.h, with rcore.hpp, and with example_test.cc beside it."""
    code = COMMENT.sub("", text)
    wrong = ["rcore.h: %s has no comment" % name for name in undocumented(text)]
    for declaration in re.findall(r"^(?:RC_FN|RC_VOID_FN|RC_EXPORT)\b[^;{]*;", code, re.M):
        if not declaration.rstrip(";").rstrip().endswith("RC_NOEXCEPT"):
            wrong.append("rcore.h: not noexcept: " + " ".join(declaration.split()))
    if "nonnull" in code:
        wrong.append("rcore.h: nonnull lets the compiler delete the library's own NULL checks")
    if re.findall(r"#\s*include\s*([<\"].*)", code) != ["<stddef.h>", "<stdint.h>"]:
        wrong.append("rcore.h includes more than stddef.h and stdint.h")
    functions = re.findall(r"^(?:RC_FN|RC_VOID_FN|RC_EXPORT)\b[^;(]*?\b(rc_\w+)\(", code, re.M)
    wrong += ["rcore.hpp: no word of %s: wrap it, or say what takes its place" % name
              for name in functions if not re.search(r"\b%s\b" % name, wrapper)]
    wrong += thin_comments("rcore.h", text) + thin_comments("rcore.hpp", wrapper)
    return wrong + quoted_example(wrapper, test)


def public_headers(root):
    return [read(os.path.join(root, path)) for path in
            ("include/rcore/rcore.h", "include/rcore/rcore.hpp",
             "abi_tests/wrapper/example_test.cc")]


def lint_header(root):
    text, wrapper, test = public_headers(root)
    headers = {"rcore.h": text, "rcore.hpp": wrapper}
    for name, measure, _ in SHARES:
        print("%s: %s %.2f" % (name, measure.__name__, measure(headers[name])))
    return header_breaks(text, wrapper, test)


def lint_header_sees_breaks(root):
    """Each row: a header as it must not be, and a word of the complaint."""
    text, wrapper, test = public_headers(root)
    fields = "struct padding {\n" + "  unsigned undocumented_field;\n" * 2000 + "};\n"
    short = ("int f(); // a remark beside the code: "
             "enough characters to be half of the text, and no line of its own\n") * 2000
    rows = (
        ("rcore.h: comment_share", text + fields, wrapper, test),
        ("rcore.hpp: comment_share", text, wrapper + fields, test),
        ("rcore.hpp: line_share", text, wrapper + short, test),
        ("rc_bare has no comment", text + "\nRC_FN rc_bare(void) RC_NOEXCEPT;\n", wrapper, test),
        ("not noexcept", text + "\n/* May throw. */\nRC_FN rc_loose(void);\n", wrapper, test),
        ("nonnull", text + "\n__attribute__((nonnull))\n", wrapper, test),
        ("no word of rc_new", text + "\n/* Documented. */\nRC_FN rc_new(void) RC_NOEXCEPT;\n",
         wrapper, test),
        ("includes more", "#include <stdio.h>\n" + text, wrapper, test),
        ("another program", text, wrapper.replace("region.discard();", "region.end();"), test),
        ("another program", text, wrapper, test.replace("  region.release();\n", "")),
        ("has nothing between", text, wrapper, test.replace("// rcore.hpp end", "")))
    wrong = ["not seen: " + word for word, *mutant in rows
             if not any(word in found for found in header_breaks(*mutant))
             or mutant == [text, wrapper, test]]
    print("%d breaks tried" % len(rows))
    return wrong


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def lint_sources(root):
    wrong, seen = [], 0
    for top in ("src", "kernels"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if not name.endswith((".cc", ".h", ".cu", ".cuh", ".hpp")):
                    continue
                if re.search(r"_(test|bench|fuzz|tool)\.", name):
                    continue
                if os.sep + "testing" in folder:
                    continue
                seen += 1
                path = os.path.join(folder, name)
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
    readme = read(os.path.join(root, "README.md"))
    flags = ["-fsyntax-only", "-Wall", "-Wextra", "-Werror", *("-I" + i for i in includes)]
    with tempfile.TemporaryDirectory() as room:
        for language, code in re.findall(r"^```(c|cpp|c\+\+)\n(.*?)^```", readme, re.S | re.M):
            if "#include" not in code:
                continue  # a fragment
            seen += 1
            path = os.path.join(room, "snippet%d.%s" % (seen, "c" if language == "c" else "cc"))
            with open(path, "w") as f:
                f.write(code)
            command = [cc, "-std=c11"] if language == "c" else [cxx, "-std=c++17"]
            run = subprocess.run([*command, *flags, path], capture_output=True, text=True)
            if run.returncode:
                wrong.append("README.md, program %d:\n%s" % (seen, run.stderr))
    print("%d programs in README.md" % seen)
    if not seen:
        wrong.append("README.md shows no complete C or C++ program")
    return wrong


def main(argv):
    lint = {"header": lint_header, "header_sees_breaks": lint_header_sees_breaks,
            "sources": lint_sources, "snippets": lint_snippets}[argv[1]]
    wrong = lint(*argv[2:])
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
